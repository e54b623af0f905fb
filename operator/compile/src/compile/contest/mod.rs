//! Rules against each other: equal matches in one order conflict, wider earlier rules shadow narrower later ones.
//!
//! ```text
//!   candidates ─► extents ─► the same order and extent as one before? ─► Conflicted, out
//!                    │                        └─► winners, by scope and label: does one before cover it? ─► Shadowed, a note
//!                    └── matches: equal sets have one number, and two sets are compared once
//! ```
mod matches;
#[cfg(test)]
mod tests;
mod winners;

use std::collections::{BTreeMap, BTreeSet};

use callgate_crds::conditions::Reason;
use callgate_proto::model::ObjectKey;

use super::{Candidate, issue};
use crate::address::Ranges;
use crate::resolve::{GoodRule, GoodSource, Issue, Pods};
use matches::{MatchSets, SetId, match_covers};
use winners::Winners;

/// What a rule matches, ready to be compared with what others match.
struct Extent<'a> {
    key: &'a ObjectKey,
    order: u32,
    pods: Option<&'a Pods>,
    networks: Ranges,
    destinations: Ranges,
    matches: SetId,
}

/// Takes losers of conflicts out of `sorted` (which is in match order) and says who won; tells who is shadowed.
pub(crate) fn contest(sorted: &mut Vec<Candidate>) -> Vec<(ObjectKey, Issue)> {
    let mut issues = Vec::new();
    let mut sets = MatchSets::default();
    let mut winners = Winners::default();
    let mut lost: BTreeSet<ObjectKey> = BTreeSet::new();
    // Whatever is equal in all of this matches the same packets in the same place.
    let mut places: BTreeMap<(u32, SetId, &GoodSource, Ranges), &ObjectKey> = BTreeMap::new();
    for candidate in sorted.iter() {
        let extent = extent(candidate, &mut sets);
        let place = (extent.order, extent.matches, &candidate.rule.source, extent.destinations.clone());
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
        if let Some(winner) = winners.first_that_covers(&extent, &mut sets) {
            let message = format!(
                "IpRule {} (order {}) comes first and matches everything this rule could match: give this one a lower \
                 order, or narrow that one",
                winner.key, winner.order
            );
            issues.push((candidate.key.clone(), issue(Reason::Shadowed, "spec.order", message)));
        }
        winners.add(extent);
    }
    drop((places, winners, sets));
    sorted.retain(|candidate| !lost.contains(&candidate.key));
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

fn extent<'a>(candidate: &'a Candidate, sets: &mut MatchSets<'a>) -> Extent<'a> {
    let rule = &candidate.rule;
    Extent {
        key: &candidate.key,
        order: rule.order,
        pods: rule.source.pods.as_ref(),
        networks: Ranges::of(&rule.source.cidrs),
        destinations: Ranges::of(&rule.destinations),
        matches: sets.id(rule.services.iter().flat_map(|leaf| &leaf.matches)),
    }
}

impl<'a> Extent<'a> {
    /// Whether whatever `other` matches is surely matched by this one. Cheap questions first: every pair may be asked.
    fn covers(&self, other: &Self, sets: &mut MatchSets<'a>) -> bool {
        let pods = match (self.pods, other.pods) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(wide), Some(narrow)) => wide.covers(narrow),
        };
        pods && other.networks.is_subset(&self.networks)
            && other.destinations.is_subset(&self.destinations)
            && sets.covers(self.matches, other.matches)
    }
}
