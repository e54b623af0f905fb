//! Whatever happens in a cluster: what is kept from one compile to the next is what would be made anew.

use callgate_compile::world::{Meta, Object};
use callgate_compile::{Compiler, compile};
use callgate_crds::{IpRuleSpec, ServiceSpec};
use callgate_proto::pb;
use kube::runtime::watcher::Event;
use proptest::prelude::*;

use super::*;
use crate::facts::{Holders, NodeFact, PodFact, cluster_key};

const NAMESPACE: &str = "pos";

/// One thing that a watch tells.
#[derive(Debug, Clone)]
enum Told {
    Pod(u8, PodFact),
    PodGone(u8),
    /// A whole list read anew.
    Pods(Vec<(u8, PodFact)>),
    Node(bool),
    Rule(bool),
    /// The operator compiles now.
    Compile,
}

fn name(number: u8) -> ObjectKey {
    ObjectKey::new(NAMESPACE, format!("p{number}"))
}

/// Few addresses, so that pods fight for them.
fn fact() -> impl Strategy<Value = PodFact> {
    let pod = (0..3u8, proptest::collection::vec(1..5u8, 0..3), 0..3u8, 0..12u8, 0..2u32);
    let pod = pod.prop_map(|(uid, addresses, app, odd, restarts)| Pod {
        uid: uid.to_string(),
        labels: [("app".to_owned(), app.to_string())].into(),
        addresses: addresses.into_iter().map(|last| Ipv4Addr::new(10, 244, 0, last)).collect(),
        node: Some(if uid == 0 { "a" } else { "b" }.to_owned()),
        host_network: odd == 0,
        finished: odd == 1,
        restarts,
        ..Pod::default()
    });
    (pod, any::<bool>(), 0..3i64).prop_map(|(pod, deleting, second)| PodFact {
        pod: Arc::new(pod),
        deleting,
        started: (second > 0).then(|| jiff::Timestamp::from_second(second).unwrap()),
    })
}

fn told() -> impl Strategy<Value = Told> {
    prop_oneof![
        8 => (0..6u8, fact()).prop_map(|(number, fact)| Told::Pod(number, fact)),
        3 => (0..6u8).prop_map(Told::PodGone),
        1 => proptest::collection::vec((0..6u8, fact()), 0..5).prop_map(Told::Pods),
        1 => any::<bool>().prop_map(Told::Node),
        1 => any::<bool>().prop_map(Told::Rule),
        6 => Just(Told::Compile),
    ]
}

fn put<T: PartialEq + Clone>(table: &mut crate::facts::Table<T>, key: ObjectKey, fact: T, there: bool) {
    let event = if there { Event::Apply(()) } else { Event::Delete(()) };
    table.absorb(&event, |()| key.clone(), |()| fact.clone());
}

fn rule() -> IpRuleSpec {
    serde_json::from_value(serde_json::json!({
        "order": 1, "action": "Drop", "services": [{"name": "tcp"}],
        "source": {"podSelector": {"matchLabels": {"app": "1"}}},
    }))
    .unwrap()
}

fn absorb(facts: &mut Facts, told: Told) {
    let pod = |facts: &mut Facts, event: &Event<(u8, PodFact)>| {
        facts.pods.absorb(event, |(number, _)| name(*number), |(_, fact)| fact.clone());
    };
    match told {
        Told::Pod(number, fact) => pod(facts, &Event::Apply((number, fact))),
        Told::PodGone(number) => {
            if let Some(fact) = facts.pods.get(&name(number)).cloned() {
                pod(facts, &Event::Delete((number, fact)));
            }
        }
        Told::Pods(all) => {
            pod(facts, &Event::Init);
            all.into_iter().for_each(|one| pod(facts, &Event::InitApply(one)));
            pod(facts, &Event::InitDone);
        }
        Told::Node(there) => put(&mut facts.nodes, cluster_key("b"), NodeFact::default(), there),
        Told::Rule(there) => {
            let rule = Object { meta: Meta::default(), spec: rule() };
            put(&mut facts.rules, ObjectKey::new(NAMESPACE, "other"), rule, there);
        }
        Told::Compile => {}
    }
}

proptest! {
    #[test]
    fn what_is_kept_through_anything_a_watch_tells_is_what_would_be_made_anew(all in proptest::collection::vec(told(), 1..40)) {
        let settings = Settings { namespace: "callgate-system".to_owned(), cluster_cidrs: Vec::new() };
        let mut facts = Facts::default();
        put(&mut facts.nodes, cluster_key("a"), NodeFact::default(), true);
        let mut first = rule();
        first.source = serde_json::from_value(serde_json::json!({"podSelector": {"matchLabels": {"app": "2"}}})).unwrap();
        let first = Object { meta: Meta::default(), spec: first };
        put(&mut facts.rules, ObjectKey::new(NAMESPACE, "rule"), first, true);
        let tcp: ServiceSpec = serde_json::from_value(serde_json::json!({"protocol": "TCP"})).unwrap();
        let tcp = Object { meta: Meta::default(), spec: tcp };
        put(&mut facts.services, ObjectKey::new(NAMESPACE, "tcp"), tcp, true);
        let (mut kept, mut compiler, mut holders) = (World::cluster(), Compiler::new(None), Holders::default());
        let (mut last_good, mut before) = (None, None::<Vec<(String, Vec<pb::Holder>)>>);
        for told in all.into_iter().chain([Told::Compile]) {
            let compiles = matches!(told, Told::Compile);
            absorb(&mut facts, told);
            if !compiles {
                continue;
            }
            let since = update(&mut kept, &mut facts, &settings);
            let anew = world(&facts, &settings);
            prop_assert_eq!(&kept, &anew);
            let scratch = compile(&anew, last_good.as_ref());
            let compiled = compiler.compile_since(&kept, &since);
            prop_assert_eq!(&compiled, &scratch);
            let touched = holders.follow(&kept, &since);
            let of = |holders: &Holders| -> Vec<(String, Vec<pb::Holder>)> {
                compiled.nodes.iter().map(|(node, config)| (node.clone(), holders.of_config(config))).collect()
            };
            let now = of(&holders);
            prop_assert_eq!(&now, &of(&Holders::of(&anew)));
            // A node whose configuration is the same has other holders only if it is named.
            if let Some(before) = before {
                for (node, held) in &now {
                    let was = before.iter().find(|(name, _)| name == node).map(|(_, held)| held);
                    let addresses = |held: &[pb::Holder]| held.iter().map(|holder| holder.address).collect::<Vec<_>>();
                    if was.is_some_and(|was| addresses(was) == addresses(held) && was != held) {
                        prop_assert!(touched.contains(node), "{} has other holders", node);
                    }
                }
            }
            before = Some(now);
            last_good = Some(scratch.last_good);
        }
    }
}
