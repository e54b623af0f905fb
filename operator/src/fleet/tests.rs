//! Acknowledgements: what counts, and what does not.

use callgate_proto::model::NodeConfig;

use super::*;

fn snapshot(net: &str) -> Snapshot {
    Snapshot::new(NodeConfig { cluster_nets: vec![net.parse().unwrap()], ..NodeConfig::default() }, vec![])
}

fn now() -> Timestamp {
    Timestamp::UNIX_EPOCH
}

fn hello(hash: &str) -> pb::Hello {
    pb::Hello { config_hash: hash.to_owned(), ..pb::Hello::default() }
}

fn applied(snapshot: &Snapshot) -> pb::Outcome {
    pb::Outcome { hash: snapshot.hash.clone(), failure: None }
}

fn refused(snapshot: &Snapshot) -> pb::Outcome {
    let failure = pb::Failure { message: "no".to_owned(), ..pb::Failure::default() };
    pb::Outcome { hash: snapshot.hash.clone(), failure: Some(failure) }
}

#[test]
fn nothing_runs_before_an_answer_and_what_was_answered_runs() {
    let (mut fleet, one) = (Fleet::default(), snapshot("10.0.0.0/8"));
    fleet.attach("a", 1, hello(""), now());
    fleet.sent("a", 1, &one);
    assert_eq!(fleet.get("a").unwrap().stamp, None);
    assert!(fleet.outcome("a", 1, applied(&one)));
    let agent = fleet.get("a").unwrap();
    assert_eq!((&agent.running, agent.stamp.as_ref()), (&one.hash, Some(&one.stamp)));
}

#[test]
fn an_answer_to_what_was_never_sent_counts_for_nothing() {
    let (mut fleet, one) = (Fleet::default(), snapshot("10.0.0.0/8"));
    fleet.attach("a", 1, hello(""), now());
    assert!(!fleet.outcome("a", 1, applied(&one)));
    assert_eq!(fleet.get("a").unwrap().running, "");
}

#[test]
fn an_agent_that_already_runs_what_it_is_sent_needs_no_answer() {
    let (mut fleet, one) = (Fleet::default(), snapshot("10.0.0.0/8"));
    fleet.attach("a", 1, hello(&one.hash), now());
    assert_eq!(fleet.get("a").unwrap().stamp, None);
    fleet.sent("a", 1, &one);
    assert_eq!(fleet.get("a").unwrap().stamp.as_ref(), Some(&one.stamp));
}

#[test]
fn back_and_forth_is_in_force_only_when_the_way_back_is_answered() {
    let (mut fleet, one, two) = (Fleet::default(), snapshot("10.0.0.0/8"), snapshot("11.0.0.0/8"));
    fleet.attach("a", 1, hello(""), now());
    fleet.sent("a", 1, &one);
    fleet.outcome("a", 1, applied(&one));
    fleet.sent("a", 1, &two);
    fleet.sent("a", 1, &one);
    assert!(fleet.outcome("a", 1, applied(&two)));
    assert_eq!(fleet.get("a").unwrap().running, two.hash);
    assert!(fleet.outcome("a", 1, applied(&one)));
    assert_eq!(fleet.get("a").unwrap().running, one.hash);
}

#[test]
fn a_refused_snapshot_leaves_what_ran_and_may_succeed_later() {
    let (mut fleet, one, two) = (Fleet::default(), snapshot("10.0.0.0/8"), snapshot("11.0.0.0/8"));
    fleet.attach("a", 1, hello(""), now());
    fleet.sent("a", 1, &one);
    fleet.outcome("a", 1, applied(&one));
    fleet.sent("a", 1, &two);
    assert!(fleet.outcome("a", 1, refused(&two)));
    let agent = fleet.get("a").unwrap();
    assert_eq!((&agent.running, &agent.refused.as_ref().unwrap().0), (&one.hash, &two.hash));
    assert!(fleet.outcome("a", 1, applied(&two)));
    let agent = fleet.get("a").unwrap();
    assert_eq!((&agent.running, &agent.refused), (&two.hash, &None));
}

#[test]
fn the_end_of_an_old_stream_does_not_detach_the_new_one() {
    let mut fleet = Fleet::default();
    fleet.attach("a", 1, hello(""), now());
    fleet.attach("a", 2, hello(""), now());
    fleet.detach("a", 1, now());
    assert_eq!(fleet.get("a").unwrap().stream, Some(2));
    fleet.detach("a", 2, now());
    assert_eq!(fleet.get("a").unwrap().stream, None);
}

#[test]
fn a_restarted_agent_that_runs_nothing_has_nothing_in_force() {
    let (mut fleet, one) = (Fleet::default(), snapshot("10.0.0.0/8"));
    fleet.attach("a", 1, hello(""), now());
    fleet.sent("a", 1, &one);
    fleet.outcome("a", 1, applied(&one));
    fleet.attach("a", 2, hello(""), now());
    let agent = fleet.get("a").unwrap();
    assert_eq!((agent.running.as_str(), &agent.stamp), ("", &None));
}
