//! What a compile of a large cluster costs, without a cluster: `cargo run --profile measure -p callgate-compile --example large`.
//!
//! 10,000 pods on 500 nodes under 1,000 rules in 100 namespaces, as `operator/examples/scale` makes them in a real API server.
// A tool of developers: it may end with a panic.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Instant;

use callgate_compile::world::{Labels, Meta, Object, Pod, World};
use callgate_compile::{Compiler, Since};
use callgate_crds::{IpRuleSpec, PptpAlgSpec, SYSTEM_NAMESPACE, ServiceSpec};
use callgate_proto::model::ObjectKey;
use serde_json::json;

const NODES: u32 = 500;
const PODS: u32 = 10_000;
const RULES: u32 = 1_000;
const NAMESPACES: u32 = 100;

fn main() {
    told("each rule selects some pods of its namespace", world());
    let mut all = world();
    // The worst there is: rules of the operator's namespace, for every pod of every namespace.
    all.rules = std::mem::take(&mut all.rules).into_values().enumerate().map(everywhere).collect();
    for service in ["pptp", "web", "dns"] {
        let object = all.services[&ObjectKey::new(namespace(0), service)].clone();
        all.services.insert(ObjectKey::new(SYSTEM_NAMESPACE, service), object);
    }
    all.algs.insert(ObjectKey::new(SYSTEM_NAMESPACE, "pptp"), object(json!({})));
    told("each rule selects every pod", all);
}

fn told(what: &str, mut world: World) {
    println!("{what}");
    let mut compiler = Compiler::default();
    let began = Instant::now();
    let compiled = compiler.compile(&world);
    println!("  from scratch {:.1?}", began.elapsed());
    let mut sizes: Vec<usize> = compiled.nodes.values().map(|config| config.encode().len()).collect();
    sizes.sort_unstable();
    println!("  a node's configuration: median {} octets, largest {}", sizes[sizes.len() / 2], sizes[sizes.len() - 1]);
    let mut times = Vec::new();
    for index in PODS..PODS + 100 {
        let (key, pod) = pod(index);
        world.pods.insert(key.clone(), pod.into());
        let since = Since::Pods([key].into());
        let began = Instant::now();
        drop(compiler.compile_since(&world, &since));
        times.push(began.elapsed());
    }
    times.sort();
    println!("  one pod more: median {:.1?}, longest {:.1?}", times[50], times[99]);
}

fn everywhere((place, mut rule): (usize, Object<IpRuleSpec>)) -> (ObjectKey, Object<IpRuleSpec>) {
    rule.spec.order = place as u32;
    rule.spec.source = serde_json::from_value(json!({"podSelector": {}, "namespaceSelector": {}})).unwrap();
    (ObjectKey::new(SYSTEM_NAMESPACE, format!("rule-{place:04}")), rule)
}

fn namespace(index: u32) -> String {
    format!("shop-{:03}", index % NAMESPACES)
}

fn pod(index: u32) -> (ObjectKey, Pod) {
    let node = index * 7 % NODES;
    let labels: Labels = [
        ("app", format!("a{}", index / NAMESPACES % 10)),
        ("tier", format!("t{}", index % 3)),
        ("pod-template-hash", format!("{:08x}", index % 997)),
        ("app.kubernetes.io/managed-by", "scale".to_owned()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into();
    let address = Ipv4Addr::from(0x0a80_0000 + node * 256 + index / NODES + 1);
    let pod = Pod {
        uid: format!("00000000-0000-0000-0000-{index:012}"),
        labels,
        addresses: vec![address],
        node: Some(format!("kwok-{node:03}")),
        ..Pod::default()
    };
    (ObjectKey::new(namespace(index), format!("pod-{index:05}")), pod)
}

fn object<S: serde::de::DeserializeOwned>(value: serde_json::Value) -> Object<S> {
    let meta = Meta { generation: 1, ..Meta::default() };
    Object { meta, spec: serde_json::from_value(value).unwrap() }
}

fn rule(index: u32) -> (ObjectKey, Object<IpRuleSpec>) {
    let place = index / NAMESPACES;
    let labels = match place % 10 {
        at @ 0..6 => json!({"app": format!("a{at}")}),
        at @ 6..9 => json!({"tier": format!("t{}", at - 6)}),
        _ => json!({}),
    };
    let network = format!("198.{}.{}.0/24", 18 + index / 256 % 2, index % 256);
    let spec = json!({
        "order": 100 + place, "action": "NAT",
        "source": {"podSelector": {"matchLabels": labels}},
        "destination": {"cidrs": [network, "203.0.113.0/24"], "except": ["203.0.113.128/25"]},
        "services": [{"name": "pptp"}, {"name": if place.is_multiple_of(2) { "web" } else { "dns" }}],
    });
    (ObjectKey::new(namespace(index), format!("rule-{place:03}")), object(spec))
}

fn world() -> World {
    let mut services: BTreeMap<ObjectKey, Object<ServiceSpec>> = BTreeMap::new();
    let mut algs: BTreeMap<ObjectKey, Object<PptpAlgSpec>> = BTreeMap::new();
    for name in (0..NAMESPACES).map(namespace) {
        let key = |service: &str| ObjectKey::new(name.as_str(), service);
        algs.insert(key("pptp"), object(json!({"echoTimeout": "180s"})));
        let pptp =
            json!({"protocol": "TCP", "destinationPorts": "1723", "algRef": {"kind": "PptpAlg", "name": "pptp"}});
        services.insert(key("pptp"), object(pptp));
        services.insert(key("web"), object(json!({"protocol": "TCP", "destinationPorts": "80,443"})));
        services.insert(key("dns"), object(json!({"protocol": "UDP", "destinationPorts": "53"})));
    }
    let nets = (0..NODES).map(|node| format!("10.{}.{}.0/24", 128 + node / 256, node % 256));
    let addresses = (0..NODES).map(|node| format!("10.64.{}.{}/32", node / 250, 1 + node % 250));
    World {
        cluster_nets: nets.chain(addresses).map(|net| net.parse().unwrap()).collect(),
        nodes: (0..NODES).map(|node| format!("kwok-{node:03}")).collect(),
        namespaces: (0..NAMESPACES).map(|index| (namespace(index), Labels::new())).collect(),
        pods: (0..PODS).map(pod).map(|(key, pod)| (key, pod.into())).collect(),
        algs,
        services,
        rules: (0..RULES).map(rule).collect(),
        ..World::cluster()
    }
}
