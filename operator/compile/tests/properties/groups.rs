//! Groups that name each other in every way: what they cost is their size, not the number of ways through them; and how much of them
//! a namespace may have.

use std::collections::BTreeSet;

use callgate_compile::status::{Condition, ObjectRef};
use callgate_compile::world::World;
use callgate_compile::{Compiler, Limits, compile};
use callgate_crds::conditions::Reason;
use callgate_crds::{Action, Kind, ServiceRef, ServiceSpec};
use callgate_proto::model::ObjectKey;

use super::worlds::{from_nets, object, rule, tcp};

const WIDTH: usize = 64;

fn group(members: impl Iterator<Item = String>) -> ServiceSpec {
    let members = members.map(|name| ServiceRef { name, namespace: None }).collect();
    ServiceSpec { protocol: None, destination_ports: None, members, ..tcp("80") }
}

/// `levels` of 64 groups; each names every group of the next level, and those of the last name `bottom`.
fn levels(levels: usize, bottom: &[&str]) -> World {
    let mut world = World::standalone();
    world.services.insert(ObjectKey::new("pos", "web"), object(tcp("80")));
    for level in 0..levels {
        for number in 0..WIDTH {
            let spec = match level + 1 == levels {
                true => group(bottom.iter().map(|name| (*name).to_owned())),
                false => group((0..WIDTH).map(|inner| format!("g{}-{inner}", level + 1))),
            };
            world.services.insert(ObjectKey::new("pos", format!("g{level}-{number}")), object(spec));
        }
    }
    let spec = rule(1, Action::Nat, from_nets(&["10.0.0.0/8"]), &["g0-0"]);
    world.rules.insert(ObjectKey::new("pos", "r"), object(spec));
    world
}

#[test]
fn eight_levels_of_groups_that_all_name_each_other_come_to_one_service() {
    let compiled = compile(&levels(7, &["web"]), None);
    let config = &compiled.nodes["standalone"];
    assert_eq!((config.rules.len(), config.services.len()), (1, 1));
    assert!(compiled.statuses.values().all(|status| status.is_good()));
}

#[test]
fn groups_that_lead_back_to_the_first_are_refused_and_say_so() {
    let compiled = compile(&levels(7, &["g0-0", "web"]), None);
    assert_eq!(compiled.nodes["standalone"].rules.len(), 0);
    let circles = compiled.statuses.iter().filter(|(at, status)| {
        at.kind == Kind::Service && status.conditions.iter().any(|condition| condition.reason == Reason::GroupCycle)
    });
    assert!(circles.count() >= 1);
}

/// Puts groups into `namespace`, each made at a second and with members, and services `a`, `b`, `c`.
fn groups(world: &mut World, namespace: &str, groups: &[(&str, i64, &[&str])]) {
    for (name, created, members) in groups {
        let mut spec = object(group(members.iter().map(|name| (*name).to_owned())));
        spec.meta.created = Some(jiff::Timestamp::from_second(*created).unwrap());
        world.services.insert(ObjectKey::new(namespace, *name), spec);
    }
    for name in ["a", "b", "c"] {
        world.services.insert(ObjectKey::new(namespace, name), object(tcp("80")));
    }
}

/// Reason and message of the condition Accepted of groups of `namespace`, where five services are all that groups may come to.
fn accepted<const N: usize>(world: &World, namespace: &str, names: [&str; N]) -> [String; N] {
    let limits = Limits { leaves_of_namespace: 5, ..Limits::default() };
    let compiled = Compiler::limited(limits, None).compile(world);
    let of = |name: &str| {
        let at = ObjectRef { kind: Kind::Service, key: ObjectKey::new(namespace, name) };
        let Condition { reason, message, .. } = &compiled.statuses[&at].conditions[0];
        format!("{} {message}", reason.name())
    };
    names.map(of)
}

#[test]
fn groups_that_come_to_more_than_their_namespace_may_have_are_refused_the_newest_first_and_whole() {
    let mut world = World::cluster();
    groups(&mut world, "pos", &[("y", 2, &["a", "b"]), ("z", 1, &["a", "b"]), ("x", 3, &["a", "b", "c"])]);
    // What another namespace has is nobody else's affair.
    groups(&mut world, "web", &[("w", 9, &["a", "b", "c"])]);
    let good = "Accepted Valid.".to_owned();
    let refused =
        "TooMany spec.members: its members come to 3 services, and older groups leave 1 of the 5 that groups of \
                   namespace pos may come to: name fewer services, or delete groups."
            .to_owned();
    assert_eq!(accepted(&world, "pos", ["z", "y", "x"]), [good.clone(), good.clone(), refused.clone()]);
    assert_eq!(accepted(&world, "web", ["w"]), [good.as_str()]);
    // One that comes after it and is small enough still has room.
    groups(&mut world, "pos", &[("v", 4, &["c"])]);
    assert_eq!(accepted(&world, "pos", ["y", "x", "v"]), [good.clone(), refused, good]);
}

#[test]
fn a_group_in_a_group_counts_as_all_it_comes_to_and_an_old_one_does_not_go_for_a_new_one() {
    let mut world = World::cluster();
    groups(&mut world, "pos", &[("outer", 1, &["new", "a"]), ("old", 2, &["c"]), ("new", 3, &["a", "b"])]);
    let good = "Accepted Valid.".to_owned();
    let refused =
        "TooMany spec.members: its members come to 2 services, and older groups leave 1 of the 5 that groups of \
                   namespace pos may come to: name fewer services, or delete groups."
            .to_owned();
    assert_eq!(accepted(&world, "pos", ["outer", "old", "new"]), [good.clone(), good, refused]);
}

#[test]
fn groups_of_the_operators_namespace_and_of_a_standalone_are_not_counted() {
    let all: &[(&str, i64, &[&str])] = &[("x", 1, &["a", "b", "c"]), ("y", 2, &["a", "b", "c"])];
    let mut cluster = World::cluster();
    groups(&mut cluster, "callgate-system", all);
    let mut standalone = World::standalone();
    groups(&mut standalone, "pos", all);
    let good = || ["Accepted Valid."; 2].map(str::to_owned);
    assert_eq!(accepted(&cluster, "callgate-system", ["x", "y"]), good());
    assert_eq!(accepted(&standalone, "pos", ["x", "y"]), good());
}

#[test]
fn a_group_of_more_than_1024_services_is_refused_and_so_is_a_rule_of_two_groups_that_come_to_more() {
    let mut world = World::standalone();
    for number in 0..1_088 {
        world.services.insert(ObjectKey::new("pos", format!("s-{number:04}")), object(tcp("80")));
    }
    for part in 0..17 {
        let spec = group((0..WIDTH).map(|number| format!("s-{:04}", part * WIDTH + number)));
        world.services.insert(ObjectKey::new("pos", format!("part-{part:02}")), object(spec));
    }
    for (name, parts) in [("most", 0..16), ("all", 0..17), ("last", 16..17)] {
        let spec = group(parts.map(|part| format!("part-{part:02}")));
        world.services.insert(ObjectKey::new("pos", name), object(spec));
    }
    let spec = rule(1, Action::Nat, from_nets(&["10.0.0.0/8"]), &["most", "last"]);
    world.rules.insert(ObjectKey::new("pos", "r"), object(spec));
    let compiled = compile(&world, None);
    let told: Vec<String> = compiled
        .statuses
        .iter()
        .filter(|(_, status)| !status.is_good())
        .map(|(at, status)| format!("{at}: {}", status.conditions[0].message))
        .collect();
    let rule = "IpRule pos/r: spec.services: they come to more than 1024 services with their groups: make several rules of it.";
    let group = "Service pos/all: spec.members: the group comes to more than 1024 services: split it.";
    assert_eq!(told.into_iter().collect::<BTreeSet<_>>(), [rule, group].map(str::to_owned).into());
}
