//! What one namespace may have of a node, and of the operator: it gets no more, and nobody else gets less for it.

use std::net::Ipv4Addr;

use callgate_compile::compile;
use callgate_compile::status::{Kind, ObjectRef};
use callgate_compile::world::{Object, World};
use callgate_crds::conditions::Reason;
use callgate_crds::fields::Cidr;
use callgate_crds::{Action, IpRuleSpec, ServiceRef, ServiceSpec};
use callgate_proto::model::ObjectKey;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

use super::worlds::{from_pods, object, pod, rule, selector, tcp};

const SYSTEM: &str = "callgate-system";

/// One node; each of these namespaces has a pod there, and service `web`.
fn world(namespaces: &[&str]) -> World {
    let mut world = World { nodes: ["a".to_owned()].into(), ..World::cluster() };
    world.services.insert(ObjectKey::new(SYSTEM, "web"), object(tcp("80")));
    for (number, namespace) in (1u8..).zip(namespaces) {
        let pod = pod("a", Ipv4Addr::new(10, 1, 0, number), &[("app", "till")]);
        world.pods.insert(ObjectKey::new(*namespace, "till"), pod.into());
    }
    world
}

/// For every pod of its namespace, and a destination of its own. Its number is its order, and by it it is found again.
fn numbered(number: u32, action: Action, service: &str) -> Object<IpRuleSpec> {
    let mut spec = rule(number, action, from_pods(selector(&[])), &[service]);
    spec.destination.cidrs = vec![Cidr(format!("198.{}.{}.0/24", number / 256, number % 256))];
    object(spec)
}

fn add(world: &mut World, namespace: &str, numbers: std::ops::Range<u32>, action: Action, service: &str) {
    for number in numbers {
        world.rules.insert(ObjectKey::new(namespace, format!("r-{number:05}")), numbered(number, action, service));
    }
}

/// Gives `namespace` a group `many` of so many services of one port each.
fn many(world: &mut World, namespace: &str, count: usize) {
    let named = |name: String| ServiceRef { name, namespace: None };
    let group = |members| ServiceSpec { protocol: None, destination_ports: None, members, ..tcp("80") };
    let names: Vec<String> = (0..count).map(|number| format!("s-{number:04}")).collect();
    for (port, name) in (1u16..).zip(&names) {
        world.services.insert(ObjectKey::new(namespace, name.as_str()), object(tcp(&port.to_string())));
    }
    let mut groups = Vec::new();
    for (number, names) in names.chunks(64).enumerate() {
        let name = format!("g-{number}");
        let members = names.iter().cloned().map(named).collect();
        world.services.insert(ObjectKey::new(namespace, name.as_str()), object(group(members)));
        groups.push(named(name));
    }
    world.services.insert(ObjectKey::new(namespace, "many"), object(group(groups)));
}

/// How many rules of each namespace run on the node, and of those that do not, how many and the message of the first.
fn told(world: &World, namespaces: &[&str]) -> Vec<(usize, usize, String)> {
    let compiled = compile(world, None);
    let of = |namespace: &&str| {
        let runs = compiled.nodes["a"].rules.iter().filter(|rule| rule.key.namespace == **namespace).count();
        let refused: Vec<String> = compiled
            .statuses
            .iter()
            .filter(|(object, _)| object.kind == Kind::IpRule && object.key.namespace == **namespace)
            .filter(|(_, status)| status.conditions[0].reason == Reason::TooMany)
            .map(|(object, status)| format!("{object}: {}", status.conditions[0].message))
            .collect();
        (runs, refused.len(), refused.into_iter().next().unwrap_or_default())
    };
    namespaces.iter().map(of).collect()
}

#[test]
fn a_namespace_that_asks_for_rules_times_services_gets_as_many_as_it_may_have_first_ones_first() {
    let mut world = world(&["pos"]);
    many(&mut world, "pos", 1_000);
    add(&mut world, "pos", 0..20, Action::Nat, "many");
    let message = "IpRule pos/r-00007: spec: it comes to 7001 entries of a node's table and values of selectors, and the rules before it leave \
                   993 of the 50000 that namespace pos may have: name fewer services, networks and values, or delete rules.";
    assert_eq!(told(&world, &["pos"]), [(7, 13, message.to_owned())]);
    // One that comes before them takes the place of the last that had one.
    world.rules.get_mut(&ObjectKey::new("pos", "r-00019")).unwrap().spec.order = 0;
    let compiled = compile(&world, None);
    let status = |name: &str| {
        let object = ObjectRef { kind: Kind::IpRule, key: ObjectKey::new("pos", name) };
        compiled.statuses[&object].conditions[0].reason
    };
    assert_eq!(["r-00019", "r-00006"].map(status), [Reason::Accepted, Reason::TooMany]);
}

#[test]
fn a_namespace_is_counted_the_values_of_its_selectors_too() {
    let mut world = world(&["pos"]);
    let values = |number: u32| -> Vec<String> { (0..64).map(|value| format!("v{number}-{value}")).collect() };
    for number in 0..60u32 {
        let expressions = (0..16).map(|expression| LabelSelectorRequirement {
            key: "app".to_owned(),
            operator: "NotIn".to_owned(),
            values: Some(values(number * 16 + expression)),
        });
        let mut rule = numbered(number, Action::Drop, "web");
        rule.spec.source.pod_selector =
            Some(LabelSelector { match_labels: None, match_expressions: Some(expressions.collect()) });
        world.rules.insert(ObjectKey::new("pos", format!("r-{number:05}")), rule);
    }
    let message = "IpRule pos/r-00048: spec: it comes to 1032 entries of a node's table and values of selectors, and the rules \
                   before it leave 464 of the 50000 that namespace pos may have: name fewer services, networks and values, or \
                   delete rules.";
    assert_eq!(told(&world, &["pos"]), [(48, 12, message.to_owned())]);
}

#[test]
fn what_the_operators_namespace_has_is_its_nodes_affair_alone() {
    let mut world = world(&[SYSTEM]);
    many(&mut world, SYSTEM, 1_000);
    add(&mut world, SYSTEM, 0..20, Action::Nat, "many");
    let message = "IpRule callgate-system/r-00014: spec: it comes to 7002 entries of the table of node a, and the rules before it \
                   leave 1972 of the 100000 that rules may have there: name fewer services and networks, or select pods of one \
                   node in fewer different ways.";
    assert_eq!(told(&world, &[SYSTEM]), [(14, 6, message.to_owned())]);
}

#[test]
fn lists_that_the_rules_of_a_namespace_make_cost_it_the_operators_rules_in_them_and_push_none_of_these_out() {
    let mut world = world(&[]);
    for number in 0..110u8 {
        let own = pod("a", Ipv4Addr::new(10, 1, 0, number), &[("pod", &number.to_string())]);
        world.pods.insert(ObjectKey::new("pos", format!("till-{number:03}")), own.into());
        let source = from_pods(selector(&[("pod", &number.to_string())]));
        let own = object(rule(number.into(), Action::Drop, source, &["web"]));
        world.rules.insert(ObjectKey::new("pos", format!("own-{number:03}")), own);
    }
    assert_eq!(told(&world, &["pos"]), [(110, 0, String::new())]);
    // 9 each: a service with one port, a destination, the one list that there would be without the others.
    add(&mut world, SYSTEM, 1_000..1_900, Action::Drop, "web");
    for number in 1_000..1_900 {
        let rule = world.rules.get_mut(&ObjectKey::new(SYSTEM, format!("r-{number:05}"))).unwrap();
        rule.spec.source.namespace_selector = Some(selector(&[]));
    }
    let message = "IpRule pos/own-101: spec: it comes to 909 entries of the table of node a, and the rules before it leave 91 of the \
                   91900 that rules of namespace pos may have there: name fewer services and networks, or select pods of one node \
                   in fewer different ways.";
    assert_eq!(told(&world, &[SYSTEM, "pos"]), [(900, 0, String::new()), (101, 9, message.to_owned())]);
}

#[test]
fn a_namespace_that_wants_a_whole_node_takes_nothing_from_one_that_wants_little() {
    let mut world = world(&["greedy", "little", "more"]);
    for namespace in ["greedy", "more"] {
        many(&mut world, namespace, 1_000);
        add(&mut world, namespace, 0..7, Action::Nat, "many");
    }
    // Last in match order, and every one of them runs.
    add(&mut world, "little", 60_000..60_200, Action::Nat, "web");
    let told = told(&world, &["greedy", "little", "more"]);
    assert_eq!(told[1], (200, 0, String::new()));
    // 98,200 are left for the two of them.
    assert_eq!([told[0].0, told[0].1, told[2].0, told[2].1], [7, 0, 7, 0]);
    many(&mut world, "little", 500);
    add(&mut world, "little", 60_200..60_205, Action::Nat, "many");
    let told = self::told(&world, &["greedy", "little", "more"]);
    assert_eq!(told.iter().map(|(runs, refused, _)| (*runs, *refused)).collect::<Vec<_>>(), [(5, 2), (205, 0), (5, 2)]);
    assert!(told[0].2.contains("of the 40345 that rules of namespace greedy may have there"), "{}", told[0].2);
}

#[test]
fn what_runs_nowhere_shadows_nobody() {
    let mut world = world(&[SYSTEM]);
    many(&mut world, SYSTEM, 1_000);
    let spec = |order, cidr: &str, service: &str| {
        let mut spec = rule(order, Action::Drop, from_pods(selector(&[])), &[service]);
        spec.destination.cidrs = vec![Cidr(cidr.to_owned())];
        object(spec)
    };
    let told = |world: &World| {
        let compiled = compile(world, None);
        ["wide", "narrow"].map(|name| {
            let object = ObjectRef { kind: Kind::IpRule, key: ObjectKey::new(SYSTEM, name) };
            (compiled.statuses[&object].conditions[0].reason, compiled.statuses[&object].nodes.len())
        })
    };
    world.rules.insert(ObjectKey::new(SYSTEM, "wide"), spec(1, "203.0.113.0/24", "many"));
    world.rules.insert(ObjectKey::new(SYSTEM, "narrow"), spec(20, "203.0.113.7/32", "s-0000"));
    assert_eq!(told(&world), [(Reason::Accepted, 1), (Reason::Shadowed, 1)]);
    // Fourteen rules of a thousand services before it leave the wide one no room.
    for number in 0..14 {
        let rule = spec(0, &format!("198.51.100.{number}/32"), "many");
        world.rules.insert(ObjectKey::new(SYSTEM, format!("r-{number:02}")), rule);
    }
    assert_eq!(told(&world), [(Reason::TooMany, 0), (Reason::Accepted, 1)]);
}

#[test]
fn the_numbers_of_a_node_are_shared_too_and_rules_of_low_order_push_nobody_out() {
    let mut world = world(&["greedy", "little"]);
    add(&mut world, "greedy", 0..2_046, Action::Nat, "web");
    add(&mut world, "little", 60_000..60_010, Action::Nat, "web");
    let message = "IpRule greedy/r-02036: spec: the rules before it leave 0 of the 2036 numbers by which node a tells flows of \
                   namespace greedy apart, and it takes 1: join rules that differ only in source, destination or service.";
    assert_eq!(told(&world, &["greedy", "little"]), [(2_036, 10, message.to_owned()), (10, 0, String::new())]);
}

#[test]
fn rules_are_counted_for_every_different_list_that_pods_of_a_node_make_of_them() {
    let mut world = world(&[]);
    for number in 0..100u8 {
        let own = pod("a", Ipv4Addr::new(10, 1, 0, number), &[("pod", &number.to_string())]);
        world.pods.insert(ObjectKey::new("pos", format!("till-{number:03}")), own.into());
    }
    // Each pod has all of 2,000 rules and one of its own.
    add(&mut world, "pos", 0..2_000, Action::Drop, "web");
    for number in 0..100u32 {
        let mut spec =
            rule(3_000 + number, Action::Drop, from_pods(selector(&[("pod", &number.to_string())])), &["web"]);
        spec.destination.cidrs = vec![Cidr("203.0.113.0/24".to_owned())];
        world.rules.insert(ObjectKey::new("pos", format!("own-{number:03}")), object(spec));
    }
    // 108 each: 100 lists, a service with one port, a destination.
    let told = told(&world, &["pos"]);
    let ([(runs, refused, _)], whole) = (&told[..], 100_000 / 108) else { panic!("{told:?}") };
    assert_eq!(runs + refused, 2_100);
    assert!((whole..whole + 100).contains(runs), "{runs} run");
}
