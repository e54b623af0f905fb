//! Clients and servers that stop, die or talk nonsense: who hears of it, and what.

use callgate_pptp::shared::{Event, Gone, SessionEnd, SessionId};

use super::lab::{Cut, Lab};
use super::messages;
use super::peer::Back;

/// Ten clients with a call each, in as many connections as the channels ask for.
fn ten(channels: u16) -> (Lab, Vec<SessionId>) {
    let mut lab = Lab::new(channels);
    let sessions = (0..10).map(|n| lab.start_with_call(n, 0)).collect();
    (lab, sessions)
}

#[test]
fn a_client_that_stops_is_answered_and_only_its_call_ends() {
    let (mut lab, sessions) = ten(65_535);
    lab.says(sessions[4], &messages::stop_request());
    assert_eq!((lab.kinds(sessions[4]), lab.clients[&sessions[4]].cut), (vec![2, 8, 4], Some(Cut::Closed)));
    assert_eq!((lab.upstreams.len(), lab.live_upstreams().len()), (1, 1));
    lab.assert_all_calls_live(9);
}

#[test]
fn a_client_that_closes_or_resets_takes_only_its_calls_with_it() {
    for gone in [Gone::Finished, Gone::Reset] {
        let (mut lab, sessions) = ten(65_535);
        lab.says(sessions[4], &messages::outgoing_request(1));
        lab.leaves(sessions[4], gone);
        assert_eq!(lab.live_upstreams().len(), 1);
        lab.assert_all_calls_live(9);
    }
}

#[test]
fn a_malformed_message_ends_its_client_and_nobody_else() {
    for bad in [&b"\xff\xff"[..], &[0, 16, 0, 1, 0, 0, 0, 0], &[0, 16, 0, 1, 0x1a, 0x2b, 0x3c, 0x4d, 0, 99]] {
        let (mut lab, sessions) = ten(65_535);
        lab.says(sessions[4], bad);
        assert_eq!(lab.clients[&sessions[4]].cut, Some(Cut::Reset));
        lab.assert_all_calls_live(9);
    }
    // What the other role says.
    let (mut lab, sessions) = ten(65_535);
    lab.says(sessions[4], &messages::disconnect_notify(1));
    assert_eq!(lab.clients[&sessions[4]].cut, Some(Cut::Reset));
    lab.assert_all_calls_live(9);
}

#[test]
fn without_strict_validation_a_strange_message_is_ignored_and_lost_framing_still_ends_the_client() {
    let mut lab = Lab::new(65_535);
    lab.policy.strict = false;
    let session = lab.start_with_call(0, 0);
    lab.says(session, &messages::message(99, 16, &[]));
    lab.says(session, &messages::disconnect_notify(1));
    lab.says(session, &messages::message(5, 20, &[(12, &[1, 2, 3, 4])]));
    assert_eq!(lab.last(session), messages::message(6, 20, &[(12, &[1, 2, 3, 4, 1])]));
    lab.assert_all_calls_live(1);
    lab.says(session, &[0xff; 2]);
    assert_eq!(lab.clients[&session].cut, Some(Cut::Reset));
    lab.assert_all_calls_live(0);
}

#[test]
fn stop_of_the_server_is_answered_and_told_to_every_client_with_its_reason() {
    let (mut lab, sessions) = ten(65_535);
    let idle = lab.start(77);
    let upstream = lab.live_upstreams()[0];
    lab.server_says(upstream, &messages::message(3, 16, &[(12, &[3])]));
    assert_eq!(lab.server_kinds(upstream).last(), Some(&4));
    assert_eq!(lab.upstreams[&upstream], Some(Cut::Closed));
    for &session in &sessions {
        assert_eq!(lab.kinds(session), [2, 8, 13, 3]);
        let told = &lab.clients[&session].got;
        assert_eq!((told[2][14], told[3][12]), (3, 3));
    }
    assert_eq!((lab.kinds(idle), lab.last(idle)[12]), (vec![2, 3], 3));
    // Who answers is closed, who does not is reset.
    lab.says(sessions[0], &messages::stop_reply());
    assert_eq!(lab.clients[&sessions[0]].cut, Some(Cut::Closed));
    lab.wait(2_000);
    assert_eq!(lab.clients[&sessions[1]].cut, Some(Cut::Reset));
    lab.assert_nothing_left();
}

#[test]
fn close_and_reset_of_the_server_are_told_to_every_client_and_tell_apart() {
    for (gone, codes) in [(Gone::Finished, (1, 0)), (Gone::Reset, (2, 1))] {
        let (mut lab, sessions) = ten(65_535);
        let upstream = lab.live_upstreams()[0];
        lab.server_does(upstream, Back::Ends(gone));
        for &session in &sessions {
            assert_eq!(lab.kinds(session), [2, 8, 13, 3]);
            let told = &lab.clients[&session].got[2];
            assert_eq!((told[14], told[15]), codes);
        }
        lab.wait(2_000);
        // All come back at once, over one new connection.
        for n in 0..10 {
            lab.start_with_call(n, 0);
        }
        assert_eq!(lab.upstreams.len(), 2);
        lab.assert_all_calls_live(10);
    }
}

#[test]
fn a_malformed_message_of_the_server_ends_its_connection_and_each_client_is_told() {
    let (mut lab, sessions) = ten(65_535);
    let upstream = lab.live_upstreams()[0];
    lab.server_says(upstream, &[0xff; 2]);
    assert_eq!(lab.upstreams[&upstream], Some(Cut::Reset));
    for &session in &sessions {
        let told = &lab.clients[&session].got[2];
        assert_eq!((lab.kinds(session), told[14], told[15]), (vec![2, 8, 13, 3], 2, 2));
    }
}

#[test]
fn the_end_of_one_of_several_connections_is_told_to_its_own_clients_only() {
    let (mut lab, sessions) = ten(4);
    let upstream = lab.live_upstreams()[1];
    lab.server_does(upstream, Back::Ends(Gone::Reset));
    for (n, &session) in sessions.iter().enumerate() {
        let expected = if (4..8).contains(&n) { vec![2, 8, 13, 3] } else { vec![2, 8] };
        assert_eq!(lab.kinds(session), expected, "client {n}");
    }
    lab.assert_all_calls_live(6);
}

#[test]
fn where_a_tunnel_carries_one_call_its_end_is_told_to_its_own_client_only_however_it_ends() {
    let stops = Back::Says(messages::stop_request());
    for how in [stops, Back::Says(vec![0xff; 2]), Back::Ends(Gone::Finished), Back::Ends(Gone::Reset)] {
        let mut lab = Lab::new(1);
        let (calls, idle) = (lab.start_with_call(0, 0), lab.start(1));
        let upstream = lab.live_upstreams()[0];
        lab.server_does(upstream, how);
        assert_eq!((lab.kinds(calls), lab.kinds(idle)), (vec![2, 8, 13, 3], vec![2]));
        // It calls over a tunnel of its own.
        lab.says(idle, &messages::outgoing_request(0));
        lab.assert_all_calls_live(1);
    }
}

#[test]
fn a_client_with_calls_in_several_connections_goes_on_with_those_it_has() {
    let mut lab = Lab::new(1);
    let session = lab.start(0);
    for pns in 0..3 {
        lab.says(session, &messages::outgoing_request(pns));
    }
    let lost = lab.calls()[1].tunnel.unwrap();
    lab.server_does(lost, Back::Ends(Gone::Finished));
    assert_eq!(lab.kinds(session), [2, 8, 8, 8, 13]);
    assert_eq!(lab.clients[&session].cut, None);
    lab.assert_all_calls_live(2);
}

#[test]
fn echo_is_answered_on_each_leg_by_us() {
    let (mut lab, sessions) = ten(65_535);
    let upstream = lab.live_upstreams()[0];
    let before = lab.server.heard[&upstream].len();
    lab.says(sessions[3], &messages::echo_request());
    assert_eq!(lab.last(sessions[3]), messages::echo_reply());
    assert_eq!(lab.server.heard[&upstream].len(), before);
    lab.server_says(upstream, &messages::echo_request());
    assert_eq!(lab.server.heard[&upstream].last().unwrap(), &messages::echo_reply());
    assert_eq!(lab.kinds(sessions[4]), [2, 8]);
}

#[test]
fn when_the_gateway_stops_all_are_told() {
    let (mut lab, sessions) = ten(4);
    let half = lab.connect(99);
    lab.shared.shut_down(&mut lab.engine, lab.now);
    lab.settle();
    for &session in &sessions {
        assert_eq!(lab.kinds(session), [2, 8, 13, 3]);
    }
    assert_eq!(lab.clients[&half].cut, Some(Cut::Reset));
    assert_eq!(lab.live_upstreams(), []);
    lab.assert_nothing_left();
}

#[test]
fn when_the_last_rule_goes_and_then_the_gateway_clients_still_have_their_time_and_servers_are_told() {
    let (mut lab, sessions) = ten(4);
    lab.shared.set_policies(&mut |_| None, &mut lab.engine, lab.now);
    lab.shared.shut_down(&mut lab.engine, lab.now);
    let upstreams = lab.live_upstreams();
    lab.settle();
    for &session in &sessions {
        assert_eq!((lab.kinds(session), lab.clients[&session].cut), (vec![2, 8, 13, 3], None));
    }
    assert!(upstreams.iter().all(|upstream| lab.server_kinds(*upstream).last() == Some(&3)));
    lab.says(sessions[0], &messages::stop_reply());
    assert_eq!(lab.clients[&sessions[0]].cut, Some(Cut::Closed));
    lab.assert_nothing_left();
}

#[test]
fn when_a_rule_goes_its_sessions_end_and_the_connection_stays_for_the_others() {
    let mut lab = Lab::new(65_535);
    let stays = lab.start_with_call(0, 0);
    lab.policy.rule = "pos/others".into();
    let goes = lab.start_with_call(1, 0);
    let mut look_up = |old: &callgate_pptp::Policy| (old.rule == "pos/tills").then(|| old.clone());
    lab.shared.set_policies(&mut look_up, &mut lab.engine, lab.now);
    lab.settle();
    assert_eq!((lab.kinds(stays), lab.kinds(goes)), (vec![2, 8], vec![2, 8, 13, 3]));
    assert_eq!(lab.upstreams.len(), 1);
    lab.assert_all_calls_live(1);
}

#[test]
fn a_connection_goes_by_what_its_alg_says_though_the_rule_that_opened_it_is_gone() {
    let mut lab = Lab::new(65_535);
    let goes = lab.start_with_call(0, 0);
    lab.policy.rule = "pos/others".into();
    lab.start_with_call(1, 0);
    let mut look_up = |old: &callgate_pptp::Policy| {
        (old.rule == "pos/others").then(|| callgate_pptp::Policy { echo_timeout_ms: 0, ..old.clone() })
    };
    lab.shared.set_policies(&mut look_up, &mut lab.engine, lab.now);
    lab.settle();
    lab.says(goes, &messages::stop_reply());
    lab.wait(600_000);
    // The server answers no Echo-Request, and is asked for none.
    let kinds = lab.server_kinds(lab.live_upstreams()[0]);
    assert_eq!((kinds, lab.shared.sessions().len()), (vec![1, 7, 7, 12], 1));
    lab.assert_all_calls_live(1);
}

#[test]
fn sessions_whose_service_has_another_alg_now_end_and_the_log_says_so() {
    let mut lab = Lab::new(65_535);
    let session = lab.start_with_call(0, 0);
    let mut look_up =
        |old: &callgate_pptp::Policy| Some(callgate_pptp::Policy { alg: "pos/other".into(), ..old.clone() });
    lab.shared.set_policies(&mut look_up, &mut lab.engine, lab.now);
    lab.settle();
    assert_eq!(lab.kinds(session), [2, 8, 13, 3]);
    let why = lab.events.iter().find_map(|event| match event {
        Event::SessionClosed { why, .. } => Some((*why, why.to_string())),
        _ => None,
    });
    assert_eq!(
        why,
        Some((SessionEnd::AlgChanged, "its service's algRef is not the PptpAlg that its tunnel is of".to_owned()))
    );
}
