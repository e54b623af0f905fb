//! An IpRule with everything it names: what it comes to, or what is wrong with it.
use std::collections::BTreeSet;
use std::sync::Arc;

use callgate_crds::conditions::Reason;
use callgate_crds::fields::Cidr;
use callgate_crds::{Action, IpRuleSpec};
use callgate_proto::model::{self, ObjectKey};
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use super::lookup::Hints;
use super::{Algs, Collected, Leaves, Report, Services, group, lookup, unaided};
use crate::address::Ranges;
use crate::selector::Selector;
use crate::steps::Steps;
use crate::world::{Labels, Meta, Object, World};

/// Which version of which object something was made of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Version {
    /// Of the object; empty where that has none, and in what versions saved that did not know of it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) uid: String,
    /// `metadata.generation` of the object; absent likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) generation: Option<i64>,
}

impl Version {
    pub(crate) fn of(meta: &Meta) -> Self {
        Self { uid: meta.uid.clone(), generation: Some(meta.generation) }
    }
}

/// A rule that can be carried out, with copies of all it names: it outlives them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GoodRule {
    #[serde(flatten)]
    pub(crate) version: Version,
    pub(crate) order: u32,
    pub(crate) action: model::Action,
    pub(crate) source: GoodSource,
    pub(crate) destinations: Vec<Ipv4Net>,
    pub(crate) services: Leaves,
    pub(crate) algs: Vec<model::PptpAlg>,
    pub(crate) log: bool,
}

impl GoodRule {
    /// Whether it was made of the object that has this uid, as far as that is known: one that was made anew under the same name is another.
    pub(crate) fn is_of(&self, uid: &str) -> bool {
        self.version.uid.is_empty() || uid.is_empty() || self.version.uid == uid
    }
}

/// Whose traffic it is about: pods, or networks, or both.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct GoodSource {
    pub(crate) pods: Option<Pods>,
    pub(crate) cidrs: Vec<Ipv4Net>,
}

/// Which pods.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Pods {
    pub(crate) scope: PodScope,
    pub(crate) labels: Selector,
}

/// In which namespaces.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum PodScope {
    /// In the rule's own.
    Own(String),
    /// In those with these labels.
    Labelled(Selector),
}

impl Pods {
    /// Whether whatever `narrow` selects is surely selected by this, whatever namespaces and pods there will be.
    pub(crate) fn covers(&self, narrow: &Self, steps: &mut Steps) -> bool {
        let scope = match (&self.scope, &narrow.scope) {
            (PodScope::Own(a), PodScope::Own(b)) => a == b,
            (PodScope::Labelled(a), PodScope::Labelled(b)) => a.covers(b, steps),
            (PodScope::Labelled(a), PodScope::Own(_)) => a.is_everything(),
            (PodScope::Own(_), PodScope::Labelled(_)) => false,
        };
        scope && self.labels.covers(&narrow.labels, steps)
    }
}

impl PodScope {
    /// Labels that namespaces are to have.
    pub(crate) fn selector(&self) -> Option<&Selector> {
        match self {
            Self::Own(_) => None,
            Self::Labelled(selector) => Some(selector),
        }
    }

    /// Whether `namespace`, which has these labels, is one of them.
    pub(crate) fn contains(&self, namespace: &str, labels: &Labels) -> bool {
        match self {
            Self::Own(own) => own == namespace,
            Self::Labelled(selector) => selector.selects(labels),
        }
    }
}

/// Resolves rules one by one: whoever asks may drop one before the next is made.
pub(crate) struct Resolver<'a> {
    world: &'a World,
    algs: &'a Algs,
    services: &'a Services,
    hints: Hints,
    /// Networks of the cluster.
    inside: Ranges,
}

impl<'a> Resolver<'a> {
    pub(crate) fn new(world: &'a World, algs: &'a Algs, services: &'a Services, hints: Hints) -> Self {
        Self { world, algs, services, hints, inside: Ranges::of(&world.cluster_nets) }
    }

    /// The rule with its report; the value is there only where the report is good.
    pub(crate) fn rule(&mut self, key: &ObjectKey, object: &Object<IpRuleSpec>) -> (Option<Arc<GoodRule>>, Report) {
        let Self { world, algs, services, hints, inside } = self;
        let (rule, report) = rule(world, inside, algs, services, hints, (key, object));
        (rule.map(Arc::new), report)
    }
}

fn rule(
    world: &World,
    inside: &Ranges,
    algs: &Algs,
    services: &Services,
    hints: &mut Hints,
    (key, object): (&ObjectKey, &Object<IpRuleSpec>),
) -> (Option<GoodRule>, Report) {
    let (spec, mut report) = (&object.spec, Report::default());
    if spec.gateway_ref.is_some() {
        let message =
            "gateways are not there yet: remove the field, and the traffic takes the address of the node it is on";
        report.add(Reason::Unsupported, "spec.gatewayRef", message);
    }
    let source = source(world, key, spec, &mut report);
    let destinations = destinations(inside, spec, &mut report);
    let leaves = named_services(world, services, hints, (key, spec), &mut report);
    let action = match spec.action {
        Action::Nat => model::Action::Nat,
        Action::Allow => model::Action::Allow,
        Action::Drop => model::Action::Drop,
        Action::Reject => model::Action::Reject,
    };
    if action != model::Action::Nat
        && let Some(leaf) = leaves.iter().find(|leaf| leaf.alg.is_some())
    {
        let message = format!(
            "Service {} has an ALG, which only works where addresses are translated: write action: NAT, or name a \
             service without ALG",
            leaf.key
        );
        report.add(Reason::AlgNotAllowed, "spec.action", message);
    }
    if action == model::Action::Nat
        && let Some(message) = unaided::note(&leaves)
    {
        report.add(Reason::Accepted, "spec.services", message);
    }
    let used: BTreeSet<&ObjectKey> = leaves.iter().filter_map(|leaf| leaf.alg.as_ref()).collect();
    let used = used.into_iter().filter_map(|key| algs.get(key)?.0.clone()).collect();
    let good = GoodRule {
        version: Version::of(&object.meta),
        order: spec.order,
        action,
        source,
        destinations,
        services: leaves,
        algs: used,
        log: spec.log,
    };
    (report.is_good().then_some(good), report)
}

fn source(world: &World, key: &ObjectKey, spec: &IpRuleSpec, report: &mut Report) -> GoodSource {
    let source = &spec.source;
    let everywhere = world.is_trusted(&key.namespace);
    for (field, used) in [
        ("spec.source.namespaceSelector", source.namespace_selector.is_some()),
        ("spec.source.cidrs", !source.cidrs.is_empty()),
    ] {
        if used && !everywhere {
            let message = format!(
                "only rules in namespace {} may use it: move the rule there, or select pods of namespace {} with \
                 podSelector",
                world.operator_namespace, key.namespace
            );
            report.add(Reason::SourceNotAllowed, field, message);
        }
    }
    let mut findings = Vec::new();
    let labels = source.pod_selector.as_ref().map(|s| Selector::read(s, "spec.source.podSelector", &mut findings));
    let namespaces =
        source.namespace_selector.as_ref().map(|s| Selector::read(s, "spec.source.namespaceSelector", &mut findings));
    report.invalid(findings);
    let pods = match (labels, namespaces) {
        (None, None) => None,
        (labels, None) => {
            Some(Pods { scope: PodScope::Own(key.namespace.clone()), labels: labels.unwrap_or_default() })
        }
        (labels, Some(namespaces)) => {
            Some(Pods { scope: PodScope::Labelled(namespaces), labels: labels.unwrap_or_default() })
        }
    };
    let cidrs = Ranges::of(&nets(&source.cidrs, "spec.source.cidrs", report)).blocks();
    if pods.is_none() && source.cidrs.is_empty() {
        let message = "selects nothing: write podSelector, namespaceSelector or cidrs";
        report.add(Reason::Invalid, "spec.source", message);
    }
    GoodSource { pods, cidrs }
}

fn destinations(inside: &Ranges, spec: &IpRuleSpec, report: &mut Report) -> Vec<Ipv4Net> {
    let before = report.0.len();
    let wanted = Ranges::of(&nets(&spec.destination.cidrs, "spec.destination.cidrs", report));
    let except = Ranges::of(&nets(&spec.destination.except, "spec.destination.except", report));
    let left = wanted.minus(&except);
    if report.0.len() > before {
        return Vec::new();
    }
    if left.is_empty() {
        let message = "nothing is left of destination.cidrs: narrow it, or widen destination.cidrs";
        report.add(Reason::NoDestination, "spec.destination.except", message);
    } else if left.is_subset(inside) {
        let message = "all of it is inside the cluster, where Callgate looks at nothing: name networks outside";
        report.add(Reason::NoDestination, "spec.destination.cidrs", message);
    }
    left.blocks()
}

fn named_services(
    world: &World,
    services: &Services,
    hints: &mut Hints,
    (key, spec): (&ObjectKey, &IpRuleSpec),
    report: &mut Report,
) -> Leaves {
    let mut found = Collected::default();
    for (index, named) in spec.services.iter().enumerate() {
        let field = format!("spec.services[{index}].name");
        if let Some(message) = lookup::not_permitted(world, &key.namespace, named) {
            report.add(Reason::RefNotPermitted, field, message);
            continue;
        }
        let at = match group::find(world, &key.namespace, named) {
            Ok(at) => at,
            Err(places) => {
                let message = group::not_found(world, hints, &key.namespace, named, &places);
                report.add(Reason::ServiceNotFound, field, message);
                continue;
            }
        };
        match services.get(&at) {
            Some((Some(of), _)) => found.add(of),
            Some((None, _)) | None => {
                let message = format!("Service {at} is not accepted: mend it first, its status says what is wrong");
                report.add(Reason::RefNotAccepted, field, message);
            }
        }
    }
    let leaves = found.leaves;
    if leaves.len() > group::MAX_LEAVES {
        let message = format!(
            "they come to more than {} services with their groups: make several rules of it",
            group::MAX_LEAVES
        );
        report.add(Reason::Invalid, "spec.services", message);
    }
    leaves
}

fn nets(cidrs: &[Cidr], field: &str, report: &mut Report) -> Vec<Ipv4Net> {
    let mut nets = Vec::new();
    for (index, cidr) in cidrs.iter().enumerate() {
        match cidr.parse().map(|block| Ipv4Net::new(block.address, block.prefix)) {
            Ok(Ok(net)) => nets.push(net),
            Ok(Err(_)) => {
                report.add(Reason::Invalid, format!("{field}[{index}]"), "not a prefix length: write 0 to 32")
            }
            Err(error) => report.add(Reason::Invalid, format!("{field}[{index}]"), error.to_string()),
        }
    }
    nets
}
