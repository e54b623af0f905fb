//! In a cluster: each node gets what its own pods need, and a namespace selects no further than itself.

use std::net::Ipv4Addr;

use callgate_compile::compile;
use callgate_compile::status::{Kind, ObjectRef};
use callgate_compile::world::World;
use callgate_crds::conditions::Reason;
use callgate_crds::{Action, Source};
use callgate_proto::model::{NodeConfig, ObjectKey, Source as Block};

use super::worlds::{from_nets, from_pods, labels, object, pod, rule, selector, tcp};

fn world() -> World {
    let system = |name: &str| ObjectKey::new("callgate-system", name);
    let pods = [
        ("pos", "till-1", pod("one", Ipv4Addr::new(10, 1, 0, 1), &[("app", "till")])),
        ("pos", "till-2", pod("two", Ipv4Addr::new(10, 1, 0, 2), &[("app", "till")])),
        ("pos", "lost", pod("gone", Ipv4Addr::new(10, 1, 0, 3), &[("app", "till")])),
        ("other", "till-1", pod("two", Ipv4Addr::new(10, 1, 0, 4), &[("app", "till")])),
    ];
    World {
        nodes: ["one", "three", "two"].map(str::to_owned).into(),
        namespaces: [("pos".to_owned(), labels(&[("team", "shop")]))].into(),
        pods: pods.into_iter().map(|(namespace, name, pod)| (ObjectKey::new(namespace, name), pod.into())).collect(),
        services: [(system("web"), object(tcp("80")))].into(),
        ..World::cluster()
    }
}

fn blocks(world: &World, node: &str) -> Vec<(String, Vec<String>)> {
    let compiled = compile(world, None);
    let config = &compiled.nodes[node];
    let rules = |chain: u32| -> Vec<String> {
        config.chains[chain as usize].iter().map(|rule| config.rules[*rule as usize].key.to_string()).collect()
    };
    config.sources.iter().map(|Block { net, chain }| (net.to_string(), rules(*chain))).collect()
}

#[test]
fn a_pod_is_a_source_of_its_own_node_and_of_no_other() {
    let mut world = world();
    let tills = rule(1, Action::Nat, from_pods(selector(&[("app", "till")])), &["web"]);
    world.rules.insert(ObjectKey::new("pos", "tills"), object(tills));
    let here = |address: &str| vec![(address.to_owned(), vec!["pos/tills".to_owned()])];
    assert_eq!(blocks(&world, "one"), here("10.1.0.1/32"));
    assert_eq!(blocks(&world, "two"), here("10.1.0.2/32"));
    assert_eq!(blocks(&world, "three"), []);
    let compiled = compile(&world, None);
    let status = &compiled.statuses[&ObjectRef { kind: Kind::IpRule, key: ObjectKey::new("pos", "tills") }];
    assert_eq!(*status.nodes, ["one", "two"].map(str::to_owned).into());
    assert_eq!(compiled.nodes["three"].rules, []);
}

#[test]
fn the_operators_namespace_selects_by_network_and_namespace_and_others_may_not() {
    let mut world = world();
    let by_namespace = Source { namespace_selector: Some(selector(&[("team", "shop")])), ..Source::default() };
    for namespace in ["callgate-system", "pos"] {
        let spec = rule(1, Action::Nat, from_nets(&["192.0.2.0/24"]), &["web"]);
        world.rules.insert(ObjectKey::new(namespace, "nets"), object(spec));
        let spec = rule(2, Action::Drop, by_namespace.clone(), &["web"]);
        world.rules.insert(ObjectKey::new(namespace, "shops"), object(spec));
    }
    let system = |name: &str| vec![format!("callgate-system/{name}")];
    assert_eq!(
        blocks(&world, "one"),
        [("10.1.0.1/32".to_owned(), system("shops")), ("192.0.2.0/24".to_owned(), system("nets"))]
    );
    assert_eq!(blocks(&world, "three"), [("192.0.2.0/24".to_owned(), system("nets"))]);
    let compiled = compile(&world, None);
    for (name, field) in [("nets", "spec.source.cidrs"), ("shops", "spec.source.namespaceSelector")] {
        let status = &compiled.statuses[&ObjectRef { kind: Kind::IpRule, key: ObjectKey::new("pos", name) }];
        let accepted = &status.conditions[0];
        assert_eq!((accepted.reason, accepted.findings[0].field.as_str()), (Reason::SourceNotAllowed, field));
        assert!(accepted.message.contains("only rules in namespace callgate-system"), "{}", accepted.message);
    }
}

#[test]
fn one_changed_pod_changes_one_source() {
    let mut world = world();
    let tills = rule(1, Action::Nat, from_pods(selector(&[("app", "till")])), &["web"]);
    world.rules.insert(ObjectKey::new("pos", "tills"), object(tills));
    let more = |low: u8| {
        (
            ObjectKey::new("pos", format!("till-{low}")),
            pod("one", Ipv4Addr::new(10, 1, 1, low), &[("app", "till")]).into(),
        )
    };
    world.pods.extend((0..=200).map(more));
    let before = NodeConfig::clone(&compile(&world, None).nodes["one"]);
    world.pods.remove(&ObjectKey::new("pos", "till-100"));
    let mut expected = before.clone();
    expected.sources.retain(|block| block.net.addr() != Ipv4Addr::new(10, 1, 1, 100));
    assert_eq!(expected.sources.len() + 1, before.sources.len());
    assert_eq!(*compile(&world, None).nodes["one"], expected);
}
