//! How many connections to the server carry how many calls, and when they are opened and closed.

use callgate_pptp::shared::{Command, Config, Event, Gone, Identity, StartFailure, TunnelState};

use super::lab::{Cut, Lab, id};
use super::messages;
use super::peer::{Back, Surplus};

#[test]
fn a_hundred_clients_with_call_id_zero_share_one_connection_to_a_server_with_65535_channels() {
    let mut lab = Lab::new(65_535);
    for n in 0..100 {
        lab.start_with_call(n, 0);
    }
    assert_eq!(lab.upstreams.len(), 1);
    lab.assert_all_calls_live(100);
    let tunnels = lab.shared.tunnels();
    assert_eq!(
        tunnels.iter().map(|t| (t.state, t.channels, t.calls)).collect::<Vec<_>>(),
        [(TunnelState::Established, 65_535, 100)]
    );
    assert_eq!((tunnels[0].up.packets, tunnels[0].down.packets), (100, 100));
}

#[test]
fn with_max_channels_4_there_are_as_few_connections_as_four_calls_each_allow() {
    for n in 1..=21u32 {
        let mut lab = Lab::new(4);
        for client in 0..n {
            lab.start_with_call(client, 0);
        }
        assert_eq!(lab.upstreams.len(), n.div_ceil(4) as usize, "{n} calls");
        lab.assert_all_calls_live(n as usize);
    }
}

#[test]
fn with_max_channels_4_a_hundred_calls_asked_for_before_the_server_answers_take_25_connections() {
    let mut lab = Lab::new(4);
    let sessions: Vec<_> = (0..100).map(|n| lab.connect(n)).collect();
    // All of it is said before a single command is carried out.
    for &session in &sessions {
        let said = [messages::start_request(), messages::outgoing_request(7)].concat();
        lab.shared.client_bytes(session, &said, &mut lab.engine, lab.now);
    }
    lab.settle();
    assert_eq!(lab.upstreams.len(), 25);
    lab.assert_all_calls_live(100);
}

#[test]
fn with_max_channels_1_each_call_has_a_connection_and_a_client_without_one_has_none() {
    let mut lab = Lab::new(1);
    for n in 0..10 {
        lab.start_with_call(n, 0);
    }
    for n in 10..20 {
        lab.start(n);
    }
    assert_eq!(lab.upstreams.len(), 10);
    lab.assert_all_calls_live(10);
}

#[test]
fn a_server_that_says_zero_channels_gets_one_call_a_connection() {
    let mut lab = Lab::new(65_535);
    lab.server.channels = 0;
    let session = lab.start(0);
    assert_eq!(lab.kinds(session), [2]);
    assert_eq!(lab.shared.tunnels()[0].channels, 1);
}

#[test]
fn several_calls_of_one_client_and_of_one_session_are_spread_over_connections() {
    let mut lab = Lab::new(2);
    lab.server.first_pac = Some(0);
    let session = lab.start(0);
    for pns in 0..5 {
        lab.says(session, &messages::outgoing_request(pns));
    }
    assert_eq!(lab.upstreams.len(), 3);
    // The server counts anew on each connection, the client hears five different ids.
    let calls = lab.calls();
    let mut server_ids: Vec<u16> = calls.iter().map(|call| call.server_pac.unwrap()).collect();
    server_ids.sort_unstable();
    assert_eq!(server_ids, [0, 0, 0, 1, 1]);
    let mut ids: Vec<u16> = calls.iter().map(|call| call.client_pac.unwrap()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 5);
    assert_eq!(lab.shared.counters().calls_pac_id_changed, 3);
    lab.assert_all_calls_live(5);
}

#[test]
fn the_server_is_not_called_before_a_whole_valid_first_message_is_in() {
    let mut lab = Lab::new(65_535);
    let session = lab.connect(0);
    let first = messages::start_request();
    for octet in &first[..155] {
        lab.says(session, &[*octet]);
    }
    assert_eq!((lab.log.len(), lab.upstreams.len()), (0, 0));
    lab.says(session, &first[155..]);
    assert_eq!(lab.upstreams.len(), 1);
    assert!(matches!(lab.log[0], Command::Open { .. }));
}

#[test]
fn what_is_not_a_first_message_is_reset_and_nobody_is_called() {
    for first in [messages::echo_request(), messages::outgoing_request(1), b"GET / HTTP/1.1\r\n".to_vec()] {
        let mut lab = Lab::new(65_535);
        let session = lab.connect(0);
        lab.says(session, &first);
        assert_eq!((lab.clients[&session].cut, lab.upstreams.len()), (Some(Cut::Reset), 0));
        lab.assert_nothing_left();
    }
}

#[test]
fn a_client_of_another_version_is_told_so() {
    let mut lab = Lab::new(65_535);
    let session = lab.connect(0);
    lab.says(session, &messages::message(1, 156, &[(12, &[2, 0])]));
    let reply = lab.last(session);
    assert_eq!((reply[9], id(&reply, 12), reply[14]), (2, 0x0100, 5));
    assert_eq!((lab.clients[&session].cut, lab.upstreams.len()), (Some(Cut::Closed), 0));
}

#[test]
fn clients_see_the_server_and_the_server_sees_us_as_configured() {
    let to_server =
        Identity { framing: 1, bearer: 2, host: "gate-7".into(), vendor: "V".into(), ..Identity::default() };
    let mut lab = Lab::with_config(65_535, Config { to_server, ..Config::default() });
    let session = lab.start(0);
    let upstream = lab.live_upstreams()[0];
    let request = &lab.server.heard[&upstream][0];
    assert_eq!((&request[28..35], &request[92..94]), (&b"gate-7\0"[..], &b"V\0"[..]));
    assert_eq!((request[19], request[23], id(request, 12), id(request, 24)), (1, 2, 0x0100, 0));
    let reply = lab.last(session);
    assert_eq!((&reply[28..39], reply[14], id(&reply, 24)), (&b"head office"[..], 1, 65_535));
}

#[test]
fn an_idle_connection_is_taken_leave_of_after_the_linger_time() {
    let mut lab = Lab::new(65_535);
    let session = lab.start_with_call(0, 5);
    let upstream = lab.live_upstreams()[0];
    lab.leaves(session, Gone::Finished);
    assert_eq!(lab.server_kinds(upstream), [1, 7, 12]);
    lab.wait(59_000);
    assert_eq!(lab.live_upstreams(), [upstream]);
    // Who comes meanwhile takes the same one.
    let session = lab.start_with_call(1, 5);
    assert_eq!(lab.upstreams.len(), 1);
    lab.leaves(session, Gone::Finished);
    lab.wait(61_000);
    assert_eq!(lab.live_upstreams(), []);
    assert_eq!(lab.server_kinds(upstream).last(), Some(&3));
    lab.assert_nothing_left();
}

#[test]
fn while_there_are_clients_one_connection_stays_and_the_others_close_when_they_run_empty() {
    let mut lab = Lab::new(1);
    let sessions: Vec<_> = (0..4).map(|n| lab.start_with_call(n, 5)).collect();
    for &session in &sessions {
        lab.says(session, &messages::call_clear(5));
        assert_eq!(lab.last(session)[9], 13);
    }
    lab.wait(200_000);
    assert_eq!(lab.live_upstreams().len(), 1);
    for session in sessions {
        lab.leaves(session, Gone::Reset);
    }
    lab.assert_nothing_left();
}

#[test]
fn a_server_that_refuses_a_second_connection_keeps_the_first_full_and_the_rest_hear_no_resource() {
    for surplus in [Surplus::Result(3), Surplus::Resets] {
        let mut lab = Lab::new(4);
        (lab.server.connections, lab.server.surplus) = (1, surplus);
        let sessions: Vec<_> = (0..6).map(|n| lab.start_with_call(n, 5)).collect();
        lab.assert_all_calls_live(4);
        for &session in &sessions[4..] {
            let reply = lab.last(session);
            assert_eq!((reply[9], id(&reply, 14), reply[16], reply[17]), (8, 5, 2, 4));
            assert_eq!(lab.clients[&session].cut, None);
        }
        // It was tried once, and the next time after a minute.
        assert_eq!(lab.upstreams.len(), 2);
        lab.says(sessions[0], &messages::call_clear(5));
        lab.says(sessions[4], &messages::outgoing_request(6));
        lab.assert_all_calls_live(4);
        lab.wait(61_000);
        lab.says(sessions[5], &messages::outgoing_request(6));
        assert_eq!(lab.upstreams.len(), 3);
        lab.assert_all_calls_live(4);
    }
}

#[test]
fn a_server_that_cannot_be_reached_is_tried_again_with_growing_waits_and_then_the_client_is_told() {
    let mut lab = Lab::new(65_535);
    lab.reachable = false;
    let session = lab.start(0);
    assert!(lab.kinds(session).is_empty());
    lab.wait(10_000);
    let reply = lab.last(session);
    assert_eq!((reply[9], reply[14], reply[15], lab.clients[&session].cut), (2, 2, 1, Some(Cut::Closed)));
    let waits: Vec<u64> = lab
        .events
        .iter()
        .filter_map(|event| match event {
            Event::UpstreamFailed { wait_ms, why: StartFailure::Connect(_), .. } => Some(*wait_ms),
            _ => None,
        })
        .collect();
    assert_eq!(waits.len(), 3);
    for (wait, whole) in waits.iter().zip([500, 1_000, 2_000]) {
        assert!((whole / 2..=whole).contains(wait), "{waits:?}");
    }
    lab.wait(60_000);
    lab.reachable = true;
    let session = lab.start_with_call(1, 5);
    assert_eq!(lab.kinds(session), [2, 8]);
}

#[test]
fn a_server_that_comes_back_serves_who_has_waited() {
    let mut lab = Lab::new(65_535);
    lab.reachable = false;
    let session = lab.start(0);
    lab.says(session, &messages::outgoing_request(5));
    lab.reachable = true;
    lab.wait(1_000);
    assert_eq!(lab.kinds(session), [2, 8]);
    lab.assert_all_calls_live(1);
}

#[test]
fn a_server_that_does_not_want_us_is_not_asked_again_for_the_same_client() {
    let mut lab = Lab::new(65_535);
    lab.server.dead = true;
    let session = lab.start(0);
    let upstream = lab.live_upstreams()[0];
    lab.server_says(upstream, &messages::message(2, 156, &[(12, &[1, 0, 4, 6])]));
    let reply = lab.last(session);
    assert_eq!((reply[9], reply[14], reply[15]), (2, 4, 6));
    assert_eq!((lab.clients[&session].cut, lab.upstreams.len()), (Some(Cut::Closed), 1));
}

#[test]
fn a_server_that_answers_nothing_is_given_up_and_the_client_told_in_time() {
    let mut lab = Lab::new(65_535);
    lab.server.dead = true;
    let session = lab.start(0);
    lab.wait(46_000);
    assert_eq!((lab.kinds(session), lab.clients[&session].cut), (vec![2], Some(Cut::Closed)));
    assert_ne!(lab.last(session)[14], 1);
    lab.assert_nothing_left();
}

#[test]
fn a_call_asked_for_while_the_server_closes_is_asked_for_again_on_another_connection() {
    let mut lab = Lab::new(65_535);
    lab.server.mute = true;
    let session = lab.start_with_call(0, 5);
    let first = lab.live_upstreams()[0];
    lab.server.mute = false;
    lab.server_does(first, Back::Ends(Gone::Finished));
    assert_eq!(lab.kinds(session), [2, 8]);
    assert_eq!((lab.upstreams.len(), lab.shared.counters().calls_retried), (2, 1));
    lab.assert_all_calls_live(1);
}

#[test]
fn a_refusal_beside_another_connection_is_forgotten_when_that_one_is_gone() {
    let mut lab = Lab::new(1);
    lab.server.connections = 1;
    let first = lab.start_with_call(0, 5);
    let second = lab.start_with_call(1, 5);
    assert_eq!((lab.last(second)[16], lab.last(second)[17]), (2, 4));
    let upstream = lab.live_upstreams()[0];
    lab.server_does(upstream, Back::Ends(Gone::Reset));
    assert_eq!(lab.kinds(first), [2, 8, 13, 3]);
    let third = lab.start_with_call(2, 5);
    assert_eq!((lab.kinds(third), lab.last(third)[16]), (vec![2, 8], 1));
}
