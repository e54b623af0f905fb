//! What rules take of a node's kernel, and how much of it a namespace may have.
//!
//! A rule comes to a chain for each of its services: fifty rules of a thousand services each are fifty thousand chains, which take
//! the agent's memory and hold the kernel's lock. Nobody needs more than the right to write rules and services to ask for that.
use std::collections::{BTreeMap, BTreeSet};

use callgate_crds::conditions::Reason;
use callgate_proto::model::{Action, ObjectKey};

use super::{Candidate, Limits, issue};
use crate::resolve::{GoodRule, Issue, Leaf};
use crate::world::World;

/// A service's chain and what is in it, and the rule that leads there.
const ENTRIES_OF_SERVICE: usize = 6;

/// Whose room it is that a rule takes: a namespace's, or (`None`) of those who may select everywhere, who are trusted with the node.
type Owner<'a> = Option<&'a str>;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Room {
    Tags,
    Entries,
}

/// What a rule takes of each node that it is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Need {
    tags: usize,
    /// Without those that pods make of it.
    entries: usize,
}

/// What the rules of each namespace have come to.
#[derive(Debug)]
pub(super) struct Namespaces {
    most: usize,
    used: BTreeMap<String, usize>,
}

impl Namespaces {
    /// They have come to nothing yet.
    pub(super) fn of(limits: &Limits) -> Self {
        Self { most: limits.entries_of_namespace, used: BTreeMap::new() }
    }

    /// Takes one rule more, unless its namespace has no room for it. Asked in match order: what comes first, stays.
    pub(super) fn take(&mut self, world: &World, key: &ObjectKey, rule: &GoodRule) -> Result<(), Issue> {
        if owner(world, key).is_none() {
            return Ok(());
        }
        let (needed, most) = (entries(rule), self.most);
        let used = self.used.entry(key.namespace.clone()).or_default();
        if *used + needed > most {
            let message = format!(
                "it comes to {needed} entries of a node's table, and the rules before it leave {} of the {most} that \
                 namespace {} may have: name fewer services and networks, or delete rules",
                most - *used,
                key.namespace
            );
            return Err(issue(Reason::TooMany, "spec", message));
        }
        *used += needed;
        Ok(())
    }
}

impl Need {
    pub(super) fn of(rule: &GoodRule) -> Self {
        Self { tags: tags(rule), entries: entries(rule) }
    }
}

/// Candidates for which a node with these lists of rules has no room, each with what to say of it. Of each namespace the last in
/// match order are the first to go, and none goes because of another namespace as long as its own has no more than its share.
pub(super) fn refuse(
    limits: &Limits,
    world: &World,
    node: &str,
    candidates: &[Candidate],
    needs: &[Need],
    chains: &[Vec<u32>],
) -> BTreeMap<u32, Issue> {
    let mut lists: BTreeMap<u32, usize> = BTreeMap::new();
    for rule in chains.iter().flatten() {
        *lists.entry(*rule).or_default() += 1;
    }
    let mut refused = BTreeMap::new();
    for room in [Room::Tags, Room::Entries] {
        let mut wanted: Vec<(u32, Owner<'_>, usize)> = Vec::new();
        for (&index, lists) in lists.iter().filter(|(index, _)| !refused.contains_key(*index)) {
            let Some((candidate, need)) = candidates.get(index as usize).zip(needs.get(index as usize)) else {
                continue;
            };
            let needed = match room {
                Room::Tags => need.tags,
                Room::Entries => need.entries + lists,
            };
            wanted.push((index, owner(world, &candidate.key), needed));
        }
        let mut left = shares(room.of_node(limits), &wanted);
        for (index, owner, needed) in wanted {
            let Some(left) = left.get_mut(&owner) else { continue };
            match left.0.checked_sub(needed) {
                Some(rest) => left.0 = rest,
                None => drop(refused.insert(index, room.issue(node, owner, needed, *left))),
            }
        }
    }
    refused
}

/// Namespaces that are not the operator's share what that leaves: who wants less than the others have each gets it all. As what is
/// left, which is all at first, and all.
fn shares<'a>(room: usize, wanted: &[(u32, Owner<'a>, usize)]) -> BTreeMap<Owner<'a>, (usize, usize)> {
    let mut wants: BTreeMap<Owner<'a>, usize> = BTreeMap::new();
    for (_, owner, needed) in wanted {
        *wants.entry(*owner).or_default() += needed;
    }
    let mut by_size: BTreeSet<(bool, usize, Owner<'a>)> =
        wants.into_iter().map(|(owner, wants)| (owner.is_some(), wants, owner)).collect();
    let (mut free, mut shares) = (room, BTreeMap::new());
    while let Some((tenant, wants, owner)) = by_size.pop_first() {
        let most = if tenant { free / (by_size.len() + 1) } else { free };
        let share = wants.min(most);
        free -= share;
        shares.insert(owner, (share, share));
    }
    shares
}

impl Room {
    fn of_node(self, limits: &Limits) -> usize {
        match self {
            Self::Tags => limits.tags_of_node,
            Self::Entries => limits.entries_of_node,
        }
    }

    fn issue(self, node: &str, owner: Owner<'_>, needed: usize, (left, all): (usize, usize)) -> Issue {
        let of = owner.map(|namespace| format!(" of namespace {namespace}")).unwrap_or_default();
        let message = match self {
            Self::Tags => format!(
                "the rules before it leave {left} of the {all} numbers by which node {node} tells flows{of} apart, and it takes \
                 {needed}: join rules that differ only in source, destination or service"
            ),
            Self::Entries => format!(
                "it comes to {needed} entries of the table of node {node}, and the rules before it leave {left} of the {all} that \
                 rules{of} may have there: name fewer services and networks, or select pods of one node in fewer different ways"
            ),
        };
        issue(Reason::TooMany, "spec", message)
    }
}

fn owner<'a>(world: &World, key: &'a ObjectKey) -> Owner<'a> {
    let trusted = world.standalone || key.namespace == world.operator_namespace;
    (!trusted).then_some(key.namespace.as_str())
}

/// Entries of a table that a rule comes to, lists of rules in which it is left out.
fn entries(rule: &GoodRule) -> usize {
    let ports = |leaf: &Leaf| -> usize {
        leaf.matches.iter().map(|entry| entry.source_ports.len() + entry.destination_ports.len()).sum()
    };
    rule.destinations.len() + rule.services.iter().map(|leaf| ENTRIES_OF_SERVICE + ports(leaf)).sum::<usize>()
}

/// How many ways of treating a flow the rule has, as the agent counts them: none where the packet does not live on, and
/// where it does one for each of by the ALG, by the kernel, and by the kernel without ICMP errors.
fn tags(rule: &GoodRule) -> usize {
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
