//! One compile after the other: whatever is kept from one to the next, the result is that of a compile from scratch.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use callgate_compile::world::{Labels, World};
use callgate_compile::{Compiler, LastGood, Limits, Since};
use callgate_crds::conditions::Reason;
use callgate_proto::model::{Match, NodeConfig};
use proptest::prelude::*;

use super::worlds::{from_pods, world};

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
    /// One pod gets labels of its own, which may be one list of rules more on its node, or one less.
    Label,
}

fn edit() -> impl Strategy<Value = (Edit, World)> {
    let edits = prop_oneof![
        5 => Just(Edit::Pods),
        1 => Just(Edit::Namespaces),
        1 => Just(Edit::Rules),
        1 => Just(Edit::Services),
        1 => Just(Edit::Networks),
        1 => Just(Edit::Nodes),
        3 => Just(Edit::Label),
    ];
    (edits, world())
}

/// In a cluster of three nodes, where pods are by their names. Rules of `n` are the operator's, and those of `m` select no more than they may.
fn placed(mut world: World) -> World {
    world.standalone = false;
    world.nodes = ["a", "b", "c"].map(str::to_owned).into();
    for (mut key, mut rule) in std::mem::take(&mut world.rules) {
        let source = &mut rule.spec.source;
        match key.namespace == "n" {
            true => key.namespace.clone_from(&world.operator_namespace),
            false => *source = from_pods(source.pod_selector.take().unwrap_or_default()),
        }
        world.rules.insert(key, rule);
    }
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
        Edit::Label => {
            let Some((key, pod)) = world.pods.iter_mut().next() else { return Since::Pods(BTreeSet::new()) };
            let labels = other.pods.into_values().next().map(|other| other.labels.clone());
            Arc::make_mut(pod).labels = labels.unwrap_or_default();
            return Since::Pods([key.clone()].into());
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

/// No more than a few of the random rules have room: on a node, or of a namespace.
fn scarce() -> Limits {
    Limits {
        tags_of_node: 5,
        entries_of_node: 40,
        entries_of_namespace: 60,
        leaves_of_namespace: 1,
        steps_of_namespace: 20,
        spare_in_lists: 0,
    }
}

/// What the rules of a node come to there.
fn entries(config: &NodeConfig) -> usize {
    let ports = |entry: &Match| entry.source_ports.len() + entry.destination_ports.len();
    let services = |rule| config.services_of(rule).map(|service| 6 + service.matches.iter().map(ports).sum::<usize>());
    let rules = config.rules.iter().map(|rule| rule.destinations.len() + services(rule).sum::<usize>());
    rules.sum::<usize>() + config.chains.iter().map(Vec::len).sum::<usize>()
}

/// Compiles this world and one after each edit with one compiler, and each from scratch. How many rules had no room.
fn again(limits: Limits, mut world: World, edits: Vec<(Edit, World)>) -> Result<usize, TestCaseError> {
    let mut compiler = Compiler::limited(limits, None);
    let (mut last_good, mut since, mut refused) = (None::<LastGood>, Since::Everything, 0);
    let mut edits = edits.into_iter();
    loop {
        let again = compiler.compile_since(&world, &since);
        let scratch = Compiler::limited(limits, last_good).compile(&world);
        prop_assert_eq!(&again, &scratch);
        for config in scratch.nodes.values() {
            prop_assert!(entries(config) <= limits.entries_of_node, "{} in {:?}", entries(config), config);
        }
        refused += scratch.statuses.values().filter(|one| one.conditions[0].reason == Reason::TooMany).count();
        last_good = Some(scratch.last_good);
        let Some((edit, other)) = edits.next() else { return Ok(refused) };
        since = apply(&mut world, edit, other);
    }
}

fn edits(in_cluster: bool) -> impl Strategy<Value = (World, Vec<(Edit, World)>)> {
    let shape = move |world| if in_cluster { placed(world) } else { world };
    let edits = proptest::collection::vec(edit().prop_map(move |(edit, other)| (edit, shape(other))), 1..8);
    (world().prop_map(shape), edits)
}

proptest! {
    #[test]
    fn what_is_kept_from_one_compile_to_the_next_changes_nothing(
        (first, edits) in any::<bool>().prop_flat_map(edits),
    ) {
        again(Limits::default(), first, edits)?;
    }

    #[test]
    fn nor_does_it_where_rules_have_no_room((first, edits) in any::<bool>().prop_flat_map(edits)) {
        again(scarce(), first, edits)?;
    }
}

/// Else the test above would prove nothing.
#[test]
fn of_the_random_worlds_many_have_rules_without_room() {
    use proptest::strategy::ValueTree as _;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let mut random = || edits(true).new_tree(&mut runner).unwrap().current();
    let scarce = (0..50).filter(|_| {
        let (first, edits) = random();
        again(scarce(), first, edits).unwrap() > 0
    });
    let scarce = scarce.count();
    assert!(scarce > 25, "{scarce}");
}
