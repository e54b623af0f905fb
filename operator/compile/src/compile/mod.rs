//! The pure function: the world, and what ran before, to node configurations and statuses.
//!
//! ```text
//!   resolve (algs, services, rules) ─► keep last good ─► order ─► contest (conflicts, shadows) ─► node by node
//!                                                                            └─► statuses ◄────────────┘
//! ```
mod contest;
mod node;
mod statuses;

use std::collections::{BTreeMap, BTreeSet};

use callgate_crds::conditions::Reason;
use callgate_proto::model::{NodeConfig, ObjectKey};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::resolve::{self, GoodRule, Issue, Report};
use crate::status::{Finding, Statuses};
use crate::world::{STANDALONE_NODE, World};

/// Tags a node has for rules; see the agent's connection mark.
const MAX_TAGS: usize = 2046;

/// What compile makes of a world.
#[derive(Debug, Clone, PartialEq)]
pub struct Compiled {
    /// One configuration a node, by name.
    pub nodes: BTreeMap<String, NodeConfig>,
    /// Conditions of every object that did not come with the product.
    pub statuses: Statuses,
    /// What runs, for the next compile.
    pub last_good: LastGood,
}

/// The rules as they run, each with copies of what it names. Opaque; can be saved.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastGood {
    rules: Vec<(ObjectKey, GoodRule)>,
}

/// A rule that takes part, in match order.
#[derive(Debug, Clone)]
pub(crate) struct Candidate {
    pub(crate) key: ObjectKey,
    pub(crate) created: Option<Timestamp>,
    pub(crate) rule: GoodRule,
}

/// Compiles. `previous` is `last_good` of the compile before: a rule that names something that has gone, or that
/// became unusable itself, goes on as it ran.
pub fn compile(world: &World, previous: Option<&LastGood>) -> Compiled {
    let algs = resolve::algs(world);
    let services = resolve::services(world, &algs);
    let mut rules = resolve::rules(world, &algs, &services);
    let mut kept = BTreeSet::new();
    let mut candidates = Vec::new();
    for (key, (good, report)) in &mut rules {
        let created = world.rules.get(key).and_then(|object| object.meta.created);
        let before = previous.and_then(|previous| previous.rules.iter().find(|(known, _)| known == key));
        match (good.as_ref(), before) {
            (Some(rule), _) => candidates.push(Candidate { key: key.clone(), created, rule: rule.clone() }),
            (None, Some((_, rule))) => {
                kept.insert(key.clone());
                candidates.push(Candidate { key: key.clone(), created, rule: rule.clone() });
            }
            (None, None) => unresolved(report),
        }
    }
    candidates.sort_by(|a, b| (a.rule.order, a.created, &a.key).cmp(&(b.rule.order, b.created, &b.key)));
    for (key, issue) in contest::contest(&mut candidates) {
        if let Some((_, report)) = rules.get_mut(&key) {
            report.0.push(issue);
        }
    }
    let names = match world.standalone {
        true => BTreeSet::from([STANDALONE_NODE.to_owned()]),
        false => world.nodes.clone(),
    };
    let built: BTreeMap<String, node::Built> =
        names.into_iter().map(|name| (name.clone(), node::build(world, &name, &candidates))).collect();
    for candidate in &candidates {
        if let Some((_, report)) = rules.get_mut(&candidate.key) {
            node::notes(world, candidate, report);
        }
    }
    let statuses = statuses::statuses(world, &algs, &services, &rules, &candidates, &kept, &built);
    Compiled {
        nodes: built.into_iter().map(|(name, built)| (name, built.config)).collect(),
        statuses,
        last_good: LastGood {
            rules: candidates.into_iter().map(|candidate| (candidate.key, candidate.rule)).collect(),
        },
    }
}

/// A rule whose references fail, and that never ran, is not accepted either.
fn unresolved(report: &mut Report) {
    let only_refs = report.0.iter().all(|issue| {
        issue.reason.holds() || issue.reason.condition() == callgate_crds::conditions::ConditionType::ResolvedRefs
    });
    if only_refs {
        let first = report.0.iter().find(|issue| !issue.reason.holds()).map(|issue| issue.finding.clone());
        if let Some(Finding { field, message }) = first {
            report.add(Reason::UnresolvedRefs, field, message);
        }
    }
}

/// An issue of one field.
pub(crate) fn issue(reason: Reason, field: &str, message: String) -> Issue {
    Issue { reason, finding: Finding { field: field.to_owned(), message } }
}
