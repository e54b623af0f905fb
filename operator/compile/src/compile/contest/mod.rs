//! Rules against each other: equal matches in one order conflict, wider earlier rules shadow narrower later ones.
//!
//! ```text
//!   candidates ─► extents ─► the same order and extent as one before? ─► Conflicted, out
//!                    │                        └─► winners, by scope and label: does one before cover it? ─► Shadowed, a note
//!                    └── pods, matches: equal ones have one number, and are not compared
//! ```
//! Comparing each with each takes the square of them, and a selector may have a thousand values: for the rules of one namespace no
//! more is compared than so much. What is told then is a note less, and nothing else depends on it.
mod matches;
#[cfg(test)]
mod tests;
mod winners;

use std::collections::{BTreeMap, BTreeSet};

use callgate_crds::conditions::Reason;
use callgate_proto::model::ObjectKey;

use super::{Candidate, Shadow, issue};
use crate::address::Ranges;
use crate::resolve::{GoodRule, Issue, Pods};
use crate::steps::Steps;
use matches::{MatchSets, SetId, match_covers};
use winners::Winners;

/// What a rule matches, ready to be compared with what others match.
struct Extent<'a> {
    key: &'a ObjectKey,
    order: u32,
    /// With their number, which equal ones have in common.
    pods: Option<(usize, &'a Pods)>,
    networks: Ranges,
    destinations: Ranges,
    matches: SetId,
}

/// Order, matches, pods by number, networks, destinations: whoever has all of it in common matches the same packets.
type Place = (u32, SetId, Option<usize>, Ranges, Ranges);

/// Takes losers of conflicts out of `sorted` (which is in match order) and says who won; notes of the others who is shadowed, as far
/// as that is found in so many steps for each namespace.
pub(crate) fn contest(sorted: &mut Vec<Candidate>, most: usize) -> Vec<(ObjectKey, Issue)> {
    let (mut issues, mut shadows) = (Vec::new(), Vec::new());
    let mut sets = MatchSets::default();
    let mut numbers: BTreeMap<&Pods, usize> = BTreeMap::new();
    let mut winners = Winners::default();
    let mut steps: BTreeMap<&str, Steps> = BTreeMap::new();
    let mut lost: BTreeSet<ObjectKey> = BTreeSet::new();
    let mut places: BTreeMap<Place, &ObjectKey> = BTreeMap::new();
    for candidate in sorted.iter() {
        let extent = extent(candidate, &mut numbers, &mut sets);
        let pods = extent.pods.map(|(number, _)| number);
        let place = (extent.order, extent.matches, pods, extent.networks.clone(), extent.destinations.clone());
        if let Some(winner) = places.get(&place) {
            let message = format!(
                "IpRule {winner} has the same order {} and matches exactly the same, and won: give them different \
                 orders, or delete one",
                extent.order
            );
            issues.push((candidate.key.clone(), issue(Reason::Conflicted, "spec.order", message)));
            lost.insert(candidate.key.clone());
            continue;
        }
        places.insert(place, &candidate.key);
        let steps = steps.entry(&candidate.key.namespace).or_insert_with(|| Steps::of(most));
        if let Some((by, winner)) = winners.first_that_covers(&extent, &sets, steps) {
            let message = format!(
                "IpRule {} (order {}) comes first and matches everything this rule could match: give this one a lower \
                 order, or narrow that one",
                winner.key, winner.order
            );
            // Winners are all that is left in the end.
            shadows.push((winners.len(), Shadow { by, note: issue(Reason::Shadowed, "spec.order", message) }));
        }
        winners.add(extent);
    }
    drop((places, winners));
    sorted.retain(|candidate| !lost.contains(&candidate.key));
    for (place, shadow) in shadows {
        if let Some(candidate) = sorted.get_mut(place) {
            candidate.shadow = Some(shadow);
        }
    }
    issues
}

/// That a service of `rule` with an ALG never decides, because one listed before it takes all its packets past it.
pub(crate) fn passed_over(rule: &GoodRule) -> Option<Issue> {
    rule.services.iter().enumerate().filter(|(_, leaf)| leaf.alg.is_some()).find_map(|(at, leaf)| {
        let before = rule.services.iter().take(at).find(|before| {
            before.alg != leaf.alg
                && leaf.matches.iter().all(|narrow| before.matches.iter().any(|wide| match_covers(wide, narrow)))
        })?;
        let (service, before) = (&leaf.key, &before.key);
        let message = format!(
            "Service {before} comes before {service} and takes all its packets past its ALG: list {service} first"
        );
        Some(issue(Reason::Accepted, "spec.services", message))
    })
}

fn extent<'a>(
    candidate: &'a Candidate,
    numbers: &mut BTreeMap<&'a Pods, usize>,
    sets: &mut MatchSets<'a>,
) -> Extent<'a> {
    let next = numbers.len();
    let rule = &candidate.rule;
    Extent {
        key: &candidate.key,
        order: rule.order,
        pods: rule.source.pods.as_ref().map(|pods| (*numbers.entry(pods).or_insert(next), pods)),
        networks: Ranges::of(&rule.source.cidrs),
        destinations: Ranges::of(&rule.destinations),
        matches: sets.id(rule.services.iter().flat_map(|leaf| &leaf.matches)),
    }
}

impl<'a> Extent<'a> {
    /// Whether whatever `other` matches is surely matched by this one. Cheap questions first: every pair may be asked.
    fn covers(&self, other: &Self, sets: &MatchSets<'a>, steps: &mut Steps) -> bool {
        steps.take(1);
        let pods = match (self.pods, other.pods) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some((wide, of_wide)), Some((narrow, of_narrow))) => wide == narrow || of_wide.covers(of_narrow, steps),
        };
        pods && other.networks.is_subset_in(&self.networks, steps)
            && other.destinations.is_subset_in(&self.destinations, steps)
            && sets.covers(self.matches, other.matches, steps)
    }
}
