//! What objects come to without pods, namespaces and nodes: kept for as long as none of them changes.
use std::collections::{BTreeMap, BTreeSet};

use callgate_crds::conditions::{ConditionType, Reason};
use callgate_crds::{IpRuleSpec, PptpAlgSpec, ServiceSpec};
use callgate_proto::model::ObjectKey;
use ipnet::Ipv4Net;

use super::{Candidate, LastGood, contest, keep};
use crate::address::Ranges;
use crate::resolve::{self, Algs, Report, Rules, Services};
use crate::status::Finding;
use crate::world::{Object, World};

/// Objects with what they come to.
#[derive(Debug)]
pub(super) struct Resolved {
    inputs: Inputs,
    pub(super) algs: Algs,
    pub(super) services: Services,
    /// Reports have everything but what depends on pods.
    pub(super) rules: Rules,
    /// Rules that take part, in match order.
    pub(super) candidates: Vec<Candidate>,
    pub(super) names: Names,
    /// Rules of which an older version runs.
    pub(super) kept: BTreeSet<ObjectKey>,
    /// As nodes get them.
    pub(super) cluster_nets: Vec<Ipv4Net>,
}

/// Services and ALGs that candidates name, each once, and which of them each names.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) services: Vec<ObjectKey>,
    pub(super) algs: Vec<ObjectKey>,
    /// By candidate: indices into both.
    pub(super) of: Vec<(Vec<u32>, Vec<u32>)>,
}

/// Whatever the result depends on.
#[derive(Debug)]
struct Inputs {
    standalone: bool,
    operator_namespace: String,
    cluster_nets: Vec<Ipv4Net>,
    algs: BTreeMap<ObjectKey, Object<PptpAlgSpec>>,
    services: BTreeMap<ObjectKey, Object<ServiceSpec>>,
    rules: BTreeMap<ObjectKey, Object<IpRuleSpec>>,
    /// What ran before; `None` where it was not asked, because every rule is good.
    previous: Option<Option<LastGood>>,
}

impl Inputs {
    fn of(world: &World, previous: Option<Option<&LastGood>>) -> Self {
        Self {
            standalone: world.standalone,
            operator_namespace: world.operator_namespace.clone(),
            cluster_nets: world.cluster_nets.clone(),
            algs: world.algs.clone(),
            services: world.services.clone(),
            rules: world.rules.clone(),
            previous: previous.map(Option::<&LastGood>::cloned),
        }
    }
}

impl Resolved {
    /// Of a world and what ran before.
    pub(super) fn of(world: &World, previous: Option<&LastGood>) -> Self {
        let algs = resolve::algs(world);
        let services = resolve::services(world, &algs);
        let mut rules = resolve::rules(world, &algs, &services);
        let asked = rules.values().any(|(good, _)| good.is_none());
        let (mut candidates, kept) = candidates(world, &algs, &services, &mut rules, previous);
        for (key, issue) in contest::contest(&mut candidates) {
            if let Some((_, report)) = rules.get_mut(&key) {
                report.0.push(issue);
            }
        }
        let names = Names::of(&candidates);
        let cluster_nets = Ranges::of(&world.cluster_nets).blocks();
        let inputs = Inputs::of(world, asked.then_some(previous));
        Self { inputs, algs, services, rules, candidates, names, kept, cluster_nets }
    }

    /// Whether it would come out the same now.
    pub(super) fn is_of(&self, world: &World, previous: Option<&LastGood>) -> bool {
        let then = &self.inputs;
        then.standalone == world.standalone
            && then.operator_namespace == world.operator_namespace
            && then.cluster_nets == world.cluster_nets
            && then.algs == world.algs
            && then.services == world.services
            && then.rules == world.rules
            && self.is_after(previous)
    }

    /// Whether it would come out the same in the same world after what ran before.
    pub(super) fn is_after(&self, previous: Option<&LastGood>) -> bool {
        self.inputs.previous.as_ref().is_none_or(|then| then.as_ref() == previous)
    }
}

impl Names {
    fn of(candidates: &[Candidate]) -> Self {
        let rules = || candidates.iter().map(|candidate| &candidate.rule);
        let services: BTreeSet<&ObjectKey> =
            rules().flat_map(|rule| rule.services.iter().map(|leaf| &leaf.key)).collect();
        let algs: BTreeSet<&ObjectKey> = rules().flat_map(|rule| rule.algs.iter().map(|alg| &alg.key)).collect();
        let service_at: BTreeMap<&ObjectKey, u32> = services.iter().copied().zip(0..).collect();
        let alg_at: BTreeMap<&ObjectKey, u32> = algs.iter().copied().zip(0..).collect();
        let of = rules().map(|rule| {
            let services = rule.services.iter().filter_map(|leaf| service_at.get(&leaf.key)).copied();
            let algs = rule.algs.iter().filter_map(|alg| alg_at.get(&alg.key)).copied();
            (services.collect(), algs.collect())
        });
        Self {
            of: of.collect(),
            services: services.into_iter().cloned().collect(),
            algs: algs.into_iter().cloned().collect(),
        }
    }
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
        let meta = world.rules.get(key).map(|object| &object.meta);
        let created = meta.and_then(|meta| meta.created);
        let before = previous.get(key).filter(|before| meta.is_none_or(|meta| before.is_of(&meta.uid)));
        let rule = match (good.as_ref(), before) {
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
