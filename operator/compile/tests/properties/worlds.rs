//! Worlds as values: short ways to objects, and random ones of few names so that everything meets everything.

use std::net::Ipv4Addr;

use callgate_compile::world::{Labels, Meta, Object, Pod, World};
use callgate_crds::fields::{Cidr, Ports, Protocol};
use callgate_crds::{Action, Destination, IpRuleSpec, ServiceRef, ServiceSpec, Source};
use callgate_proto::model::ObjectKey;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use proptest::prelude::*;

pub(crate) fn object<S>(spec: S) -> Object<S> {
    Object { meta: Meta::default(), spec }
}

pub(crate) fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

pub(crate) fn selector(pairs: &[(&str, &str)]) -> LabelSelector {
    LabelSelector { match_labels: Some(labels(pairs)), match_expressions: None }
}

pub(crate) fn pod(node: &str, address: Ipv4Addr, pairs: &[(&str, &str)]) -> Pod {
    Pod {
        uid: String::new(),
        labels: labels(pairs),
        addresses: vec![address],
        node: Some(node.to_owned()),
        ..Pod::default()
    }
}

pub(crate) fn tcp(ports: &str) -> ServiceSpec {
    ServiceSpec {
        protocol: Some(Protocol::from("TCP")),
        source_ports: Ports::default(),
        destination_ports: Some(Ports::from(ports)),
        members: Vec::new(),
        alg_ref: None,
        max_sessions: 200,
        forward_icmp_errors: true,
        timeouts: None,
    }
}

pub(crate) fn rule(order: u32, action: Action, source: Source, services: &[&str]) -> IpRuleSpec {
    let services = services.iter().map(|name| ServiceRef { name: (*name).to_owned(), namespace: None }).collect();
    IpRuleSpec { order, action, source, destination: Destination::default(), services, gateway_ref: None, log: false }
}

pub(crate) fn from_pods(selector: LabelSelector) -> Source {
    Source { pod_selector: Some(selector), ..Source::default() }
}

pub(crate) fn from_nets(nets: &[&str]) -> Source {
    Source { cidrs: nets.iter().map(|net| Cidr::from(*net)).collect(), ..Source::default() }
}

/// An address of the 256 that random worlds have.
pub(crate) fn address() -> impl Strategy<Value = Ipv4Addr> {
    any::<u8>().prop_map(|low| Ipv4Addr::new(10, 0, 0, low))
}

/// A network of them, half of the time a small one.
fn net() -> impl Strategy<Value = Cidr> {
    (any::<u8>(), prop_oneof![24u8..=27, 28u8..=32]).prop_map(|(low, prefix)| {
        let kept = (u32::MAX << (32 - u32::from(prefix))) as u8;
        Cidr(format!("10.0.0.{}/{prefix}", low & kept))
    })
}

fn random_labels() -> impl Strategy<Value = Labels> {
    proptest::collection::btree_map("app|tier", "a|b", 0..3)
}

fn random_selector() -> impl Strategy<Value = LabelSelector> {
    random_labels().prop_map(|labels| LabelSelector { match_labels: Some(labels), match_expressions: None })
}

fn random_source() -> impl Strategy<Value = Source> {
    let nets = proptest::collection::vec(net(), 0..3);
    (proptest::option::of(random_selector()), proptest::option::weighted(0.2, random_selector()), nets).prop_map(
        |(pod_selector, namespace_selector, cidrs)| Source {
            // A source that selects by nothing is refused by shape; here it becomes everything of the namespace.
            pod_selector: pod_selector
                .or_else(|| (namespace_selector.is_none() && cidrs.is_empty()).then(LabelSelector::default)),
            namespace_selector,
            cidrs,
        },
    )
}

fn random_destination() -> impl Strategy<Value = Destination> {
    let nets = || proptest::collection::vec(net(), 0..3);
    (nets(), nets()).prop_map(
        |(cidrs, except)| {
            if cidrs.is_empty() { Destination::default() } else { Destination { cidrs, except } }
        },
    )
}

fn random_rule() -> impl Strategy<Value = (ObjectKey, Object<IpRuleSpec>)> {
    let action = prop_oneof![Just(Action::Nat), Just(Action::Allow), Just(Action::Drop), Just(Action::Reject)];
    let services = proptest::collection::vec("web|dns|any|icmp|both|group", 1..3);
    ("n|m", "r[0-9]", 0u32..4, action, random_source(), random_destination(), services).prop_map(
        |(namespace, name, order, action, source, destination, services)| {
            let names: Vec<&str> = services.iter().map(String::as_str).collect();
            let spec = IpRuleSpec { destination, ..rule(order, action, source, &names) };
            (ObjectKey::new(namespace, name), object(spec))
        },
    )
}

fn random_pod() -> impl Strategy<Value = (ObjectKey, Pod)> {
    ("n|m", "p[0-9]", address(), random_labels(), proptest::bool::weighted(0.1), proptest::bool::weighted(0.1))
        .prop_map(|(namespace, name, address, labels, host_network, finished)| {
            let pod = Pod { labels, host_network, finished, ..pod("here", address, &[]) };
            (ObjectKey::new(namespace, name), pod)
        })
}

/// A standalone world with up to a dozen rules and pods, and services of every kind that can be reached by name.
pub(crate) fn world() -> impl Strategy<Value = World> {
    let rules = proptest::collection::vec(random_rule(), 0..12);
    let pods = proptest::collection::vec(random_pod(), 0..12);
    let namespaces = proptest::collection::btree_map("n|m", random_labels(), 0..3);
    (rules, pods, namespaces).prop_map(|(rules, pods, namespaces)| {
        let of = |protocol: &str, ports: Option<&str>| ServiceSpec {
            protocol: Some(Protocol::from(protocol)),
            destination_ports: ports.map(Ports::from),
            ..tcp("1")
        };
        let group = ServiceSpec {
            protocol: None,
            destination_ports: None,
            members: ["web", "icmp"].map(|name| ServiceRef { name: name.to_owned(), namespace: None }).to_vec(),
            ..tcp("1")
        };
        let services = [
            ("web", ServiceSpec { source_ports: Ports::from("1000-1999"), ..of("TCP", Some("80,443")) }),
            ("dns", of("UDP", Some("53"))),
            ("both", of("TCPUDP", None)),
            ("icmp", of("ICMP", None)),
            ("any", of("ANY", None)),
            ("group", group),
        ];
        let services = services.map(|(name, spec)| (ObjectKey::new("callgate-system", name), object(spec)));
        World {
            namespaces,
            pods: pods.into_iter().map(|(key, pod)| (key, pod.into())).collect(),
            services: services.into_iter().collect(),
            rules: rules.into_iter().collect(),
            ..World::standalone()
        }
    })
}
