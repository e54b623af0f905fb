//! Time-outs on both legs.

use callgate_pptp::shared::{CallEnd, Config, Event, SessionEnd, UpstreamEnd};

use super::lab::{Cut, Lab, client_addr};
use super::messages;

fn ends(lab: &Lab) -> Vec<SessionEnd> {
    lab.events
        .iter()
        .filter_map(|event| match event {
            Event::SessionClosed { why, .. } => Some(*why),
            _ => None,
        })
        .collect()
}

#[test]
fn a_client_that_says_nothing_or_only_a_part_is_reset_after_the_first_message_time() {
    let mut lab = Lab::new(65_535);
    let silent = lab.connect(0);
    let slow = lab.connect(1);
    for octet in &messages::start_request()[..50] {
        lab.says(slow, &[*octet]);
        lab.wait(90);
    }
    lab.wait(600);
    assert_eq!((lab.clients[&silent].cut, lab.clients[&slow].cut), (Some(Cut::Reset), Some(Cut::Reset)));
    assert_eq!(ends(&lab), [SessionEnd::FirstMessageTimeout; 2]);
    assert_eq!(lab.upstreams.len(), 0);
    lab.assert_nothing_left();
}

#[test]
fn a_client_that_answers_no_echo_ends_alone() {
    let mut lab = Lab::new(65_535);
    let lives = lab.start_with_call(0, 0);
    let dead = lab.start_with_call(1, 0);
    lab.clients.get_mut(&dead).unwrap().answers = false;
    lab.wait(179_000);
    // Asked after 60 s and after 120 s.
    assert_eq!(lab.kinds(dead), [2, 8, 5, 5]);
    lab.wait(2_000);
    assert_eq!((lab.clients[&dead].cut, lab.clients[&lives].cut), (Some(Cut::Reset), None));
    assert_eq!(ends(&lab), [SessionEnd::EchoTimeout]);
    lab.assert_all_calls_live(1);
}

#[test]
fn a_client_that_never_ends_its_message_counts_as_silent() {
    let mut lab = Lab::new(65_535);
    lab.start_with_call(0, 0);
    let slow = lab.start_with_call(1, 0);
    lab.clients.get_mut(&slow).unwrap().answers = false;
    for octet in messages::outgoing_request(2).iter().take(100) {
        lab.says(slow, &[*octet]);
        lab.wait(2_000);
    }
    assert_eq!(lab.clients[&slow].cut, Some(Cut::Reset));
    lab.assert_all_calls_live(1);
}

#[test]
fn a_client_that_does_not_read_ends_alone() {
    let mut lab = Lab::new(65_535);
    lab.start_with_call(0, 0);
    let slow = lab.start_with_call(1, 0);
    lab.clients.get_mut(&slow).unwrap().reads = false;
    lab.says(slow, &messages::echo_request());
    lab.wait(29_000);
    assert_eq!(lab.clients[&slow].cut, None);
    lab.wait(2_000);
    assert_eq!((lab.clients[&slow].cut, ends(&lab)), (Some(Cut::Reset), vec![SessionEnd::SlowReader]));
    lab.assert_all_calls_live(1);
    // Neither can it make us keep much for it meanwhile.
    let slow = lab.start(2);
    lab.clients.get_mut(&slow).unwrap().reads = false;
    let many = messages::echo_request().repeat(65 * 1024 / 20 + 1);
    lab.says(slow, &many);
    lab.wait(0);
    assert_eq!(lab.clients[&slow].cut, Some(Cut::Reset));
}

#[test]
fn a_server_that_answers_no_echo_is_given_up_and_every_client_told() {
    let mut lab = Lab::new(65_535);
    let sessions: Vec<_> = (0..3).map(|n| lab.start_with_call(n, 0)).collect();
    let upstream = lab.live_upstreams()[0];
    lab.server.dead = true;
    lab.wait(181_000);
    assert_eq!(lab.server_kinds(upstream), [1, 7, 7, 7, 5, 5]);
    assert_eq!(lab.upstreams[&upstream], Some(Cut::Reset));
    for session in sessions {
        assert_eq!(lab.kinds(session).iter().rev().take(2).collect::<Vec<_>>(), [&3, &13]);
    }
    let closed = lab
        .events
        .iter()
        .any(|event| matches!(event, Event::UpstreamClosed { why: UpstreamEnd::EchoTimeout, calls: 3, .. }));
    assert!(closed);
}

#[test]
fn without_an_echo_time_out_nobody_is_probed() {
    let mut lab = Lab::new(65_535);
    lab.policy.echo_timeout_ms = 0;
    let session = lab.start_with_call(0, 0);
    lab.wait(3_500_000);
    assert_eq!(lab.kinds(session), [2, 8]);
    lab.assert_all_calls_live(1);
    lab.says(session, &messages::call_clear(0));
    lab.wait(3_603_000);
    assert_eq!((lab.last(session)[9], lab.clients[&session].cut), (3, Some(Cut::Reset)));
    lab.assert_nothing_left();
}

#[test]
fn a_call_the_server_does_not_answer_is_refused_with_time_out_and_cleared() {
    let mut lab = Lab::new(65_535);
    lab.policy.echo_timeout_ms = 0;
    lab.server.mute = true;
    let session = lab.start_with_call(0, 5);
    let upstream = lab.live_upstreams()[0];
    // The script knows it as a call, so that Call-Clear-Request finds it.
    let asked = super::lab::id(&lab.server.heard[&upstream][1], 12);
    lab.wait(59_000);
    let _unsent = lab.server.accept(upstream, asked);
    lab.wait(2_000);
    let reply = lab.last(session);
    assert_eq!((reply[9], reply[16]), (8, 6));
    assert_eq!(lab.server_kinds(upstream), [1, 7, 12]);
    assert_eq!(lab.clients[&session].cut, None);
    lab.wait(11_000);
    assert_eq!((lab.shared.call_count(), lab.live_upstreams()), (0, vec![upstream]));
}

#[test]
fn a_call_without_user_traffic_ends_after_the_idle_time_and_both_sides_hear_of_it() {
    let mut lab = Lab::new(65_535);
    lab.policy.idle_timeout_ms = 10_000;
    let idle = lab.start_with_call(0, 5);
    let busy = lab.start_with_call(1, 5);
    for _ in 0..4 {
        lab.wait(4_000);
        let call = lab.calls_of(busy)[0].clone();
        lab.assert_gre_passes(&call);
    }
    let told = lab.last(idle);
    assert_eq!((lab.kinds(idle), told[14]), (vec![2, 8, 13], 3));
    lab.assert_all_calls_live(1);
    let ended = lab.events.iter().any(|event| matches!(event, Event::CallDown { why: CallEnd::IdleTimeout, .. }));
    assert!(ended);
}

#[test]
fn half_open_clients_and_sessions_of_a_service_are_limited_for_both_modes_together() {
    let mut lab = Lab::new(65_535);
    let first = lab.connect(0);
    for _ in 1..8 {
        lab.connect(0);
    }
    assert!(lab.try_connect(0).is_err(), "{} has eight connections without a first message", client_addr(0));
    lab.says(first, &messages::start_request());
    assert!(lab.try_connect(0).is_ok());
    let mut lab = Lab::new(65_535);
    lab.policy.max_sessions = 2;
    let first = lab.start(0);
    lab.start(1);
    assert!(lab.try_connect(2).is_err());
    lab.says(first, &messages::stop_request());
    assert!(lab.try_connect(2).is_ok());
}

#[test]
fn the_same_seed_waits_the_same_and_another_does_not() {
    let waits = |seed| {
        let limits = callgate_pptp::Limits::default();
        let mut lab = Lab::with_config(1, Config { attempts: 9, ..Config::default() });
        lab.shared = callgate_pptp::shared::Shared::new(lab.shared.config().clone(), limits, seed);
        lab.reachable = false;
        lab.start(0);
        lab.wait(60_000);
        let waits: Vec<u64> = lab
            .events
            .iter()
            .filter_map(|event| match event {
                Event::UpstreamFailed { wait_ms, .. } => Some(*wait_ms),
                _ => None,
            })
            .collect();
        assert!(waits.iter().all(|wait| *wait <= 30_000));
        waits
    };
    assert_eq!(waits(1), waits(1));
    assert_ne!(waits(1), waits(2));
}

#[test]
fn a_server_that_does_not_read_is_given_up_and_its_clients_told() {
    let mut lab = Lab::new(65_535);
    let session = lab.start_with_call(0, 0);
    (lab.server_reads, lab.server.mute) = (false, true);
    lab.says(session, &messages::outgoing_request(1));
    lab.wait(31_000);
    let closed = lab
        .events
        .iter()
        .any(|event| matches!(event, Event::UpstreamClosed { why: UpstreamEnd::SlowReader, calls: 2, .. }));
    assert!(closed);
    assert_eq!(lab.kinds(session), [2, 8, 13, 8, 3]);
}
