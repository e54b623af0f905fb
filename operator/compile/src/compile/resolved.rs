//! What objects come to without pods, namespaces and nodes: kept for as long as none of them changes.
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use callgate_crds::conditions::{ConditionType, Reason};
use callgate_crds::{IpRuleSpec, PptpAlgSpec, ServiceSpec};
use callgate_proto::model::ObjectKey;
use ipnet::Ipv4Net;

use super::room::Namespaces;
use super::{Candidate, LastGood, Limits, contest, keep};
use crate::address::Ranges;
use crate::resolve::{self, Algs, Hints, Leaf, Report, Resolver, Services};
use crate::status::Finding;
use crate::world::{Object, World};

/// Objects with what they come to.
#[derive(Debug)]
pub(super) struct Resolved {
    inputs: Inputs,
    pub(super) algs: Algs,
    pub(super) services: Services,
    /// Reports have everything but what depends on pods.
    pub(super) rules: BTreeMap<ObjectKey, Report>,
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
    /// By service: the leaves of a group, as far as candidates name them, as indices; empty for a leaf.
    pub(super) groups: Vec<Vec<u32>>,
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
    pub(super) fn of(limits: &Limits, world: &World, previous: Option<&LastGood>) -> Self {
        let mut hints = Hints::default();
        let algs = resolve::algs(world);
        let services = resolve::services(world, limits.leaves_of_namespace, &algs, &mut hints);
        let (mut rules, mut taking) = Taking::part(limits, world, &algs, &services, hints, previous);
        for (key, issue) in contest::contest(&mut taking.candidates, limits.steps_of_namespace) {
            if let Some(report) = rules.get_mut(&key) {
                report.0.push(issue);
            }
        }
        let Taking { candidates, kept, asked } = taking;
        let names = Names::of(&candidates, &services);
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
    fn of(candidates: &[Candidate], all: &Services) -> Self {
        let rules = || candidates.iter().map(|candidate| &candidate.rule);
        let services: BTreeSet<&ObjectKey> =
            rules().flat_map(|rule| rule.services.iter().map(|leaf| &leaf.key)).collect();
        let algs: BTreeSet<&ObjectKey> = rules().flat_map(|rule| rule.algs.iter().map(|alg| &alg.key)).collect();
        let service_at: BTreeMap<&ObjectKey, u32> = services.iter().copied().zip(0..).collect();
        let alg_at: BTreeMap<&ObjectKey, u32> = algs.iter().copied().zip(0..).collect();
        // A good group's leaves are those of the rules themselves, and not others of the same name.
        let leaf_at: HashMap<*const Leaf, u32> = rules()
            .flat_map(|rule| &rule.services)
            .filter_map(|leaf| Some((Arc::as_ptr(leaf), *service_at.get(&leaf.key)?)))
            .collect();
        let of = rules().map(|rule| {
            let services = rule.services.iter().filter_map(|leaf| leaf_at.get(&Arc::as_ptr(leaf))).copied();
            let algs = rule.algs.iter().filter_map(|alg| alg_at.get(&alg.key)).copied();
            (services.collect(), algs.collect())
        });
        let groups = all.iter().map(|(key, (leaves, _))| {
            let inner = leaves.iter().flatten().filter(|leaf| leaf.key != *key);
            inner.filter_map(|leaf| leaf_at.get(&Arc::as_ptr(leaf))).copied().collect()
        });
        Self {
            of: of.collect(),
            groups: groups.collect(),
            services: services.into_iter().cloned().collect(),
            algs: algs.into_iter().cloned().collect(),
        }
    }
}

/// Rules that take part.
struct Taking {
    /// In match order.
    candidates: Vec<Candidate>,
    /// Those that run as they did before only.
    kept: BTreeSet<ObjectKey>,
    /// What ran before was looked at.
    asked: bool,
}

impl Taking {
    /// Every rule that can run, and the reports of all.
    fn part(
        limits: &Limits,
        world: &World,
        algs: &Algs,
        services: &Services,
        hints: Hints,
        previous: Option<&LastGood>,
    ) -> (BTreeMap<ObjectKey, Report>, Self) {
        let previous = previous.map(LastGood::by_key).unwrap_or_default();
        let mut taking = Self { candidates: Vec::new(), kept: BTreeSet::new(), asked: false };
        let (mut resolver, mut namespaces) = (Resolver::new(world, algs, services, hints), Namespaces::of(limits));
        let mut reports = BTreeMap::new();
        let mut in_order: Vec<(&ObjectKey, &Object<IpRuleSpec>)> = world.rules.iter().collect();
        in_order.sort_by_key(|(key, object)| (object.spec.order, object.meta.created, *key));
        for (key, object) in in_order {
            let (good, mut report) = resolver.rule(key, object);
            taking.asked |= good.is_none();
            let before = previous.get(key).filter(|before| before.is_of(&object.meta.uid));
            let is_good = good.is_some();
            match good.or_else(|| before.map(|before| keep::refreshed(before, algs, services).into())) {
                None => unresolved(&mut report),
                Some(rule) => match namespaces.take(world, key, &rule) {
                    Err(issue) => report.0.push(issue),
                    Ok(()) => {
                        if !is_good {
                            taking.kept.insert(key.clone());
                        }
                        let (created, note) = (object.meta.created, contest::passed_over(&rule));
                        taking.candidates.push(Candidate { key: key.clone(), created, rule, note, shadow: None });
                    }
                },
            }
            reports.insert(key.clone(), report);
        }
        taking.candidates.sort_by(|a, b| (a.rule.order, a.created, &a.key).cmp(&(b.rule.order, b.created, &b.key)));
        (reports, taking)
    }
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
