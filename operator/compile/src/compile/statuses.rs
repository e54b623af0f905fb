//! Conditions of every object, made of what was found on the way.
use std::collections::{BTreeMap, BTreeSet};

use callgate_crds::Kind;
use callgate_crds::conditions::{ConditionType, Reason};
use callgate_proto::model::{NodeConfig, ObjectKey};

use crate::resolve::{Algs, Issue, Report, Rules, Services};
use crate::status::{Condition, Finding, ObjectRef, Status, Statuses};
use crate::world::{Meta, World};

/// Added where something is wrong now and what was right before runs.
const KEPT: &str = "What ran before goes on running.";

/// One object on its way to a status.
struct One<'a> {
    meta: Meta,
    report: &'a Report,
    /// It names other objects.
    refs: bool,
    /// It is not good, and an older version of it runs.
    kept: bool,
    nodes: BTreeSet<String>,
    clients: u32,
}

/// Nodes that carry each object.
#[derive(Default)]
struct Carriers<'a> {
    algs: BTreeMap<&'a ObjectKey, BTreeSet<String>>,
    services: BTreeMap<&'a ObjectKey, BTreeSet<String>>,
    rules: BTreeMap<&'a ObjectKey, BTreeSet<String>>,
}

/// Everything compile says about objects. `clients` is how much each running rule selects, `kept` the rules of which an
/// older version runs.
pub(crate) fn statuses(
    world: &World,
    (algs, services, rules): (&Algs, &Services, &Rules),
    clients: &BTreeMap<&ObjectKey, u32>,
    kept: &BTreeSet<ObjectKey>,
    nodes: &BTreeMap<String, NodeConfig>,
) -> Statuses {
    let carriers = Carriers::of(nodes);
    let on = |of: &BTreeMap<&ObjectKey, BTreeSet<String>>, key| of.get(key).cloned().unwrap_or_default();
    let mut all: Vec<(Kind, &ObjectKey, One<'_>)> = Vec::new();
    for ((key, object), (_, report)) in world.algs.iter().zip(algs.values()) {
        let nodes = on(&carriers.algs, key);
        let kept = !report.is_good() && !nodes.is_empty();
        all.push((Kind::PptpAlg, key, One { meta: object.meta, report, refs: false, kept, nodes, clients: 0 }));
    }
    for ((key, object), (leaves, report)) in world.services.iter().zip(services.values()) {
        // A group is where its leaves are; one that is not good any more has none.
        let mut nodes = on(&carriers.services, key);
        nodes.extend(leaves.iter().flatten().flat_map(|leaf| on(&carriers.services, &leaf.key)));
        let kept = !report.is_good() && !nodes.is_empty();
        let refs = object.spec.alg_ref.is_some() || !object.spec.members.is_empty();
        all.push((Kind::Service, key, One { meta: object.meta, report, refs, kept, nodes, clients: 0 }));
    }
    for ((key, object), (_, report)) in world.rules.iter().zip(rules.values()) {
        let nodes = on(&carriers.rules, key);
        let kept = kept.contains(key) && !nodes.is_empty();
        let clients = clients.get(key).copied().unwrap_or(0);
        all.push((Kind::IpRule, key, One { meta: object.meta, report, refs: true, kept, nodes, clients }));
    }
    let said = all.into_iter().filter(|(_, _, one)| !one.meta.predefined);
    said.map(|(kind, key, one)| (ObjectRef { kind, key: key.clone() }, one.status())).collect()
}

impl<'a> Carriers<'a> {
    fn of(nodes: &'a BTreeMap<String, NodeConfig>) -> Self {
        let mut carriers = Self::default();
        for (name, config) in nodes {
            let carried = [
                (&mut carriers.algs, config.algs.iter().map(|alg| &alg.key).collect::<Vec<_>>()),
                (&mut carriers.services, config.services.iter().map(|service| &service.key).collect()),
                (&mut carriers.rules, config.rules.iter().map(|rule| &rule.key).collect()),
            ];
            for (of, keys) in carried {
                for key in keys {
                    of.entry(key).or_default().insert(name.clone());
                }
            }
        }
        carriers
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
