//! Rules against each other: equal matches in one order conflict, wider earlier rules shadow narrower later ones.
use std::collections::BTreeSet;

use callgate_crds::conditions::Reason;
use callgate_proto::model::{Match, ObjectKey, PortRange};

use super::{Candidate, MAX_TAGS, issue};
use crate::address::Ranges;
use crate::resolve::{GoodRule, GoodSource, Issue, PodScope, Pods};

/// Takes losers of conflicts out of `sorted` (which is in match order) and says who won; tells who is shadowed.
pub(crate) fn contest(sorted: &mut Vec<Candidate>) -> Vec<(ObjectKey, Issue)> {
    let mut issues = Vec::new();
    let mut winners: Vec<Candidate> = Vec::new();
    let mut tags = 0;
    for candidate in sorted.drain(..) {
        let equal = winners
            .iter()
            .rev()
            .find(|winner| winner.rule.order == candidate.rule.order && same_match(&winner.rule, &candidate.rule));
        if let Some(winner) = equal {
            let message = format!(
                "IpRule {} has the same order {} and matches exactly the same, and won: give them different orders, or \
                 delete one",
                winner.key, candidate.rule.order
            );
            issues.push((candidate.key, issue(Reason::Conflicted, "spec.order", message)));
            continue;
        }
        let wanted = tags_of(&candidate.rule);
        if tags + wanted > MAX_TAGS {
            let message = format!(
                "the rules before it use all {MAX_TAGS} numbers by which a node tells flows apart: join rules that differ \
                 only in source, destination or service"
            );
            issues.push((candidate.key, issue(Reason::TooMany, "spec", message)));
            continue;
        }
        tags += wanted;
        if let Some(winner) = winners.iter().find(|winner| covers(&winner.rule, &candidate.rule)) {
            let message = format!(
                "IpRule {} (order {}) comes first and matches everything this rule could match: give this one a lower \
                 order, or narrow that one",
                winner.key, winner.rule.order
            );
            issues.push((candidate.key.clone(), issue(Reason::Shadowed, "spec.order", message)));
        }
        winners.push(candidate);
    }
    *sorted = winners;
    issues
}

/// How many ways of treating a flow the rule needs: through the ALG, with and without ICMP errors.
fn tags_of(rule: &GoodRule) -> usize {
    let ways = rule.services.iter().map(|leaf| (leaf.alg.is_some(), leaf.forward_icmp_errors));
    ways.collect::<BTreeSet<_>>().len()
}

fn same_match(a: &GoodRule, b: &GoodRule) -> bool {
    let matches = |rule: &GoodRule| -> BTreeSet<Match> {
        rule.services.iter().flat_map(|leaf| leaf.matches.iter().cloned()).collect()
    };
    a.source == b.source && a.destinations == b.destinations && matches(a) == matches(b)
}

/// Whether whatever `b` matches is surely matched by `a`.
fn covers(a: &GoodRule, b: &GoodRule) -> bool {
    source_covers(&a.source, &b.source)
        && Ranges::of(&b.destinations).is_subset(&Ranges::of(&a.destinations))
        && b.services
            .iter()
            .flat_map(|leaf| &leaf.matches)
            .all(|narrow| a.services.iter().flat_map(|leaf| &leaf.matches).any(|wide| match_covers(wide, narrow)))
}

fn source_covers(a: &GoodSource, b: &GoodSource) -> bool {
    let cidrs = b.cidrs.is_empty() || Ranges::of(&b.cidrs).is_subset(&Ranges::of(&a.cidrs));
    let pods = match (&a.pods, &b.pods) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(wide), Some(narrow)) => pods_cover(wide, narrow),
    };
    cidrs && pods
}

fn pods_cover(wide: &Pods, narrow: &Pods) -> bool {
    let scope = match (&wide.scope, &narrow.scope) {
        (PodScope::Own(a), PodScope::Own(b)) => a == b,
        (PodScope::Labelled(a), PodScope::Labelled(b)) => a.covers(b),
        (PodScope::Own(_), PodScope::Labelled(_)) | (PodScope::Labelled(_), PodScope::Own(_)) => false,
    };
    scope && wide.labels.covers(&narrow.labels)
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
