//! The pure function: the world, and what ran before, to node configurations and statuses.
//!
//! ```text
//!   resolve (algs, services, rules) ─► keep last good ─► order ─► contest (conflicts, shadows) ─► select (sources)
//!                                                                                                      │
//!                                   Compiled ◄── statuses ◄── notes ◄── node by node ◄── tags ◄────────┘
//! ```
mod contest;
mod keep;
mod node;
mod notes;
mod select;
mod statuses;
mod tags;

use std::collections::{BTreeMap, BTreeSet};

use callgate_crds::conditions::{ConditionType, Reason};
use callgate_proto::model::{NodeConfig, ObjectKey};
use jiff::Timestamp;

pub use keep::LastGood;

use crate::address::Ranges;
use crate::resolve::{self, Algs, GoodRule, Issue, Report, Rules, Services};
use crate::status::{Finding, Statuses};
use crate::world::{STANDALONE_NODE, World};

/// What compile makes of a world.
#[derive(Debug, Clone, PartialEq)]
pub struct Compiled {
    /// One configuration a node, by name. A rule is in it if it selects something on that node.
    pub nodes: BTreeMap<String, NodeConfig>,
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
    pub(crate) rule: GoodRule,
}

/// Compiles. `previous` is `last_good` of the compile before: a rule that names something that has gone, or that
/// became unusable itself, goes on as it ran; its pods are looked up anew.
pub fn compile(world: &World, previous: Option<&LastGood>) -> Compiled {
    let algs = resolve::algs(world);
    let services = resolve::services(world, &algs);
    let mut rules = resolve::rules(world, &algs, &services);
    let (mut candidates, kept) = candidates(world, &algs, &services, &mut rules, previous);
    let mut issues = contest::contest(&mut candidates);
    let mut selection = select::select(world, &candidates);
    let names = match world.standalone {
        true => BTreeSet::from([STANDALONE_NODE.to_owned()]),
        false => world.nodes.clone(),
    };
    let (refused, too_many) = tags::refuse(&candidates, &selection, names.iter());
    issues.extend(too_many);
    let cluster_nets = Ranges::of(&world.cluster_nets).blocks();
    let nodes: BTreeMap<String, NodeConfig> = names
        .into_iter()
        .map(|name| {
            let config = node::build(&name, &cluster_nets, &candidates, &mut selection, &refused);
            (name, config)
        })
        .collect();
    let clients: BTreeMap<&ObjectKey, u32> =
        candidates.iter().zip(&selection.counts).map(|(candidate, counts)| (&candidate.key, counts.clients)).collect();
    for (candidate, counts) in candidates.iter().zip(&selection.counts) {
        let notes = notes::notes(&candidate.rule, *counts);
        issues.extend(notes.into_iter().map(|note| (candidate.key.clone(), note)));
    }
    for (key, issue) in issues {
        if let Some((_, report)) = rules.get_mut(&key) {
            report.0.push(issue);
        }
    }
    let statuses = statuses::statuses(world, (&algs, &services, &rules), &clients, &kept, &nodes);
    let stay = (0u32..).zip(candidates).filter(|(index, _)| !refused.contains(index)).map(|(_, candidate)| candidate);
    Compiled { nodes, statuses, last_good: LastGood::of(stay.collect()) }
}

/// Every rule that can run, in match order, and the names of those that run as they did before only.
fn candidates(
    world: &World,
    algs: &Algs,
    services: &Services,
    rules: &mut Rules,
    previous: Option<&LastGood>,
) -> (Vec<Candidate>, BTreeSet<ObjectKey>) {
    let previous = previous.map(LastGood::by_key).unwrap_or_default();
    let mut kept = BTreeSet::new();
    let mut candidates = Vec::new();
    for (key, (good, report)) in rules {
        let created = world.rules.get(key).and_then(|object| object.meta.created);
        let rule = match (good.as_ref(), previous.get(key)) {
            (Some(rule), _) => rule.clone(),
            (None, Some(before)) => {
                kept.insert(key.clone());
                keep::refreshed(before, algs, services)
            }
            (None, None) => {
                unresolved(report);
                continue;
            }
        };
        candidates.push(Candidate { key: key.clone(), created, rule });
    }
    candidates.sort_by(|a, b| (a.rule.order, a.created, &a.key).cmp(&(b.rule.order, b.created, &b.key)));
    (candidates, kept)
}

/// A rule whose references fail, and that never ran, is not accepted either.
fn unresolved(report: &mut Report) {
    if report.of(ConditionType::Accepted, false).next().is_none() {
        let first = report.of(ConditionType::ResolvedRefs, false).next().map(|issue| issue.finding.clone());
        if let Some(Finding { field, message }) = first {
            report.add(Reason::UnresolvedRefs, field, message);
        }
    }
}

/// An issue of one field.
fn issue(reason: Reason, field: &str, message: String) -> Issue {
    Issue { reason, finding: Finding { field: field.to_owned(), message } }
}
