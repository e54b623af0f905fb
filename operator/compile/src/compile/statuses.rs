//! Conditions of every object, made of what was found on the way.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use callgate_crds::Kind;
use callgate_crds::conditions::{ConditionType, Reason};
use callgate_proto::model::ObjectKey;

use super::node::Built;
use super::resolved::Resolved;
use super::select::Counts;
use crate::resolve::{Issue, Report};
use crate::status::{Condition, Finding, ObjectRef, Status, Statuses};
use crate::world::{Meta, World};

/// Added where something is wrong now and what was right before runs.
const KEPT: &str = "What ran before goes on running.";

/// One object on its way to a status.
struct One<'a> {
    meta: &'a Meta,
    report: &'a Report,
    /// It names other objects.
    refs: bool,
    /// It is not good, and an older version of it runs.
    kept: bool,
    nodes: Arc<BTreeSet<String>>,
    clients: u32,
}

/// Nodes that carry each object, in their order.
struct Carriers<'a> {
    algs: BTreeMap<&'a ObjectKey, Vec<&'a String>>,
    services: BTreeMap<&'a ObjectKey, Vec<&'a String>>,
    rules: BTreeMap<&'a ObjectKey, Vec<&'a String>>,
}

/// Sets of nodes of all objects in their order, shared from one compile of the same objects to the next: most stay as they are.
pub(super) type Sets = Vec<Arc<BTreeSet<String>>>;

/// Everything compile says about objects. `counts` is how much each running rule selects, `issues` what there is to say of
/// rules beside their reports.
pub(super) fn statuses(
    world: &World,
    resolved: &Resolved,
    counts: &[Counts],
    issues: &BTreeMap<ObjectKey, Vec<Issue>>,
    nodes: &BTreeMap<String, Built>,
    sets: &mut Sets,
) -> Statuses {
    let Resolved { algs, services, rules, candidates, .. } = resolved;
    let carriers = Carriers::of(resolved, nodes);
    let mut place = 0;
    let mut shared = |nodes: Vec<&String>| {
        let old = sets.get(place).filter(|old| old.iter().eq(nodes.iter().copied()));
        let set = old.cloned().unwrap_or_else(|| Arc::new(nodes.into_iter().cloned().collect()));
        match sets.get_mut(place) {
            Some(old) => old.clone_from(&set),
            None => sets.push(Arc::clone(&set)),
        }
        place += 1;
        set
    };
    let clients: BTreeMap<&ObjectKey, u32> =
        candidates.iter().zip(counts).map(|(candidate, counts)| (&candidate.key, counts.clients)).collect();
    let mut statuses = Statuses::new();
    let mut say = |kind: Kind, key: &ObjectKey, one: One<'_>| {
        if !one.meta.predefined {
            statuses.insert(ObjectRef { kind, key: key.clone() }, one.status());
        }
    };
    for ((key, object), (_, report)) in world.algs.iter().zip(algs.values()) {
        let nodes = shared(on(&carriers.algs, key));
        let kept = !report.is_good() && !nodes.is_empty();
        say(Kind::PptpAlg, key, One { meta: &object.meta, report, refs: false, kept, nodes, clients: 0 });
    }
    for ((key, object), (leaves, report)) in world.services.iter().zip(services.values()) {
        // A group is where its leaves are; one that is not good any more has none.
        let inner = leaves.iter().flatten().filter(|leaf| leaf.key != *key);
        let inner: BTreeSet<&String> = inner.flat_map(|leaf| on(&carriers.services, &leaf.key)).collect();
        let own = on(&carriers.services, key);
        let nodes = if inner.is_empty() {
            own
        } else {
            inner.into_iter().chain(own).collect::<BTreeSet<_>>().into_iter().collect()
        };
        let nodes = shared(nodes);
        let kept = !report.is_good() && !nodes.is_empty();
        let refs = object.spec.alg_ref.is_some() || !object.spec.members.is_empty();
        say(Kind::Service, key, One { meta: &object.meta, report, refs, kept, nodes, clients: 0 });
    }
    for ((key, object), (_, report)) in world.rules.iter().zip(rules.values()) {
        let nodes = shared(on(&carriers.rules, key));
        let kept = resolved.kept.contains(key) && !nodes.is_empty();
        let clients = clients.get(key).copied().unwrap_or(0);
        let more = issues.get(key).map(|more| Report([&report.0[..], more].concat()));
        let report = more.as_ref().unwrap_or(report);
        say(Kind::IpRule, key, One { meta: &object.meta, report, refs: true, kept, nodes, clients });
    }
    statuses
}

impl<'a> Carriers<'a> {
    /// By number first, and by name only once: a node has rules by the dozen.
    fn of(resolved: &'a Resolved, nodes: &'a BTreeMap<String, Built>) -> Self {
        let Resolved { candidates, names, .. } = resolved;
        let mut rules = vec![Vec::new(); candidates.len()];
        let mut services = vec![Vec::new(); names.services.len()];
        let mut algs = vec![Vec::new(); names.algs.len()];
        for (name, built) in nodes {
            for &rule in &built.used {
                add(&mut rules, rule, name);
                let Some((of_services, of_algs)) = names.of.get(rule as usize) else { continue };
                of_services.iter().for_each(|&service| add(&mut services, service, name));
                of_algs.iter().for_each(|&alg| add(&mut algs, alg, name));
            }
        }
        Self {
            rules: candidates.iter().map(|candidate| &candidate.key).zip(rules).collect(),
            services: names.services.iter().zip(services).collect(),
            algs: names.algs.iter().zip(algs).collect(),
        }
    }
}

/// Nodes that carry one object.
fn on<'a>(of: &BTreeMap<&ObjectKey, Vec<&'a String>>, key: &ObjectKey) -> Vec<&'a String> {
    of.get(key).cloned().unwrap_or_default()
}

/// Adds a node, which comes again and again before the next one does.
fn add<'a>(lists: &mut [Vec<&'a String>], at: u32, node: &'a String) {
    if let Some(list) = lists.get_mut(at as usize).filter(|list| list.last() != Some(&node)) {
        list.push(node);
    }
}

impl One<'_> {
    fn status(self) -> Status {
        let accepted = condition(self.report, ConditionType::Accepted, Reason::Accepted, "Valid.");
        let mut conditions = vec![accepted];
        if self.refs {
            let well = "Everything it names exists.";
            conditions.push(condition(self.report, ConditionType::ResolvedRefs, Reason::ResolvedRefs, well));
        }
        for condition in conditions.iter_mut().filter(|condition| self.kept && !condition.holds()) {
            condition.message = format!("{} {KEPT}", condition.message);
            if condition.type_() == ConditionType::ResolvedRefs {
                condition.reason = Reason::LastGoodKept;
            }
        }
        Status {
            observed_generation: self.meta.generation,
            conditions,
            nodes: self.nodes,
            clients: self.clients,
            last_good: self.kept,
        }
    }
}

/// The condition of one type: what stands in the way, or what is worth knowing, or that all is well.
fn condition(report: &Report, type_: ConditionType, good: Reason, well: &str) -> Condition {
    let bad: Vec<&Issue> = report.of(type_, false).collect();
    let issues = if bad.is_empty() { report.of(type_, true).collect() } else { bad };
    if issues.is_empty() {
        return Condition { reason: good, message: well.to_owned(), findings: Vec::new() };
    }
    // The first that says more than that all is well.
    let reason = issues.iter().map(|issue| issue.reason).find(|reason| *reason != good).unwrap_or(good);
    let findings: Vec<Finding> = issues.iter().map(|issue| issue.finding.clone()).collect();
    let sentences: Vec<String> = findings.iter().map(|finding| format!("{finding}.")).collect();
    Condition { reason, message: sentences.join(" "), findings }
}
