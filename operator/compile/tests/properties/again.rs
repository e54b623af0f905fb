//! One compile after the other: whatever is kept from one to the next, the result is that of a compile from scratch.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use callgate_compile::world::{Labels, World};
use callgate_compile::{Compiler, Since, compile};
use proptest::prelude::*;

use super::worlds::world;

/// Two worlds with the objects of either, so that each edit takes some away, adds some and changes some.
#[derive(Debug, Clone)]
enum Edit {
    /// Pods alone, which is what changes all the time.
    Pods,
    /// Labels of namespaces.
    Namespaces,
    Rules,
    /// Also what goes on running because something it names has gone.
    Services,
    Networks,
    Nodes,
}

fn edit() -> impl Strategy<Value = (Edit, World)> {
    let edits = prop_oneof![
        5 => Just(Edit::Pods),
        1 => Just(Edit::Namespaces),
        1 => Just(Edit::Rules),
        1 => Just(Edit::Services),
        1 => Just(Edit::Networks),
        1 => Just(Edit::Nodes),
    ];
    (edits, world())
}

/// In a cluster of three nodes, where pods are by their names.
fn placed(mut world: World) -> World {
    world.standalone = false;
    world.nodes = ["a", "b", "c"].map(str::to_owned).into();
    for (key, pod) in &mut world.pods {
        let nodes = ["a", "b", "c", "gone"];
        Arc::make_mut(pod).node =
            Some(nodes[key.name.bytes().map(usize::from).sum::<usize>() % nodes.len()].to_owned());
    }
    world
}

/// Returns by what the world may differ now.
fn apply(world: &mut World, edit: Edit, other: World) -> Since {
    match edit {
        Edit::Pods => {
            // Half of the pods stay as they are; of those that are named some have not changed either.
            let mut touched: BTreeSet<_> = world.pods.keys().step_by(4).cloned().collect();
            for (at, (key, pod)) in other.pods.into_iter().enumerate() {
                touched.insert(key.clone());
                match at % 3 {
                    0 => drop(world.pods.remove(&key)),
                    _ => drop(world.pods.insert(key, pod)),
                }
            }
            return Since::Pods(touched);
        }
        Edit::Namespaces => {
            world.namespaces = other.namespaces.into_iter().collect::<BTreeMap<String, Labels>>();
        }
        Edit::Rules => world.rules = other.rules,
        Edit::Services => {
            if world.services.len() == other.services.len() {
                world.services.pop_first();
            } else {
                world.services = other.services;
            }
        }
        Edit::Networks => world.cluster_nets.push("10.0.0.0/26".parse().unwrap()),
        Edit::Nodes => {
            if !world.nodes.remove("b") {
                world.nodes.insert("b".to_owned());
            }
        }
    }
    Since::Everything
}

proptest! {
    #[test]
    fn what_is_kept_from_one_compile_to_the_next_changes_nothing(
        first in world(), in_cluster in any::<bool>(), edits in proptest::collection::vec(edit(), 1..8),
    ) {
        let shape = |world| if in_cluster { placed(world) } else { world };
        let mut world = shape(first);
        let mut compiler = Compiler::default();
        let (mut last_good, mut since) = (None, Since::Everything);
        for (edit, other) in edits {
            let again = compiler.compile_since(&world, &since);
            let scratch = compile(&world, last_good.as_ref());
            prop_assert_eq!(&again, &scratch);
            last_good = Some(scratch.last_good);
            since = apply(&mut world, edit, shape(other));
        }
        prop_assert_eq!(compiler.compile_since(&world, &since), compile(&world, last_good.as_ref()));
    }
}
