//! Conditions of every object, made of what was found on the way.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use callgate_crds::Kind;
use callgate_crds::conditions::{ConditionType, Reason};
use callgate_proto::model::ObjectKey;

use super::carriers::{Carriers, Places, Sets};
use super::node::Built;
use super::resolved::Resolved;
use super::select::Counts;
use crate::resolve::{Issue, Report, Version};
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
    /// An older version of it runs: it is not good, or not for a rule that goes on as it was.
    kept: bool,
    /// In which generation, where that is known.
    runs: Option<i64>,
    nodes: Arc<BTreeSet<String>>,
    clients: u32,
}

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
    sets.are_of(nodes.keys());
    let mut object = 0..;
    let mut shared = |places: Places| sets.named(object.next().unwrap_or_default(), places);
    let clients: BTreeMap<&ObjectKey, u32> =
        candidates.iter().zip(counts).map(|(candidate, counts)| (&candidate.key, counts.clients)).collect();
    let runs = Runs::of(resolved);
    let mut statuses = Statuses::new();
    let mut say = |kind: Kind, key: &ObjectKey, one: One<'_>| {
        if !one.meta.predefined {
            statuses.insert(ObjectRef { kind, key: key.clone() }, one.status());
        }
    };
    for ((key, object), (_, report)) in world.algs.iter().zip(algs.values()) {
        let nodes = shared(carriers.of_alg(key));
        let kept = !report.is_good() && !nodes.is_empty();
        say(Kind::PptpAlg, key, One { meta: &object.meta, report, refs: false, kept, runs: None, nodes, clients: 0 });
    }
    for (((key, object), (_, report)), inner) in
        world.services.iter().zip(services.values()).zip(&resolved.names.groups)
    {
        let nodes = shared(carriers.of_service(key, inner));
        let version = runs.services.get(key).copied();
        let is_older = version.is_some_and(|version| *version != Version::of(&object.meta));
        let kept = (!report.is_good() || is_older) && !nodes.is_empty();
        let refs = object.spec.alg_ref.is_some() || !object.spec.members.is_empty();
        let runs = version.and_then(|version| of(version, &object.meta));
        say(Kind::Service, key, One { meta: &object.meta, report, refs, kept, runs, nodes, clients: 0 });
    }
    for ((key, object), report) in world.rules.iter().zip(rules.values()) {
        let nodes = shared(carriers.of_rule(key));
        let kept = resolved.kept.contains(key) && !nodes.is_empty();
        let clients = clients.get(key).copied().unwrap_or(0);
        let more = issues.get(key).map(|more| Report([&report.0[..], more].concat()));
        let report = more.as_ref().unwrap_or(report);
        let runs = runs.rules.get(key).and_then(|version| of(version, &object.meta));
        say(Kind::IpRule, key, One { meta: &object.meta, report, refs: true, kept, runs, nodes, clients });
    }
    statuses
}

/// Of rules of which an older version runs, and of what these name: which version that is.
struct Runs<'a> {
    rules: BTreeMap<&'a ObjectKey, &'a Version>,
    services: BTreeMap<&'a ObjectKey, &'a Version>,
}

impl<'a> Runs<'a> {
    fn of(Resolved { candidates, kept, .. }: &'a Resolved) -> Self {
        let kept = || candidates.iter().filter(|candidate| kept.contains(&candidate.key));
        let mut services: BTreeMap<&ObjectKey, &Version> = BTreeMap::new();
        for leaf in kept().flat_map(|candidate| &candidate.rule.services) {
            // Of two the older: the other may be today's.
            let known = services.entry(&leaf.key).or_insert(&leaf.version);
            if leaf.version.generation < known.generation {
                *known = &leaf.version;
            }
        }
        Self { rules: kept().map(|candidate| (&candidate.key, &candidate.rule.version)).collect(), services }
    }
}

/// The generation of a version of this very object, and not of one that had its name before.
fn of(version: &Version, meta: &Meta) -> Option<i64> {
    version.generation.filter(|_| version.uid == meta.uid)
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
            last_good_generation: self.runs.filter(|_| self.kept),
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
