//! What the worst that one tenant can write costs the operator: `cargo run --profile measure -p callgate-compile --example worst`.
//!
//! Each case is one namespace of a cluster of 100 nodes, with no more rights than to write rules and services of its own.
// A tool of developers: it may end with a panic.
#![allow(clippy::unwrap_used)]

use std::net::Ipv4Addr;
use std::time::Instant;

use callgate_compile::world::{Meta, Object, Pod, World};
use callgate_compile::{Compiler, Since};
use callgate_crds::conditions::Reason;
use callgate_proto::model::ObjectKey;
use serde_json::{Value, json};

const NODES: u32 = 100;

fn main() {
    let only = std::env::args().nth(1);
    for (what, make) in CASES {
        if only.as_ref().is_none_or(|only| what.contains(only.as_str())) {
            told(what, make());
        }
    }
}

/// Makes a world.
type Make = fn() -> World;

const CASES: [(&str, Make); 9] = [
    ("200 rules, each with the same 1,000 services", || {
        let mut world = services(1_000, "s");
        groups(&mut world, 1, 1_000);
        rules(&mut world, 200, |_| json!({"destination": {"cidrs": ["192.0.2.0/24"]}, "services": [{"name": "g0"}]}));
        world
    }),
    ("2,000 rules, each with the same 1,000 services, another one and another destination", || {
        let mut world = services(3_000, "s");
        groups(&mut world, 1, 1_000);
        rules(&mut world, 2_000, |n| {
            let cidr = format!("198.{}.{}.0/24", 18 + n / 256, n % 256);
            let services = json!([{"name": "g0"}, {"name": format!("s{}", 1_000 + n)}]);
            json!({"destination": {"cidrs": [cidr]}, "services": services})
        });
        world
    }),
    ("2,000 groups of the same 1,000 services, one rule", || {
        let mut world = services(1_000, "s");
        groups(&mut world, 2_000, 1_000);
        rules(&mut world, 1, |_| json!({"services": [{"name": "g0"}]}));
        world
    }),
    ("50 rules, each with 64 names that are not there, and 2,000 services of long names", || {
        let long = "a".repeat(240);
        let mut world = services(2_000, &long);
        rules(&mut world, 50, |n| {
            let names: Vec<Value> = (0..64).map(|m| json!({"name": format!("{long}-{n}-{m}")})).collect();
            json!({"services": names})
        });
        world
    }),
    ("2,000 rules that except 256 addresses each", || {
        let mut world = services(1, "s");
        rules(&mut world, 2_000, |n| {
            let except: Vec<String> = (0..256).map(|m| format!("{}.{}.{m}.1/32", 20 + n % 100, m * 7 % 256)).collect();
            json!({"destination": {"cidrs": ["0.0.0.0/0"], "except": except}, "services": [{"name": "s0"}]})
        });
        world
    }),
    ("100 rules that ask for 2,000 labels each", || {
        let mut world = services(1, "s");
        rules(&mut world, 100, |n| {
            let labels: serde_json::Map<String, Value> =
                (0..2_000).map(|m| (format!("l{n}-{m}"), json!("x"))).collect();
            json!({"source": {"podSelector": {"matchLabels": labels}}, "services": [{"name": "s0"}]})
        });
        world
    }),
    ("1,000 rules that ask for sixteen sets of values of one label", || {
        let mut world = services(1, "s");
        rules(&mut world, 1_000, |n| {
            let of = |m: u32| (0..63).map(|value| format!("v{value}")).chain([format!("x{n}-{m}")]).collect::<Vec<_>>();
            let all: Vec<Value> =
                (0..16).map(|m| json!({"key": "pod", "operator": "NotIn", "values": of(m)})).collect();
            json!({"source": {"podSelector": {"matchExpressions": all}}, "services": [{"name": "s0"}]})
        });
        world
    }),
    ("6,250 rules for every pod, each with a service of its own", || {
        let mut world = services(6_250, "s");
        rules(&mut world, 6_250, |n| json!({"services": [{"name": format!("s{n}")}]}));
        world
    }),
    ("4,000 rules that drop, each for other pods of a node", || {
        let mut world = services(1, "s");
        rules(&mut world, 4_000, |n| {
            let pods =
                json!({"matchExpressions": [{"key": "pod", "operator": "NotIn", "values": [format!("p{}", n % 100)]}]});
            json!({"action": "Drop", "source": {"podSelector": pods}, "services": [{"name": "s0"}],
                   "destination": {"cidrs": [format!("198.18.{}.{}/32", n / 256, n % 256)]}})
        });
        for (key, pod) in (10_000..10_100).map(pod) {
            world.pods.insert(key, Pod { node: Some("node-000".to_owned()), ..pod }.into());
        }
        world
    }),
];

fn told(what: &str, mut world: World) {
    let mut compiler = Compiler::default();
    let began = Instant::now();
    let compiled = compiler.compile(&world);
    let scratch = began.elapsed();
    let largest = compiled.nodes.values().map(|config| config.encode().len()).max();
    let refused = compiled.statuses.values().filter(|status| status.conditions[0].reason == Reason::TooMany).count();
    drop(compiled);
    let (key, pod) = pod(99_999);
    world.pods.insert(key.clone(), pod.into());
    let began = Instant::now();
    drop(compiler.compile_since(&world, &Since::Pods([key].into())));
    let more = began.elapsed();
    println!(
        "{what}:\n  from scratch {scratch:.1?}, one pod more {more:.1?}, largest node {largest:?} octets, {refused} refused"
    );
}

fn object<S: serde::de::DeserializeOwned>(value: Value) -> Object<S> {
    Object { meta: Meta { generation: 1, ..Meta::default() }, spec: serde_json::from_value(value).unwrap() }
}

fn key(name: String) -> ObjectKey {
    ObjectKey::new("tenant", name)
}

/// A world of so many services of TCP, and a pod on each node.
fn services(count: u32, name: &str) -> World {
    let service = |n: u32| object(json!({"protocol": "TCP", "destinationPorts": (n + 1).to_string()}));
    World {
        nodes: (0..NODES).map(|node| format!("node-{node:03}")).collect(),
        pods: (0..NODES).map(pod).map(|(key, pod)| (key, pod.into())).collect(),
        services: (0..count).map(|n| (key(format!("{name}{n}")), service(n))).collect(),
        ..World::cluster()
    }
}

/// So many groups `g0`, `g1`, … of the first `size` services, by way of groups of 64.
fn groups(world: &mut World, count: u32, size: u32) {
    let member = |name: String| json!({"name": name});
    let inner = size.div_ceil(64);
    for group in 0..inner {
        let members: Vec<Value> = (group * 64..size.min(group * 64 + 64)).map(|n| member(format!("s{n}"))).collect();
        world.services.insert(key(format!("inner{group}")), object(json!({"members": members})));
    }
    for group in 0..count {
        let members: Vec<Value> = (0..inner).map(|n| member(format!("inner{n}"))).collect();
        world.services.insert(key(format!("g{group}")), object(json!({"members": members})));
    }
}

fn rules(world: &mut World, count: u32, fields: impl Fn(u32) -> Value) {
    for n in 0..count {
        let mut spec = json!({"order": n, "action": "NAT", "source": {"podSelector": {}}});
        for (field, value) in fields(n).as_object().unwrap() {
            spec[field] = value.clone();
        }
        world.rules.insert(key(format!("rule-{n:05}")), object(spec));
    }
}

fn pod(index: u32) -> (ObjectKey, Pod) {
    let pod = Pod {
        labels: [("pod".to_owned(), format!("p{}", index % 100))].into(),
        addresses: vec![Ipv4Addr::from(0x0a00_0000 + index)],
        node: Some(format!("node-{:03}", index % NODES)),
        ..Pod::default()
    };
    (key(format!("pod-{index:05}")), pod)
}
