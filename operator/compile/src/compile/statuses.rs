//! Conditions of every object, made of what was found on the way.
use std::collections::{BTreeMap, BTreeSet};

use callgate_crds::Kind;
use callgate_crds::conditions::{ConditionType, Reason};
use callgate_proto::model::{self, ObjectKey};

use super::{Candidate, node};
use crate::resolve::{GoodRule, Issue, Leaf, Report};
use crate::status::{Condition, Finding, ObjectRef, Status, Statuses};
use crate::world::{Meta, World};

/// Everything compile says about objects.
pub(crate) fn statuses(
    world: &World,
    algs: &BTreeMap<ObjectKey, (Option<model::PptpAlg>, Report)>,
    services: &BTreeMap<ObjectKey, (Option<Vec<Leaf>>, Report)>,
    rules: &BTreeMap<ObjectKey, (Option<GoodRule>, Report)>,
    candidates: &[Candidate],
    kept: &BTreeSet<ObjectKey>,
    built: &BTreeMap<String, node::Built>,
) -> Statuses {
    let mut statuses = Statuses::new();
    let on = |keep: &dyn Fn(&model::NodeConfig) -> bool| -> BTreeSet<String> {
        built.iter().filter(|(_, built)| keep(&built.config)).map(|(name, _)| name.clone()).collect()
    };
    let mut add = |kind: Kind, key: &ObjectKey, meta: Meta, report: &Report, refs: bool, kept: bool, nodes, clients| {
        if meta.predefined {
            return;
        }
        let status = Status {
            observed_generation: meta.generation,
            conditions: conditions(report, refs, kept),
            nodes,
            clients,
            last_good: kept && report.of(ConditionType::Accepted, false).next().is_some(),
        };
        statuses.insert(ObjectRef { kind, key: key.clone() }, status);
    };
    for (key, (_, report)) in algs {
        let Some(object) = world.algs.get(key) else { continue };
        let nodes = on(&|config| config.algs.iter().any(|alg| alg.key == *key));
        add(Kind::PptpAlg, key, object.meta, report, false, false, nodes, 0);
    }
    for (key, (leaves, report)) in services {
        let Some(object) = world.services.get(key) else { continue };
        let uses = |config: &model::NodeConfig| {
            leaves.iter().flatten().any(|leaf| config.services.iter().any(|service| service.key == leaf.key))
        };
        let refs = object.spec.alg_ref.is_some() || !object.spec.members.is_empty();
        add(Kind::Service, key, object.meta, report, refs, false, on(&uses), 0);
    }
    for (key, (_, report)) in rules {
        let Some(object) = world.rules.get(key) else { continue };
        let candidate = candidates.iter().find(|candidate| candidate.key == *key);
        let clients = candidate.map_or(0, |candidate| node::clients(world, candidate));
        let nodes = built.iter().filter(|(_, built)| built.rules.contains(key)).map(|(name, _)| name.clone()).collect();
        add(Kind::IpRule, key, object.meta, report, true, kept.contains(key), nodes, clients);
    }
    statuses
}

fn conditions(report: &Report, refs: bool, kept: bool) -> Vec<Condition> {
    let accepted = one(report, ConditionType::Accepted, Reason::Accepted, "Valid.");
    let mut conditions = vec![accepted];
    if refs {
        let mut resolved =
            one(report, ConditionType::ResolvedRefs, Reason::ResolvedRefs, "Everything it names exists.");
        if kept && !resolved.holds() {
            resolved.reason = Reason::LastGoodKept;
            resolved.message = format!("{} What ran before goes on running.", resolved.message);
        }
        conditions.push(resolved);
    }
    conditions
}

/// The condition of one type: what stands in the way, or what is worth knowing, or that all is well.
fn one(report: &Report, type_: ConditionType, good: Reason, well: &str) -> Condition {
    let bad: Vec<&Issue> = report.of(type_, false).collect();
    let issues = if bad.is_empty() { report.of(type_, true).collect() } else { bad };
    let Some(first) = issues.first() else {
        return Condition { reason: good, message: well.to_owned(), findings: Vec::new() };
    };
    let findings: Vec<Finding> = issues.iter().map(|issue| issue.finding.clone()).collect();
    let sentences: Vec<String> = findings.iter().map(|finding| format!("{finding}.")).collect();
    Condition { reason: first.reason, message: sentences.join(" "), findings }
}
