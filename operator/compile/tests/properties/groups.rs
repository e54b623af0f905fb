//! Groups that name each other in every way: what they cost is their size, not the number of ways through them.

use callgate_compile::compile;
use callgate_compile::world::World;
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
