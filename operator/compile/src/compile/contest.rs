//! Rules against each other: equal matches in one order conflict, wider earlier rules shadow narrower later ones.
use std::collections::{BTreeMap, BTreeSet};

use callgate_crds::conditions::Reason;
use callgate_proto::model::{Match, ObjectKey, PortRange};

use super::{Candidate, issue};
use crate::address::Ranges;
use crate::resolve::{GoodRule, GoodSource, Issue, Pods};

/// What a rule matches, ready to be compared with what others match.
struct Extent<'a> {
    key: &'a ObjectKey,
    order: u32,
    pods: Option<&'a Pods>,
    networks: Ranges,
    destinations: Ranges,
    matches: BTreeSet<&'a Match>,
}

/// Takes losers of conflicts out of `sorted` (which is in match order) and says who won; tells who is shadowed.
pub(crate) fn contest(sorted: &mut Vec<Candidate>) -> Vec<(ObjectKey, Issue)> {
    let mut issues = Vec::new();
    let mut winners: Vec<Extent<'_>> = Vec::new();
    let mut lost: BTreeSet<ObjectKey> = BTreeSet::new();
    // Whatever is equal in all of this matches the same packets in the same place.
    let mut places: BTreeMap<(u32, &GoodSource, Ranges, BTreeSet<&Match>), &ObjectKey> = BTreeMap::new();
    for candidate in sorted.iter() {
        let extent = extent(candidate);
        let place = (extent.order, &candidate.rule.source, extent.destinations.clone(), extent.matches.clone());
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
        if let Some(winner) = winners.iter().find(|winner| winner.covers(&extent)) {
            let message = format!(
                "IpRule {} (order {}) comes first and matches everything this rule could match: give this one a lower \
                 order, or narrow that one",
                winner.key, winner.order
            );
            issues.push((candidate.key.clone(), issue(Reason::Shadowed, "spec.order", message)));
        }
        winners.push(extent);
    }
    drop((places, winners));
    sorted.retain(|candidate| !lost.contains(&candidate.key));
    issues
}

/// Services of `rule` with an ALG that never decide, because services listed before them take all their packets past it.
/// As (index of the field, the service, the one before it).
pub(crate) fn passed_over(rule: &GoodRule) -> Option<(&ObjectKey, &ObjectKey)> {
    rule.services.iter().enumerate().filter(|(_, leaf)| leaf.alg.is_some()).find_map(|(at, leaf)| {
        let takes = |before: &&crate::resolve::Leaf| {
            before.alg != leaf.alg
                && leaf.matches.iter().all(|narrow| before.matches.iter().any(|wide| match_covers(wide, narrow)))
        };
        rule.services.iter().take(at).find(takes).map(|before| (&leaf.key, &before.key))
    })
}

fn extent(candidate: &Candidate) -> Extent<'_> {
    let rule = &candidate.rule;
    Extent {
        key: &candidate.key,
        order: rule.order,
        pods: rule.source.pods.as_ref(),
        networks: Ranges::of(&rule.source.cidrs),
        destinations: Ranges::of(&rule.destinations),
        matches: rule.services.iter().flat_map(|leaf| &leaf.matches).collect(),
    }
}

impl Extent<'_> {
    /// Whether whatever `other` matches is surely matched by this one. Cheap questions first: every pair is asked.
    fn covers(&self, other: &Extent<'_>) -> bool {
        let pods = match (self.pods, other.pods) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(wide), Some(narrow)) => wide.covers(narrow),
        };
        pods && other.networks.is_subset(&self.networks)
            && other.destinations.is_subset(&self.destinations)
            && other.matches.iter().all(|narrow| self.matches.iter().any(|wide| match_covers(wide, narrow)))
    }
}

fn match_covers(wide: &Match, narrow: &Match) -> bool {
    let ports = |wide: &[PortRange], narrow: &[PortRange]| {
        wide.is_empty()
            || (!narrow.is_empty()
                && narrow.iter().all(|n| wide.iter().any(|w| w.first <= n.first && n.last <= w.last)))
    };
    (wide.protocol.is_none() || wide.protocol == narrow.protocol)
        && ports(&wide.source_ports, &narrow.source_ports)
        && ports(&wide.destination_ports, &narrow.destination_ports)
}
