//! Agents that are not there, or go on with what they should have let go of.

use super::*;

#[test]
fn it_is_not_programmed_while_a_node_that_must_not_run_it_any_more_still_does() {
    let mut case = Case::new();
    for node in ["a", "b"] {
        case.attach(node);
        case.applied(node);
    }
    case.world.rules.get_mut(&key("tills")).unwrap().meta.generation = 2;
    case.world.pods.remove(&key("one"));
    case.compile();
    assert_eq!(case.told(), "False(Pending) 1/1");
    assert_eq!(case.before.conditions[1].message, "Node a still does what an earlier version said.");
    case.applied("a");
    assert_eq!(case.told(), "True(Programmed) 1/1");
    case.world.pods.clear();
    case.compile();
    assert_eq!(case.told(), "False(Pending) 0/0");
    case.applied("b");
    assert_eq!(case.told(), "True(NothingToProgram) 0/0");
}

#[test]
fn it_is_not_programmed_while_a_node_runs_it_that_must_not_and_whose_configuration_only_the_leader_before_knew() {
    let mut case = Case::new();
    case.attach("b");
    case.applied("b");
    case.world.pods.remove(&key("one"));
    case.compile();
    let (config_hash, in_force) = ("of another leader".to_owned(), vec!["IpRule pos/tills".to_owned()]);
    case.fleet.attach("a", 1, pb::Hello { config_hash, in_force, ..pb::Hello::default() }, case.now);
    assert_eq!(case.told(), "False(Pending) 1/1");
    case.refused("a");
    assert_eq!(case.told(), "False(Pending) 1/1");
    assert_eq!(case.before.conditions[1].message, "Node a still does what an earlier version said.");
    case.applied("a");
    assert_eq!(case.told(), "True(Programmed) 1/1");
}

#[test]
fn a_node_that_is_away_for_long_and_has_nothing_to_run_is_not_waited_for() {
    let mut case = Case::new();
    for node in ["a", "b"] {
        case.attach(node);
        case.applied(node);
    }
    case.fleet.detach("a", 1, case.now);
    case.world.pods.remove(&key("one"));
    case.compile();
    case.later(29);
    assert_eq!(case.told(), "False(Pending) 1/1");
    case.later(1);
    assert_eq!(case.told(), "True(Programmed) 1/1");
}

#[test]
fn a_node_without_an_agent_is_waited_for_and_then_told() {
    let mut case = Case::new();
    case.attach("a");
    case.applied("a");
    assert_eq!(case.told(), "False(Pending) 1/2");
    case.later(30);
    assert_eq!(case.told(), "False(NodeUnreachable) 1/2");
    assert_eq!(case.before.conditions[1].message, "Node b: no agent has come.");
}

#[test]
fn a_node_that_joins_with_a_pod_later_has_as_much_time_for_its_agent_to_come() {
    let mut case = Case::new();
    for node in ["a", "b"] {
        case.attach(node);
        case.applied(node);
    }
    case.later(3_600);
    case.world.nodes.insert("c".to_owned());
    case.compile();
    case.later(3_600);
    case.world.pods.insert(key("three"), pod("c", "10.0.2.1").into());
    case.compile();
    assert_eq!(case.told(), "False(Pending) 2/3");
    case.later(29);
    case.compile();
    assert_eq!(case.told(), "False(Pending) 2/3");
    case.later(1);
    assert_eq!(case.told(), "False(NodeUnreachable) 2/3");
    case.attach("c");
    case.applied("c");
    assert_eq!(case.told(), "True(Programmed) 3/3");
}

#[test]
fn an_agent_that_is_away_for_a_moment_changes_nothing_and_for_long_it_does() {
    let mut case = Case::new();
    for node in ["a", "b"] {
        case.attach(node);
        case.applied(node);
    }
    case.fleet.detach("b", 1, case.now);
    case.later(29);
    assert_eq!(case.told(), "True(Programmed) 2/2");
    case.later(1);
    assert_eq!(case.told(), "False(NodeUnreachable) 1/2");
    assert_eq!(case.before.conditions[1].message, "Node b: its agent is away since 2026-01-01T00:00:00Z.");
}

#[test]
fn a_clock_that_is_set_back_is_nothing_to_waiting() {
    let mut case = Case::new();
    case.attach("a");
    case.applied("a");
    case.later(30);
    case.now.time -= jiff::SignedDuration::from_secs(240);
    assert_eq!(case.told(), "False(NodeUnreachable) 1/2");
    case.attach("b");
    case.applied("b");
    case.fleet.detach("b", 1, case.now);
    case.later(29);
    case.now.time += jiff::SignedDuration::from_secs(240);
    assert_eq!(case.told(), "True(Programmed) 2/2");
}
