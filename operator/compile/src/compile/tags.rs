//! How many rules a node can tell apart: each takes a number in the connection mark for each way it treats flows.
use std::collections::{BTreeMap, BTreeSet};

use callgate_crds::conditions::Reason;
use callgate_proto::model::{Action, ObjectKey};

use super::select::Selecting;
use super::{Candidate, issue};
use crate::address::ListId;
use crate::resolve::{GoodRule, Issue};

/// Numbers a node has: 11 bits of the connection mark, without 0 (no rule) and 2047 (kept by the agent).
const MAX_TAGS: usize = 2046;

/// Candidates that would need more numbers than one of their nodes has, the last in match order first to go.
pub(crate) fn refuse<'a>(
    candidates: &[Candidate],
    selecting: &Selecting,
    nodes: impl Iterator<Item = &'a String>,
) -> (BTreeSet<u32>, Vec<(ObjectKey, Issue)>) {
    let wanted: Vec<usize> = candidates.iter().map(|candidate| tags_of(&candidate.rule)).collect();
    let mut refused = BTreeSet::new();
    if wanted.iter().sum::<usize>() <= MAX_TAGS {
        return (refused, Vec::new());
    }
    let mut issues = BTreeMap::new();
    for node in nodes {
        let lists: BTreeSet<ListId> = selecting.of(node).into_iter().map(|(_, list)| list).collect();
        let rules: BTreeSet<u32> = lists.iter().flat_map(|list| selecting.lists.get(*list)).copied().collect();
        let mut free = MAX_TAGS;
        for index in rules {
            let needed = wanted.get(index as usize).copied().unwrap_or(0);
            match free.checked_sub(needed) {
                Some(left) => free = left,
                None => {
                    let Some(candidate) = candidates.get(index as usize) else { continue };
                    refused.insert(index);
                    issues.entry(candidate.key.clone()).or_insert_with(|| {
                        let message = format!(
                            "the rules before it use all {MAX_TAGS} numbers by which node {node} tells flows apart: join \
                             rules that differ only in source, destination or service"
                        );
                        issue(Reason::TooMany, "spec", message)
                    });
                }
            }
        }
    }
    (refused, issues.into_iter().collect())
}

/// How many ways of treating a flow the rule has, as the agent counts them: none where the packet does not live on, and
/// where it does one for each of by the ALG, by the kernel, and by the kernel without ICMP errors.
fn tags_of(rule: &GoodRule) -> usize {
    match rule.action {
        Action::Drop => 0,
        Action::Reject => 1,
        Action::Allow => ways(rule, |_| false),
        Action::Nat => ways(rule, |alg| alg),
    }
}

fn ways(rule: &GoodRule, through_alg: impl Fn(bool) -> bool) -> usize {
    let ways = rule.services.iter().map(|leaf| match through_alg(leaf.alg.is_some()) {
        true => None,
        false => Some(leaf.forward_icmp_errors),
    });
    ways.collect::<BTreeSet<_>>().len()
}
