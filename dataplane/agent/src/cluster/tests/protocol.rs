//! What is said on a stream, in which order, and what is not.

use callgate_proto::pb::answer::Kind as Told;
use callgate_proto::pb::question::Kind as Asked;
use tonic::Code;

use super::*;
use crate::cluster::snapshot::tests::snapshot;

#[tokio::test]
async fn hello_comes_first_with_the_token_and_says_who_and_what_runs() {
    let mut lab = Lab::new().await;
    let (stream, hello) = lab.attached().await;
    assert_eq!(stream.authorization, "Bearer first-token");
    let expected = pb::Hello {
        version: env!("CARGO_PKG_VERSION").into(),
        config_hash: String::new(),
        kernel: crate::kernel::release(),
        features: Vec::new(),
        node: NODE.into(),
        in_force: Vec::new(),
    };
    assert_eq!(hello, expected);
}

#[tokio::test]
async fn whoever_reconnects_while_what_runs_is_not_whole_does_not_say_that_it_runs_but_what_of_it_may() {
    let mut lab = Lab::new().await;
    let config = crate::alg::policy::tests::config();
    let (rules, services, algs) = (&config.rules, &config.services, &config.algs);
    let rules = rules.iter().map(|rule| format!("IpRule {}", rule.key));
    let services = services.iter().map(|service| format!("Service {}", service.key));
    let algs = algs.iter().map(|alg| format!("PptpAlg {}", alg.key));
    let objects: Vec<String> = rules.chain(services).chain(algs).collect();
    assert!(!objects.is_empty());
    let hash = config.content_hash();
    lab.report.put(config, []);
    drop(lab.attached().await);
    let (stream, whole) = lab.attached().await;
    lab.report.broken("no route".to_owned());
    drop(stream);
    let (_stream, broken) = lab.attached().await;
    assert_eq!([whole.config_hash, broken.config_hash], [hash, String::new()]);
    assert_eq!([whole.in_force, broken.in_force], [objects.clone(), objects]);
}

#[tokio::test]
async fn a_snapshot_is_acknowledged_by_its_hash_after_it_was_carried_out_and_saved_before() {
    let mut lab = Lab::new().await;
    let (mut stream, _) = lab.attached().await;
    let sent = snapshot(NODE, "u1");
    stream.tell(Theirs::Snapshot(sent.message())).await;
    let wanted = lab.carry_out(Ok(())).await;
    assert_eq!(wanted.config, sent.config);
    assert_eq!((wanted.tenants, wanted.holders.len()), (sent.tenants(), 1));
    let said = stream.next_but_reports().await;
    assert_eq!(said, Some(Ours::Outcome(pb::Outcome { hash: sent.hash.clone(), failure: None, sequence: 0 })));
    assert_eq!(Store::new(lab.dir.path(), NODE).load(), Ok(Some(sent)));
}

#[tokio::test]
async fn a_snapshot_the_kernel_refuses_is_told_with_object_and_reason_and_is_not_what_the_next_start_runs() {
    let mut lab = Lab::new().await;
    let (mut stream, _) = lab.attached().await;
    let (good, bad) = (snapshot(NODE, "u1"), snapshot(NODE, "u2"));
    stream.tell(Theirs::Snapshot(good.message())).await;
    lab.carry_out(Ok(())).await;
    stream.next_but_reports().await;
    stream.tell(Theirs::Snapshot(bad.message())).await;
    let refused =
        Refused { object: "Service pos/web".into(), message: "no such module".into(), broken: false, in_force: false };
    assert_eq!(lab.carry_out(Err(refused)).await.tenants, bad.tenants());
    let failure = pb::Failure {
        object: "Service pos/web".into(),
        reason: "ApplyFailed".into(),
        message: "no such module".into(),
        broken: false,
    };
    let expected = pb::Outcome { hash: bad.hash.clone(), failure: Some(failure), sequence: 0 };
    assert_eq!(stream.next_but_reports().await, Some(Ours::Outcome(expected)));
    assert_eq!(Store::new(lab.dir.path(), NODE).load(), Ok(Some(good)));
}

#[tokio::test]
async fn what_does_not_decode_or_is_another_nodes_is_refused_and_counted_and_what_ran_goes_on() {
    let mut lab = Lab::new().await;
    let (mut stream, _) = lab.attached().await;
    let good = snapshot(NODE, "u1");
    let forged = pb::Snapshot { hash: "f".repeat(64), ..good.message() };
    let other = snapshot("node-b", "u1");
    for (sent, words) in [(forged, "says that its hash is ffffffffffff"), (other.message(), "is for node \"node-b\"")] {
        let hash = sent.hash.clone();
        stream.tell(Theirs::Snapshot(sent)).await;
        let Some(Ours::Outcome(outcome)) = stream.next_but_reports().await else { panic!("no outcome") };
        let message = outcome.failure.unwrap().message;
        assert_eq!((outcome.hash, message.contains(words)), (hash, true), "{message}");
    }
    assert_eq!((lab.count("snapshots"), lab.count("snapshots_refused")), (2, 2));
    assert!(!lab.source.changed() && lab.source.wanted().await.is_none());
    stream.tell(Theirs::Snapshot(good.message())).await;
    assert_eq!(lab.carry_out(Ok(())).await.config, good.config);
}

#[tokio::test]
async fn the_same_snapshot_again_is_acknowledged_again() {
    let mut lab = Lab::new().await;
    let (mut stream, _) = lab.attached().await;
    let sent = snapshot(NODE, "u1");
    for sequence in [1, 2] {
        stream.tell(Theirs::Snapshot(pb::Snapshot { sequence, ..sent.message() })).await;
        lab.carry_out(Ok(())).await;
        let acknowledged = pb::Outcome { hash: sent.hash.clone(), failure: None, sequence };
        assert_eq!(stream.next_but_reports().await, Some(Ours::Outcome(acknowledged)));
    }
}

#[tokio::test]
async fn a_snapshot_found_by_looking_is_acknowledged_like_one_that_was_told_of() {
    let mut lab = Lab::new().await;
    let (mut stream, _) = lab.attached().await;
    let sent = snapshot(NODE, "u1");
    let acknowledged = Some(Ours::Outcome(pb::Outcome { hash: sent.hash.clone(), failure: None, sequence: 0 }));
    for times in 1..=2 {
        stream.tell(Theirs::Snapshot(sent.message())).await;
        lab.counted("snapshots", times).await;
        // The look every few seconds comes before the loop has heard.
        while !lab.source.changed() {
            tokio::task::yield_now().await;
        }
        let wanted = lab.source.wanted().await.unwrap();
        lab.source.outcome(&wanted, Ok(()));
        assert_eq!(stream.next_but_reports().await, acknowledged);
    }
}

#[tokio::test]
async fn a_report_has_calls_by_object_and_is_not_repeated_while_nothing_changes() {
    let mut lab = Lab::new().await;
    let (mut stream, _) = lab.attached().await;
    let Some(Ours::Report(report)) = stream.next().await else { panic!("no report") };
    let calls = |name: &str| vec![pb::ObjectCalls { name: name.into(), calls: 1 }];
    assert_eq!((report.connections, report.calls, report.path.as_str()), (1, 1, "AF_PACKET"));
    assert_eq!(report.rules, [pb::RuleCalls { rule: "pos/tills".into(), calls: 1 }]);
    assert_eq!((report.services, report.algs), (calls("pos/pptp"), calls("pos/alg")));
    assert!(report.counters.iter().any(|counter| counter.name == "a_scripted_counter"));
    // Dozens of intervals pass during these questions.
    let mut again = 0;
    for id in 0..50 {
        stream.tell(Theirs::Question(pb::Question { id, kind: Some(Asked::Status(pb::StatusRequest {})) })).await;
        loop {
            match stream.next().await {
                Some(Ours::Report(_)) => again += 1,
                Some(Ours::Answer(answer)) => {
                    assert_eq!(answer.id, id);
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(again, 0);
    // And one comes when something has.
    lab.report.count("something");
    assert!(matches!(stream.next().await, Some(Ours::Report(_))));
}

#[tokio::test]
async fn questions_are_answered_as_the_local_api_answers_them() {
    let mut lab = Lab::new().await;
    let config = crate::alg::policy::tests::config();
    lab.report.put(config, [(callgate_proto::model::ObjectKey::new("pos", "till"), [10, 0, 0, 2].into())]);
    let (mut stream, _) = lab.attached().await;
    let explain = |from: &str| {
        let packet = pb::ExplainRequest {
            from: from.into(),
            from_port: None,
            to: "203.0.113.7".into(),
            to_port: Some(80),
            protocol: 6,
        };
        Some(Asked::Explain(packet))
    };
    let questions = [
        Some(Asked::Status(pb::StatusRequest {})),
        Some(Asked::Calls(pb::CallsRequest {})),
        explain("pos/till"),
        explain("pos/nobody"),
        None,
    ];
    let mut told = Vec::new();
    for (id, kind) in (7..).zip(questions) {
        stream.tell(Theirs::Question(pb::Question { id, kind })).await;
        let Some(Ours::Answer(answer)) = stream.next_but_reports().await else { panic!("no answer") };
        assert_eq!(answer.id, id);
        told.push(match answer.kind.unwrap() {
            Told::Status(status) => format!("status of {}", status.node),
            Told::Calls(calls) => format!("{} call of {}", calls.calls.len(), calls.calls[0].pod),
            Told::Explain(reply) => format!("{:?} by {}", reply.verdict(), reply.rule),
            Told::Refusal(refusal) => format!("{:?}", Code::from(refusal.code)),
        });
    }
    assert_eq!(told, ["status of standalone", "1 call of pos/till", "Nat by pos/web", "NotFound", "Unimplemented"]);
}

#[tokio::test]
async fn a_message_of_a_newer_operator_is_counted_and_passed_over() {
    let mut lab = Lab::new().await;
    let (mut stream, _) = lab.attached().await;
    stream.tell_something_new().await;
    stream.tell(Theirs::Question(pb::Question { id: 1, kind: Some(Asked::Calls(pb::CallsRequest {})) })).await;
    assert!(matches!(stream.next_but_reports().await, Some(Ours::Answer(_))));
    assert_eq!(lab.count("operator_messages_unknown"), 1);
}
