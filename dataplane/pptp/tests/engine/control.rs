//! What each control message does to calls, with the habits and faults of real peers.

use callgate_pptp::{CallEnd, CallState, Change, Event, Limits};

use super::messages::{self, gre, read_gre};
use super::pair::{EXTERNAL, Link, Pair, SERVER, client_addr};

fn id(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn ends(pair: &Pair) -> Vec<CallEnd> {
    let reasons = pair.events.iter().filter_map(|event| match event {
        Event::CallDown { reason, .. } => Some(*reason),
        _ => None,
    });
    reasons.collect()
}

/// Both ends have been acknowledged all they have sent: nothing hangs after a shift of numbers.
fn settled(pair: &Pair, link: Link) {
    let (client, server) = (&pair.clients[&link.client], &pair.servers[&link.server]);
    assert_eq!((client.acked, server.acked), (client.next, server.next));
}

#[test]
fn set_link_info_passes_both_ways_with_the_id_its_receiver_knows() {
    let mut pair = Pair::new();
    let link = pair.start(client_addr(0), 40_000);
    let translated = pair.call(link, 5, 100);
    pair.client_says(link, &messages::set_link_info(100));
    assert_eq!(pair.at_server(link).pop().unwrap(), messages::set_link_info(100));
    pair.server_says(link, &messages::set_link_info(translated));
    assert_eq!(pair.at_client(link).pop().unwrap(), messages::set_link_info(5));
}

#[test]
fn a_message_about_a_call_that_is_not_there_reaches_nobody_and_the_connection_goes_on() {
    let mut pair = Pair::new();
    let link = pair.start(client_addr(0), 40_000);
    let translated = pair.call(link, 5, 100);
    let nobody = translated.wrapping_add(1);
    let (at_client, at_server) = (pair.at_client(link), pair.at_server(link));
    for message in [
        messages::outgoing_reply(7, nobody, 1),
        messages::incoming_connected(nobody),
        messages::disconnect_notify(if nobody == 100 { 101 } else { nobody }),
        messages::wan_error(nobody),
        messages::set_link_info(nobody),
    ] {
        pair.server_says(link, &message);
    }
    // With the id of another call, untranslated, one of these would end or join that call.
    for message in [messages::call_clear(translated.wrapping_add(5)), messages::incoming_reply(5, 9, 1)] {
        pair.client_says(link, &message);
    }
    assert_eq!((pair.at_client(link), pair.at_server(link)), (at_client, at_server));
    assert_eq!((pair.engine.counters().messages_unknown_call, pair.engine.counters().messages_swallowed), (7, 7));
    settled(&pair, link);
    pair.client_says(link, &messages::echo_request());
    pair.server_says(link, &messages::echo_reply());
    assert_eq!(pair.at_server(link).pop().unwrap(), messages::echo_request());
    assert_eq!(pair.at_client(link).pop().unwrap(), messages::echo_reply());
    settled(&pair, link);
}

#[test]
fn a_request_that_is_repeated_before_its_reply_keeps_its_translated_id() {
    let mut pair = Pair::new();
    let link = pair.start(client_addr(0), 40_000);
    pair.client_says(link, &messages::outgoing_request(5));
    pair.client_says(link, &messages::outgoing_request(5));
    let requests = pair.at_server(link);
    assert_eq!(requests[1], requests[2]);
    let translated = id(&requests[1], 12);
    pair.server_says(link, &messages::outgoing_reply(100, translated, 1));
    assert_eq!(pair.engine.calls().len(), 1);
}

#[test]
fn a_request_for_a_live_id_starts_that_call_anew() {
    let mut pair = Pair::new();
    let link = pair.start(client_addr(0), 40_000);
    let first = pair.call(link, 5, 100);
    let second = pair.call(link, 5, 101);
    assert_ne!(first, second);
    assert_eq!(ends(&pair), [CallEnd::Restarted]);
    let calls: Vec<_> = pair.engine.calls().iter().map(|call| (call.pns_id, call.translated_id, call.pac_id)).collect();
    assert_eq!(calls, [(Some(5), Some(second), Some(101))]);
}

#[test]
fn a_server_that_gives_its_id_to_a_second_call_has_ended_the_first() {
    let mut pair = Pair::new();
    let link = pair.start(client_addr(0), 40_000);
    pair.call(link, 5, 100);
    let second = pair.call(link, 6, 100);
    assert_eq!(ends(&pair), [CallEnd::PacIdReused]);
    let calls: Vec<_> = pair.engine.calls().iter().map(|call| (call.pns_id, call.translated_id)).collect();
    assert_eq!(calls, [(Some(6), Some(second))]);
}

#[test]
fn a_second_reply_with_another_pac_id_does_not_move_the_call() {
    let mut pair = Pair::new();
    let link = pair.start(client_addr(0), 40_000);
    let translated = pair.call(link, 5, 100);
    pair.server_says(link, &messages::outgoing_reply(200, translated, 1));
    assert_eq!(pair.engine.calls()[0].pac_id, Some(100));
    pair.up(gre(client_addr(0), SERVER, 200, 0, b"to an id that was never the call's"));
    assert_eq!(pair.at_server.len(), 0);
    pair.up(gre(client_addr(0), SERVER, 100, 0, b"to the call"));
    assert_eq!(read_gre(&pair.at_server[0]), (EXTERNAL, SERVER, 100, b"to the call".to_vec()));
}

#[test]
fn an_outgoing_call_is_not_up_before_the_reply_that_says_its_pac_id() {
    let mut pair = Pair::new();
    let link = pair.start(client_addr(0), 40_000);
    pair.client_says(link, &messages::outgoing_request(5));
    let translated = id(&pair.at_server(link).pop().unwrap(), 12);
    pair.server_says(link, &messages::incoming_connected(translated));
    assert_eq!(pair.at_client(link).pop(), Some(messages::incoming_connected(5)));
    assert_eq!(pair.engine.calls()[0].state, CallState::Requested);
    pair.server_says(link, &messages::outgoing_reply(100, translated, 1));
    assert_eq!((pair.engine.calls()[0].state, pair.engine.calls()[0].pac_id), (CallState::Up, Some(100)));
    pair.up(gre(client_addr(0), SERVER, 100, 0, b"to the call"));
    assert_eq!(read_gre(&pair.at_server[0]), (EXTERNAL, SERVER, 100, b"to the call".to_vec()));
}

#[test]
fn an_incoming_reply_that_is_longer_than_its_type_stays_as_long_when_it_becomes_a_refusal() {
    let mut pair = Pair::with_limits(Limits { call_ids_per_client: 0, ..Limits::default() });
    pair.policy.strict = false;
    let link = pair.start(client_addr(0), 40_000);
    pair.server_says(link, &messages::incoming_request(9));
    let longer = messages::message(10, 28, &[(12, &[0, 3, 0, 9, 1])]);
    pair.client_says(link, &[longer, messages::echo_request()].concat());
    let expected = [messages::message(10, 28, &[(14, &[0, 9, 2, 4])]), messages::echo_request()].concat();
    assert_eq!(pair.servers[&link.server].got[156..], expected);
}

#[test]
fn two_connections_of_one_client_with_the_same_pac_id_the_newer_has_the_way_up_until_it_ends() {
    let mut pair = Pair::new();
    let (first, second) = (pair.start(client_addr(0), 40_000), pair.start(client_addr(0), 40_001));
    let old = pair.call(first, 5, 100);
    let new = pair.call(second, 5, 100);
    assert_eq!(pair.engine.counters().calls_pac_id_reused, 1);
    assert!(
        pair.events.iter().any(|event| matches!(event, Event::PacIdCollision { older } if older.translated_id == old))
    );
    // Downwards both are told apart.
    for translated in [old, new] {
        pair.down(gre(SERVER, EXTERNAL, translated, 0, b"x"));
    }
    assert_eq!(pair.at_client.len(), 2);
    pair.up(gre(client_addr(0), SERVER, 100, 0, b"x"));
    let packets: Vec<u64> = pair.engine.calls().iter().map(|call| call.up.packets).collect();
    assert_eq!(packets, [0, 1]);
    pair.server_says(second, &messages::disconnect_notify(100));
    pair.up(gre(client_addr(0), SERVER, 100, 1, b"x"));
    let packets: Vec<u64> = pair.engine.calls().iter().map(|call| call.up.packets).collect();
    assert_eq!(packets, [1]);
}

#[test]
fn a_call_that_is_refused_leaves_no_trace_and_its_id_is_free_again() {
    let mut pair = Pair::new();
    let link = pair.start(client_addr(0), 40_000);
    pair.client_says(link, &messages::outgoing_request(5));
    let translated = id(&pair.at_server(link).pop().unwrap(), 12);
    pair.server_says(link, &messages::outgoing_reply(0, translated, 4));
    assert_eq!(pair.at_client(link).pop().unwrap(), messages::outgoing_reply(0, 5, 4));
    assert_eq!(ends(&pair), [CallEnd::NotAccepted { result: 4, error: 0 }]);
    assert_eq!(pair.engine.calls(), []);
    assert!(
        pair.engine.records().iter().all(|record| matches!(record, Change::Update(_))),
        "{:?}",
        pair.engine.records()
    );
}

#[test]
fn a_request_without_reply_is_given_up_and_both_ends_are_told() {
    let mut pair = Pair::new();
    let link = pair.start(client_addr(0), 40_000);
    pair.client_says(link, &messages::outgoing_request(5));
    let translated = id(&pair.at_server(link).pop().unwrap(), 12);
    pair.wait(61_000);
    let reply = pair.at_client(link).pop().unwrap();
    assert_eq!((id(&reply, 8), id(&reply, 14), reply[16]), (8, 5, 6));
    assert_eq!(pair.at_server(link).pop().unwrap(), messages::call_clear(translated));
    assert_eq!(ends(&pair), [CallEnd::SetupTimeout]);
    // The late reply is about a call that is not there.
    pair.server_says(link, &messages::outgoing_reply(100, translated, 1));
    assert_eq!(pair.at_client(link).pop().unwrap(), reply);
    assert_eq!(pair.engine.calls(), []);
    settled(&pair, link);
}

#[test]
fn an_incoming_call_nobody_answers_is_given_up_and_both_ends_are_told() {
    let mut pair = Pair::new();
    let link = pair.start(client_addr(0), 40_000);
    pair.server_says(link, &messages::incoming_request(9));
    pair.wait(61_000);
    let notify = pair.at_client(link).pop().unwrap();
    assert_eq!((id(&notify, 8), id(&notify, 12)), (13, 9));
    let refusal = pair.at_server(link).pop().unwrap();
    assert_eq!((id(&refusal, 8), id(&refusal, 14), refusal[16]), (10, 9, 3));
    assert_eq!(pair.engine.calls(), []);
    settled(&pair, link);
}

#[test]
fn max_calls_counts_incoming_calls_and_refuses_the_next_to_the_server() {
    let mut pair = Pair::new();
    pair.policy.max_calls = 1;
    let link = pair.start(client_addr(0), 40_000);
    pair.server_says(link, &messages::incoming_request(9));
    pair.client_says(link, &messages::incoming_reply(3, 9, 1));
    let translated = id(&pair.at_server(link).pop().unwrap(), 12);
    pair.server_says(link, &messages::incoming_connected(translated));
    assert_eq!(pair.engine.calls()[0].state, CallState::Up);
    let seen = pair.at_client(link);
    pair.server_says(link, &messages::incoming_request(10));
    assert_eq!(pair.at_client(link), seen);
    let refusal = pair.at_server(link).pop().unwrap();
    assert_eq!((id(&refusal, 8), id(&refusal, 14), refusal[16]), (10, 10, 3));
    settled(&pair, link);
}

#[test]
fn gre_of_an_incoming_call_waits_until_it_is_connected() {
    let mut pair = Pair::new();
    let link = pair.start(client_addr(0), 40_000);
    pair.server_says(link, &messages::incoming_request(9));
    pair.client_says(link, &messages::incoming_reply(3, 9, 1));
    let translated = id(&pair.at_server(link).pop().unwrap(), 12);
    pair.down(gre(SERVER, EXTERNAL, translated, 0, b"early"));
    pair.up(gre(client_addr(0), SERVER, 9, 0, b"too early"));
    assert_eq!((pair.at_client.len(), pair.at_server.len()), (0, 0));
    pair.server_says(link, &messages::incoming_connected(translated));
    assert_eq!(read_gre(&pair.at_client[0]), (SERVER, client_addr(0), 3, b"early".to_vec()));
}

#[test]
fn stop_ends_all_calls_of_its_connection_and_no_other() {
    let mut pair = Pair::new();
    let (link, other) = (pair.start(client_addr(0), 40_000), pair.start(client_addr(1), 40_000));
    pair.call(link, 5, 100);
    pair.call(link, 6, 101);
    pair.call(other, 5, 102);
    pair.client_says(link, &messages::stop_request());
    pair.server_says(link, &messages::stop_reply());
    assert_eq!(pair.at_client(link).pop().unwrap(), messages::stop_reply());
    assert_eq!(ends(&pair), [CallEnd::Stopped(callgate_pptp::Side::Client); 2]);
    assert_eq!(pair.engine.calls().len(), 1);
}

#[test]
fn a_cleared_call_whose_server_says_nothing_is_gone_a_little_later() {
    let mut pair = Pair::new();
    let link = pair.start(client_addr(0), 40_000);
    pair.call(link, 5, 100);
    pair.client_says(link, &messages::call_clear(5));
    pair.wait(11_000);
    assert_eq!(pair.engine.calls(), []);
    assert_eq!(ends(&pair), [CallEnd::Cleared(callgate_pptp::Side::Client)]);
}

#[test]
fn the_call_id_of_an_ended_call_is_not_given_out_while_it_rests() {
    let mut pair = Pair::new();
    let link = pair.start(client_addr(0), 40_000);
    let mut seen = std::collections::BTreeSet::new();
    for pac in 0..2_000 {
        assert!(seen.insert(pair.call(link, 5, pac)), "given out again at once");
        pair.server_says(link, &messages::disconnect_notify(pac));
        pair.clients.get_mut(&link.client).unwrap().got.clear();
        pair.servers.get_mut(&link.server).unwrap().got.clear();
    }
}

#[test]
fn what_passed_between_the_last_record_and_a_restart_was_not_lost() {
    let mut pair = Pair::new();
    let link = pair.start(client_addr(0), 40_000);
    let translated = pair.call(link, 5, 100);
    let both = |pair: &mut Pair, seq| {
        pair.up(gre(client_addr(0), SERVER, 100, seq, b"x"));
        pair.down(gre(SERVER, EXTERNAL, translated, seq, b"x"));
    };
    (0..3).for_each(|seq| both(&mut pair, seq));
    pair.client_says(link, &messages::echo_request());
    (3..50).for_each(|seq| both(&mut pair, seq));
    pair.restart();
    [50, 52].into_iter().for_each(|seq| both(&mut pair, seq));
    let call = &pair.engine.calls()[0];
    assert_eq!((call.up.lost, call.down.lost), (1, 1));
}

#[test]
fn a_call_that_is_being_cleared_at_a_restart_has_its_time_anew() {
    let mut pair = Pair::new();
    let link = pair.start(client_addr(0), 40_000);
    pair.call(link, 5, 100);
    pair.client_says(link, &messages::call_clear(5));
    pair.now = pair.now.after(100_000);
    pair.restart();
    pair.wait(59_000);
    pair.server_says(link, &messages::disconnect_notify(100));
    assert_eq!(pair.at_client(link).pop(), Some(messages::disconnect_notify(100)));
    assert_eq!(pair.engine.calls(), []);
}

#[test]
fn losses_are_told_by_gaps_of_the_sequence_numbers() {
    let mut pair = Pair::new();
    let link = pair.start(client_addr(0), 40_000);
    let translated = pair.call(link, 5, 100);
    for seq in [1, 2, 5] {
        pair.up(gre(client_addr(0), SERVER, 100, seq, b"x"));
    }
    for seq in [0, 2, 1] {
        pair.down(gre(SERVER, EXTERNAL, translated, seq, b"x"));
    }
    let call = &pair.engine.calls()[0];
    assert_eq!(((call.up.packets, call.up.lost), (call.down.packets, call.down.lost)), ((3, 2), (3, 0)));
}
