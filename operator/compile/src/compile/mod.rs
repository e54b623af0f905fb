//! The pure function: the world, and what ran before, to node configurations and statuses.
//!
//! ```text
//!   resolve (algs, services, rules) ─► keep last good ─► room ─► order ─► contest (conflicts, shadows)     kept until an object changes
//!                                                                             │
//!                      select (sources): a pod is looked at again when it changes, or its namespace's labels
//!                                                                             │
//!   Compiled ◄── statuses ◄── notes ◄── node by node ◄── room ◄───────────────┘    a node is kept until its sources change
//! ```
mod carriers;
mod contest;
mod keep;
mod limits;
mod node;
mod notes;
mod resolved;
mod room;
mod select;
mod statuses;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use callgate_crds::conditions::Reason;
use callgate_proto::model::{NodeConfig, ObjectKey};
use jiff::Timestamp;

pub use keep::LastGood;
pub use limits::Limits;

use crate::address::{Partition, partition};
use crate::resolve::{GoodRule, Issue};
use crate::status::{Finding, Statuses};
use crate::world::{STANDALONE_NODE, World};
use node::{Built, Selected};
use resolved::Resolved;
use room::Need;
use select::Selecting;

/// What compile makes of a world.
#[derive(Debug, Clone, PartialEq)]
pub struct Compiled {
    /// One configuration a node, by name. A rule is in it if it selects something on that node.
    pub nodes: BTreeMap<String, Arc<NodeConfig>>,
    /// Conditions of every object that did not come with the product.
    pub statuses: Statuses,
    /// What runs, for the next compile.
    pub last_good: LastGood,
}

/// A rule that takes part, in match order.
#[derive(Debug, Clone)]
pub(crate) struct Candidate {
    pub(crate) key: ObjectKey,
    pub(crate) created: Option<Timestamp>,
    pub(crate) rule: Arc<GoodRule>,
    /// What is to be said of its services.
    pub(crate) note: Option<Issue>,
    pub(crate) shadow: Option<Shadow>,
}

/// That a rule never decides.
#[derive(Debug, Clone)]
pub(crate) struct Shadow {
    /// The candidate that comes first and matches all that this one could.
    pub(crate) by: u32,
    pub(crate) note: Issue,
}

/// Compiles. `previous` is `last_good` of the compile before: a rule that names something that has gone, or that
/// became unusable itself, goes on as it ran; its pods are looked up anew.
pub fn compile(world: &World, previous: Option<&LastGood>) -> Compiled {
    Compiler::new(previous.cloned()).compile(world)
}

/// By what a world may differ from the one that was compiled before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Since {
    /// By anything.
    Everything,
    /// By pods of these names alone: some may be the same, and others are the very same ones.
    Pods(BTreeSet<ObjectKey>),
}

/// Compiles one world after the other and does anew only what is different: with the same result as [`compile`] has for
/// the same world and the same `last_good` of before.
#[derive(Debug, Default)]
pub struct Compiler {
    limits: Limits,
    previous: Option<LastGood>,
    memory: Option<Memory>,
}

/// What is kept from one compile to the next. All of it is about the same rules.
#[derive(Debug)]
struct Memory {
    resolved: Resolved,
    selecting: Selecting,
    /// What each candidate takes of a node.
    needs: Vec<Need>,
    /// Candidates for which a node has no room, by node.
    over: BTreeMap<String, BTreeMap<u32, Issue>>,
    /// All of them: they are carried out nowhere.
    refused: BTreeSet<u32>,
    nodes: BTreeMap<String, Built>,
    last_good: LastGood,
    sets: carriers::Sets,
}

impl Compiler {
    /// After a compile of which `previous` is `last_good`.
    pub fn new(previous: Option<LastGood>) -> Self {
        Self::limited(Limits::default(), previous)
    }

    /// The same, with limits of its own.
    pub fn limited(limits: Limits, previous: Option<LastGood>) -> Self {
        Self { limits, previous, memory: None }
    }

    /// Compiles a world, whatever it is.
    pub fn compile(&mut self, world: &World) -> Compiled {
        self.compile_since(world, &Since::Everything)
    }

    /// Compiles a world that differs from the one before by no more than `since`.
    pub fn compile_since(&mut self, world: &World, since: &Since) -> Compiled {
        let previous = self.previous.take();
        let kept = self.memory.take().filter(|memory| match since {
            Since::Everything => memory.resolved.is_of(world, previous.as_ref()),
            Since::Pods(_) => memory.resolved.is_after(previous.as_ref()),
        });
        let mut memory =
            kept.unwrap_or_else(|| Memory::new(Resolved::of(&self.limits, world, previous.as_ref()), world));
        let compiled = memory.compile(&self.limits, world, since);
        self.previous = Some(compiled.last_good.clone());
        self.memory = Some(memory);
        compiled
    }
}

impl Memory {
    fn new(resolved: Resolved, world: &World) -> Self {
        Self {
            selecting: Selecting::new(&resolved.candidates, world),
            last_good: LastGood::of(resolved.candidates.iter()),
            needs: resolved.candidates.iter().map(|candidate| Need::of(world, candidate)).collect(),
            resolved,
            over: BTreeMap::new(),
            refused: BTreeSet::new(),
            nodes: BTreeMap::new(),
            sets: carriers::Sets::default(),
        }
    }

    fn compile(&mut self, limits: &Limits, world: &World, since: &Since) -> Compiled {
        let candidates = &self.resolved.candidates;
        if self.selecting.is_overgrown(limits.spare_in_lists) {
            self.selecting = Selecting::new(candidates, world);
            self.nodes.clear();
        }
        self.selecting.select(world, since);
        let standalone = BTreeSet::from([STANDALONE_NODE.to_owned()]);
        let names = if world.standalone { &standalone } else { &world.nodes };
        self.nodes.retain(|name, _| names.contains(name));
        self.over.retain(|name, _| names.contains(name));
        let stale = self.selecting.take_stale();
        let mut fresh: BTreeMap<&String, (Selected, Partition)> = BTreeMap::new();
        for name in names {
            let built = self.nodes.get(name);
            if built.is_some() && !stale.contains(name) {
                continue;
            }
            let selected = self.selecting.of(name);
            if built.is_none_or(|built| built.selected != selected) {
                let whole = partition(&mut self.selecting.lists, selected.clone());
                let over = room::refuse(limits, name, candidates, &self.needs, &whole.chains);
                match over.is_empty() {
                    true => drop(self.over.remove(name)),
                    false => drop(self.over.insert(name.clone(), over)),
                }
                fresh.insert(name, (selected, whole));
            }
        }
        let refused: BTreeSet<u32> = self.over.values().flat_map(BTreeMap::keys).copied().collect();
        if refused != self.refused {
            let stay = (0u32..).zip(candidates).filter(|(index, _)| !refused.contains(index));
            self.last_good = LastGood::of(stay.map(|(_, candidate)| candidate));
            self.refused = refused;
            for name in names {
                if fresh.contains_key(name) {
                    continue;
                }
                let selected = self.selecting.of(name);
                let whole = partition(&mut self.selecting.lists, selected.clone());
                fresh.insert(name, (selected, whole));
            }
        }
        for (name, (selected, whole)) in fresh {
            let (nets, lists) = (&self.resolved.cluster_nets, &mut self.selecting.lists);
            let left = match self.refused.is_empty() {
                true => whole,
                false => {
                    let left = node::without(lists, &selected, &self.refused);
                    partition(lists, left)
                }
            };
            self.nodes.insert(name.clone(), node::build(name, nets, candidates, selected, left));
        }
        self.selecting.compiled();
        let mut issues: BTreeMap<ObjectKey, Vec<Issue>> = BTreeMap::new();
        for (index, issue) in self.over.values().flatten() {
            let Some(candidate) = candidates.get(*index as usize) else { continue };
            // The first node by name stands for all.
            issues.entry(candidate.key.clone()).or_insert_with(|| vec![issue.clone()]);
        }
        let counts = self.selecting.counts();
        for (candidate, counts) in candidates.iter().zip(&counts) {
            let notes = notes::notes(world, candidate, *counts, &self.refused);
            if !notes.is_empty() {
                issues.entry(candidate.key.clone()).or_default().extend(notes);
            }
        }
        let statuses = statuses::statuses(world, &self.resolved, &counts, &issues, &self.nodes, &mut self.sets);
        let nodes = self.nodes.iter().map(|(name, built)| (name.clone(), Arc::clone(&built.config)));
        Compiled { nodes: nodes.collect(), statuses, last_good: self.last_good.clone() }
    }
}

/// An issue of one field.
fn issue(reason: Reason, field: &str, message: String) -> Issue {
    Issue { reason, finding: Finding { field: field.to_owned(), message } }
}
