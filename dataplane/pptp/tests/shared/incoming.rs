//! Calls of the server: one client after another is asked, and the ids find their way.

use super::lab::{Lab, Rings, client_addr, id};
use super::messages;
use super::peer::Clears;

#[test]
fn an_incoming_call_goes_to_the_client_with_the_fewest_calls_and_carries_gre() {
    let mut lab = Lab::new(65_535);
    let busy = lab.start_with_call(0, 0);
    let free = lab.start(1);
    lab.clients.get_mut(&free).unwrap().rings = Rings::Accepts(3);
    let upstream = lab.live_upstreams()[0];
    lab.server_says(upstream, &messages::incoming_request(900));
    assert_eq!((lab.kinds(busy), lab.kinds(free)), (vec![2, 8], vec![2, 9, 11]));
    assert_eq!(lab.last(free), messages::incoming_connected(3));
    let reply = lab.server.heard[&upstream].last().unwrap().clone();
    let call = lab.calls_of(free)[0].clone();
    assert_eq!((id(&reply, 12), id(&reply, 14)), (call.server_pns.unwrap(), 900));
    lab.assert_all_calls_live(2);
    // And the client may end it.
    lab.says(free, &messages::call_clear(3));
    assert_eq!(lab.last(free)[9], 13);
    lab.assert_all_calls_live(1);
}

#[test]
fn the_server_hears_of_a_clients_line_only_while_their_call_is_up() {
    let mut lab = Lab::new(65_535);
    let session = lab.start(0);
    let upstream = lab.live_upstreams()[0];
    lab.server_says(upstream, &messages::incoming_request(900));
    let offered = id(&lab.last(session), 12);
    lab.says(session, &messages::set_link_info(offered));
    lab.says(session, &messages::incoming_reply(3, offered, 1));
    assert_eq!(lab.server_kinds(upstream), [1, 10]);
    lab.says(session, &messages::set_link_info(offered));
    assert_eq!(lab.server_kinds(upstream), [1, 10, 15]);
    lab.server.clears = Clears::Silent;
    lab.says(session, &messages::call_clear(3));
    lab.says(session, &messages::set_link_info(offered));
    assert_eq!(lab.server_kinds(upstream), [1, 10, 15, 12]);
    assert_eq!(lab.shared.counters().messages_ignored, 2);
}

#[test]
fn a_client_that_refuses_or_leaves_is_followed_by_the_next_one() {
    let mut lab = Lab::new(65_535);
    let sessions: Vec<_> = (0..3).map(|n| lab.start(n)).collect();
    lab.clients.get_mut(&sessions[0]).unwrap().rings = Rings::Refuses;
    lab.clients.get_mut(&sessions[2]).unwrap().rings = Rings::Accepts(8);
    let upstream = lab.live_upstreams()[0];
    lab.server_says(upstream, &messages::incoming_request(900));
    assert_eq!((lab.kinds(sessions[0]), lab.kinds(sessions[1])), (vec![2, 9], vec![2, 9]));
    assert_eq!(lab.kinds(sessions[2]), [2]);
    lab.leaves(sessions[1], callgate_pptp::shared::Gone::Reset);
    assert_eq!(lab.kinds(sessions[2]), [2, 9, 11]);
    lab.assert_all_calls_live(1);
}

#[test]
fn a_call_nobody_takes_is_refused_and_the_server_hears_the_last_answer() {
    let mut lab = Lab::new(65_535);
    let sessions: Vec<_> = (0..3).map(|n| lab.start(n)).collect();
    for session in &sessions {
        lab.clients.get_mut(session).unwrap().rings = Rings::Refuses;
    }
    let upstream = lab.live_upstreams()[0];
    lab.server_says(upstream, &messages::incoming_request(900));
    let reply = lab.server.heard[&upstream].last().unwrap();
    assert_eq!((reply[9], id(reply, 14), reply[16]), (10, 900, 3));
    assert_eq!(lab.shared.call_count(), 0);
}

#[test]
fn a_call_nobody_answers_stops_ringing_after_a_minute() {
    let mut lab = Lab::new(65_535);
    let session = lab.start(0);
    let upstream = lab.live_upstreams()[0];
    lab.server_says(upstream, &messages::incoming_request(900));
    lab.wait(61_000);
    assert_eq!(lab.kinds(session).iter().filter(|kind| **kind == 13).count(), 1);
    let refused = lab.server.heard[&upstream].iter().filter(|message| message[9] == 10 && message[16] == 3).count();
    assert_eq!((refused, lab.shared.call_count()), (1, 0));
}

#[test]
fn a_caller_that_hangs_up_stops_the_ringing() {
    let mut lab = Lab::new(65_535);
    let session = lab.start(0);
    let upstream = lab.live_upstreams()[0];
    lab.server_says(upstream, &messages::incoming_request(900));
    lab.server_says(upstream, &messages::incoming_request(900));
    assert_eq!(lab.kinds(session), [2, 9]);
    lab.server_says(upstream, &messages::disconnect_notify(900));
    let told = lab.last(session);
    assert_eq!((told[9], id(&told, 12), lab.shared.call_count()), (13, 900, 0));
}

#[test]
fn beyond_max_calls_an_incoming_call_is_refused_for_lack_of_resources() {
    let mut lab = Lab::new(65_535);
    lab.policy.max_calls = 1;
    let session = lab.start_with_call(0, 0);
    let upstream = lab.live_upstreams()[0];
    lab.server_says(upstream, &messages::incoming_request(900));
    let reply = lab.server.heard[&upstream].last().unwrap();
    assert_eq!((reply[9], reply[16], reply[17]), (10, 3, 4));
    assert_eq!(lab.kinds(session), [2, 8]);
}

#[test]
fn calls_the_server_offers_and_takes_back_without_end_use_up_no_ids_and_the_next_one_rings() {
    let mut lab = Lab::new(65_535);
    let session = lab.start(0);
    lab.start(0);
    let upstream = lab.live_upstreams()[0];
    for round in 0..70_000u32 {
        let pac = (round % 65_536) as u16;
        lab.server_says(upstream, &messages::incoming_request(pac));
        lab.server_says(upstream, &messages::disconnect_notify(pac));
        // What has been looked at.
        lab.clients.values_mut().for_each(|client| client.got.clear());
        lab.server.heard.get_mut(&upstream).unwrap().truncate(1);
        lab.events.clear();
        lab.log.clear();
    }
    lab.server_says(upstream, &messages::incoming_request(900));
    let told = lab.last(session);
    assert_eq!((told[9], id(&told, 12), lab.server_kinds(upstream)), (9, 900, vec![1]));
    assert_eq!(lab.shared.sizes().calls.resting, 0);
    // The id of one that was accepted rests: its client's GRE may still come.
    lab.says(session, &messages::incoming_reply(3, 900, 1));
    lab.server_says(upstream, &messages::disconnect_notify(900));
    assert_eq!(lab.shared.sizes().calls.resting, 1);
    lab.server_says(upstream, &messages::incoming_request(900));
    let told = lab.last(session);
    assert_eq!((told[9], id(&told, 12) == 900, lab.shared.call_count()), (9, false, 1));
}

#[test]
fn a_call_of_the_server_is_listed_under_the_rule_of_the_client_that_has_it() {
    let mut lab = Lab::new(65_535);
    lab.start_with_call(0, 0);
    lab.policy.rule = "pos/others".into();
    let second = lab.start(1);
    lab.clients.get_mut(&second).unwrap().rings = Rings::Accepts(3);
    let upstream = lab.live_upstreams()[0];
    lab.server_says(upstream, &messages::incoming_request(900));
    let mut rules: Vec<_> = lab.shared.calls(&|_| 0).into_iter().map(|call| (call.flow.client, call.rule)).collect();
    rules.sort();
    assert_eq!(rules, [(client_addr(0), "pos/tills".to_owned()), (client_addr(1), "pos/others".to_owned())]);
    lab.assert_all_calls_live(2);
}
