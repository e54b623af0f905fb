//! What rules take of a node's kernel, and how much of it a namespace may have.
//!
//! A rule comes to a chain for each of its services: fifty rules of a thousand services each are fifty thousand chains, which take
//! the agent's memory and hold the kernel's lock. Nobody needs more than the right to write rules and services to ask for that.
mod node;

use std::collections::{BTreeMap, BTreeSet};

use callgate_crds::conditions::Reason;
use callgate_proto::model::{Action, ObjectKey};

use super::{Candidate, Limits, issue};
use crate::resolve::{GoodRule, Issue, Leaf};
use crate::selector::Selector;
use crate::world::World;

pub(super) use node::refuse;

/// A service's chain and what is in it, and the rule that leads there.
const ENTRIES_OF_SERVICE: usize = 6;

/// What a rule takes of each node that it is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Need {
    /// It is of those who may select everywhere, who are trusted with the node.
    trusted: bool,
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
        if world.is_trusted(&key.namespace) {
            return Ok(());
        }
        let (needed, most) = (entries(rule) + values(rule), self.most);
        let used = self.used.entry(key.namespace.clone()).or_default();
        if *used + needed > most {
            let message = format!(
                "it comes to {needed} entries of a node's table and values of selectors, and the rules before it leave {} of the \
                 {most} that namespace {} may have: name fewer services, networks and values, or delete rules",
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
    pub(super) fn of(world: &World, Candidate { key, rule, .. }: &Candidate) -> Self {
        Self { trusted: world.is_trusted(&key.namespace), tags: tags(rule), entries: entries(rule) }
    }
}

/// Entries of a table that a rule comes to, lists of rules in which it is left out.
fn entries(rule: &GoodRule) -> usize {
    let ports = |leaf: &Leaf| -> usize {
        leaf.matches.iter().map(|entry| entry.source_ports.len() + entry.destination_ports.len()).sum()
    };
    rule.destinations.len() + rule.services.iter().map(|leaf| ENTRIES_OF_SERVICE + ports(leaf)).sum::<usize>()
}

/// Values of selectors: they are compared with the labels of pods, and with each other.
fn values(rule: &GoodRule) -> usize {
    let selectors = rule.source.pods.iter().flat_map(|pods| pods.scope.selector().into_iter().chain([&pods.labels]));
    selectors.map(Selector::size).sum()
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
