//! Acknowledgements: what counts, and what does not.

use callgate_proto::model::{Action, External, NodeConfig, ObjectKey, Rule, Source};

use super::*;

/// Of one rule, `any`, to this destination.
fn snapshot(destination: &str) -> Snapshot {
    let rule = Rule {
        key: ObjectKey::new("pos", "any"),
        action: Action::Drop,
        destinations: vec![destination.parse().unwrap()],
        services: vec![],
        external: External::NodeAddress,
        log: false,
    };
    let sources = vec![Source { net: "10.1.0.1/32".parse().unwrap(), chain: 0 }];
    Snapshot::new(NodeConfig { rules: vec![rule], chains: vec![vec![0]], sources, ..NodeConfig::default() }, vec![])
}

fn now() -> Moment {
    Moment::at(0)
}

fn hello(hash: &str) -> pb::Hello {
    pb::Hello { config_hash: hash.to_owned(), ..pb::Hello::default() }
}

fn applied(snapshot: &Snapshot) -> pb::Outcome {
    pb::Outcome { hash: snapshot.hash.clone(), failure: None, sequence: 0 }
}

fn applied_as(snapshot: &Snapshot, sequence: u64) -> pb::Outcome {
    pb::Outcome { sequence, ..applied(snapshot) }
}

fn refused(snapshot: &Snapshot) -> pb::Outcome {
    let failure = pb::Failure { message: "no".to_owned(), ..pb::Failure::default() };
    pb::Outcome { hash: snapshot.hash.clone(), failure: Some(failure), sequence: 0 }
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
fn there_and_back_while_the_agent_is_slow_is_in_force_only_when_the_last_of_three_is_answered() {
    let (mut fleet, one, two) = (Fleet::default(), snapshot("10.0.0.0/8"), snapshot("11.0.0.0/8"));
    fleet.attach("a", 1, hello(""), now());
    let sent: Vec<u64> = [&one, &two, &one].into_iter().map(|snapshot| fleet.sent("a", 1, snapshot)).collect();
    assert_eq!(sent, [1, 2, 3]);
    let of = |fleet: &Fleet, wanted: &Snapshot| fleet.get("a").unwrap().fulfils(&wanted.stamp, &rule("any"));
    // It has the first, and may be putting the second into effect just now.
    assert!(fleet.outcome("a", 1, applied_as(&one, 1)));
    assert_eq!((&fleet.get("a").unwrap().running, of(&fleet, &one), of(&fleet, &two)), (&one.hash, false, false));
    assert!(fleet.outcome("a", 1, applied_as(&two, 2)));
    assert_eq!((of(&fleet, &one), of(&fleet, &two)), (false, false));
    assert!(fleet.outcome("a", 1, applied_as(&one, 3)));
    assert_eq!((of(&fleet, &one), of(&fleet, &two)), (true, false));
}

#[test]
fn an_agent_that_takes_only_the_latest_of_three_answers_for_all() {
    let (mut fleet, one, two) = (Fleet::default(), snapshot("10.0.0.0/8"), snapshot("11.0.0.0/8"));
    // One that does not know of numbers, and one that does.
    for sequence in [0, 3] {
        fleet.attach("a", 1, hello(""), now());
        for snapshot in [&one, &two, &one] {
            fleet.sent("a", 1, snapshot);
        }
        assert!(!fleet.outcome("a", 1, applied_as(&one, 2)), "the second was another");
        assert!(fleet.outcome("a", 1, applied_as(&one, sequence)));
        assert!(fleet.get("a").unwrap().fulfils(&one.stamp, &rule("any")));
    }
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
fn a_refusal_of_what_runs_takes_it_out_of_force_until_it_succeeds_again() {
    let (mut fleet, one, two) = (Fleet::default(), snapshot("10.0.0.0/8"), snapshot("11.0.0.0/8"));
    let in_force = |fleet: &Fleet| fleet.get("a").unwrap().fulfils(&one.stamp, &rule("any"));
    fleet.attach("a", 1, hello(""), now());
    fleet.sent("a", 1, &one);
    fleet.outcome("a", 1, applied(&one));
    assert!(in_force(&fleet));
    // Somebody has taken away what it needs, and it cannot be put back.
    assert!(fleet.outcome("a", 1, refused(&one)));
    assert!(!in_force(&fleet));
    fleet.detach("a", 1, now());
    fleet.attach("a", 2, hello(&one.hash), now());
    fleet.sent("a", 2, &one);
    assert!(!in_force(&fleet), "an agent that comes again has not mended anything");
    assert!(fleet.outcome("a", 2, applied(&one)));
    assert!(in_force(&fleet));
    // Noticed when another was to be applied.
    fleet.sent("a", 2, &two);
    fleet.outcome("a", 2, refused(&two));
    fleet.sent("a", 2, &one);
    assert!(fleet.outcome("a", 2, applied(&one)) && in_force(&fleet), "what ran went on");
    let mut broken = refused(&two);
    broken.failure.as_mut().unwrap().broken = true;
    fleet.sent("a", 2, &two);
    fleet.outcome("a", 2, broken);
    assert!(!in_force(&fleet), "nothing that ran is whole");
    fleet.outcome("a", 2, refused(&two));
    assert!(!fleet.get("a").unwrap().broken, "what ran is whole again");
    fleet.outcome("a", 2, applied(&two));
    assert!(fleet.get("a").unwrap().fulfils(&two.stamp, &rule("any")));
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

fn rule(name: &str) -> ObjectRef {
    ObjectRef { kind: Kind::IpRule, key: callgate_proto::model::ObjectKey::new("pos", name) }
}

#[test]
fn live_calls_of_an_object_are_the_sum_of_what_each_agent_said_last() {
    let mut fleet = Fleet::default();
    let report = |rules: &[(&str, u64)], services: &[(&str, u64)]| pb::Report {
        rules: rules.iter().map(|(name, calls)| pb::RuleCalls { rule: format!("pos/{name}"), calls: *calls }).collect(),
        services: services
            .iter()
            .map(|(name, calls)| pb::ObjectCalls { name: format!("pos/{name}"), calls: *calls })
            .collect(),
        ..pb::Report::default()
    };
    let service = ObjectRef { kind: Kind::Service, ..rule("a") };
    let counted = |fleet: &Fleet| [rule("a"), rule("b"), service.clone()].map(|object| fleet.live_calls(&object));
    for node in ["x", "y"] {
        fleet.attach(node, 1, hello(""), now());
    }
    fleet.report("x", 1, report(&[("a", 3), ("b", 1)], &[("a", 4)]));
    fleet.report("y", 1, report(&[("a", 2)], &[]));
    assert_eq!(counted(&fleet), [5, 1, 4]);
    fleet.report("x", 1, report(&[("b", 7)], &[("a", 7)]));
    assert_eq!(counted(&fleet), [2, 7, 7]);
    fleet.report("x", 2, report(&[("b", 100)], &[]));
    assert_eq!(counted(&fleet), [2, 7, 7], "another stream is not heard");
    fleet.detach("x", 1, now());
    fleet.attach("x", 2, hello(""), now());
    assert_eq!(counted(&fleet), [2, 7, 7], "an agent that comes again has not ended its calls");
    let second = Moment::at;
    fleet.detach("x", 2, second(10));
    fleet.lapse(second(19).instant, Duration::from_secs(10));
    assert_eq!(counted(&fleet), [2, 7, 7], "it was not lost for long enough");
    for _ in 0..2 {
        fleet.lapse(second(20).instant, Duration::from_secs(10));
        assert_eq!(counted(&fleet), [2, 0, 0], "of an agent that is lost nobody knows which calls live");
    }
    fleet.attach("x", 3, hello(""), second(11));
    fleet.report("x", 3, report(&[("b", 7)], &[("a", 7)]));
    fleet.lapse(second(12).instant, Duration::ZERO);
    assert_eq!(counted(&fleet), [2, 7, 7]);
    fleet.detach("x", 3, second(12));
    fleet.retain(|node| node == "y");
    assert_eq!(counted(&fleet), [2, 0, 0], "a node that is gone has no calls");
}

#[test]
fn who_has_an_object_in_force_follows_what_each_agent_runs() {
    let (mut fleet, service) = (Fleet::default(), |name: &str| ObjectRef { kind: Kind::Service, ..rule(name) });
    let snapshot = |names: &[&str]| {
        let service = |name: &&str| callgate_proto::model::Service {
            key: callgate_proto::model::ObjectKey::new("pos", *name),
            matches: vec![],
            alg: None,
            max_sessions: 0,
            forward_icmp_errors: true,
            timeouts: None,
        };
        let services = names.iter().map(service).collect();
        Snapshot::new(NodeConfig { services, ..NodeConfig::default() }, vec![])
    };
    let carried = |fleet: &Fleet| {
        ["a", "b"]
            .map(|name| fleet.carriers(&service(name)).map(|(node, _)| node.clone()).collect::<Vec<_>>().join(" "))
    };
    let (both, one) = (snapshot(&["a", "b"]), snapshot(&["b"]));
    for node in ["x", "y"] {
        fleet.attach(node, 1, hello(""), now());
        fleet.sent(node, 1, &both);
        assert!(fleet.outcome(node, 1, applied(&both)));
    }
    assert_eq!(carried(&fleet), ["x y", "x y"]);
    fleet.sent("x", 1, &one);
    assert_eq!(carried(&fleet), ["x y", "x y"], "sent is not in force");
    fleet.outcome("x", 1, applied(&one));
    assert_eq!(carried(&fleet), ["y", "x y"]);
    fleet.attach("y", 2, hello("something else"), now());
    assert_eq!(carried(&fleet), ["", "x"], "nobody knows what that is");
    fleet.detach("x", 1, now());
    assert_eq!(carried(&fleet), ["", "x"], "what was answered is still in its kernel");
    fleet.retain(|_| false);
    assert_eq!(carried(&fleet), ["", ""]);
}

#[test]
fn what_an_agent_names_that_runs_what_nobody_knows_or_is_not_whole_is_in_force_and_not_as_it_should_be() {
    let (mut fleet, one) = (Fleet::default(), snapshot("10.0.0.0/8"));
    let carried = |fleet: &Fleet| {
        let there = fleet.carriers(&rule("any")).count() == 1;
        (there, fleet.get("a").unwrap().fulfils(&one.stamp, &rule("any")))
    };
    let named = |hash: &str| pb::Hello { in_force: vec!["IpRule pos/any".to_owned()], ..hello(hash) };
    for hash in ["of another leader", ""] {
        fleet.attach("a", 1, named(hash), now());
        assert_eq!(carried(&fleet), (true, false));
        fleet.sent("a", 1, &one);
        fleet.outcome("a", 1, refused(&one));
        assert_eq!(carried(&fleet), (true, false));
        fleet.outcome("a", 1, applied(&one));
        assert_eq!(carried(&fleet), (true, true));
        fleet.attach("a", 1, named(&one.hash), now());
        assert_eq!(carried(&fleet), (true, true), "this one is known");
    }
    fleet.attach("a", 1, hello(""), now());
    assert_eq!(carried(&fleet), (false, false));
    fleet.attach("a", 1, named(&one.hash), now());
    fleet.sent("a", 1, &one);
    assert_eq!(carried(&fleet), (true, true), "it runs what is wanted");
}

#[test]
fn an_agent_is_expected_where_there_are_clients_and_for_an_hour_after_it_was_lost() {
    let (mut fleet, idle) = (Fleet::default(), Snapshot::new(NodeConfig::default(), vec![]));
    let source = Source { net: "10.0.0.1/32".parse().unwrap(), chain: 0 };
    let busy = Snapshot::new(NodeConfig { sources: vec![source], ..NodeConfig::default() }, vec![]);
    let expected = |fleet: &Fleet, second| {
        [None, Some(&idle), Some(&busy)].map(|wanted| fleet.is_expected("a", wanted, Moment::at(second).instant))
    };
    assert_eq!(expected(&fleet, 0), [false, false, true], "it has never come");
    fleet.attach("a", 1, hello(""), now());
    assert_eq!(expected(&fleet, 9_000), [true, true, true]);
    fleet.detach("a", 1, Moment::at(9_000));
    assert_eq!(expected(&fleet, 12_599), [true, true, true]);
    assert_eq!(expected(&fleet, 12_600), [false, false, true]);
}
