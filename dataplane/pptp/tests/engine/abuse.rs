//! What a hostile or broken peer cannot do to others.

use callgate_pptp::wire::{Seq, tcp};
use callgate_pptp::{CallRefusal, Change, CloseReason, Event, Limits, OpenRefusal, Side};

use super::ends::End;
use super::messages::*;
use super::pair::{EXTERNAL, Pair, SERVER, client_addr};

fn closed_as(pair: &Pair) -> Vec<CloseReason> {
    let reasons = pair.events.iter().filter_map(|event| match event {
        Event::Closed { reason, .. } => Some(*reason),
        _ => None,
    });
    reasons.collect()
}

#[test]
fn a_malformed_message_ends_its_own_connection_only_and_does_not_reach_the_other_end() {
    let mut bad_cookie = echo_request();
    bad_cookie[4] = 0;
    let mut bad_length = echo_request();
    bad_length[1] = 15;
    let mut bad_type = echo_request();
    bad_type[9] = 99;
    let mut management = echo_request();
    management[3] = 2;
    let wrong_direction = outgoing_reply(1, 1, 1);
    for bad in [bad_cookie, bad_length, bad_type, management, wrong_direction] {
        let mut pair = Pair::new();
        let victim = pair.start(client_addr(0), 40_000);
        let other = pair.start(client_addr(1), 40_000);
        pair.call(victim, 5, 100);
        pair.call(other, 5, 101);
        let before = pair.servers[&victim.server].got.len();
        pair.client_says(victim, &bad);
        assert_eq!(pair.servers[&victim.server].got.len(), before, "{bad:?}");
        assert!(pair.clients[&victim.client].reset && pair.servers[&victim.server].reset);
        assert_eq!(closed_as(&pair), [CloseReason::Malformed(Side::Client)]);
        assert_eq!(pair.engine.calls().len(), 1);
        assert!(!pair.clients[&other.client].reset);
        assert_eq!(pair.engine.counters().messages_malformed, 1);
    }
}

#[test]
fn a_malformed_message_of_the_server_does_not_reach_the_client() {
    let mut pair = Pair::new();
    let link = pair.start(client_addr(0), 40_000);
    let before = pair.clients[&link.client].got.len();
    pair.server_says(link, &outgoing_request(1));
    assert_eq!(pair.clients[&link.client].got.len(), before);
    assert_eq!(closed_as(&pair), [CloseReason::Malformed(Side::Server)]);
}

#[test]
fn permissive_validation_lets_it_pass() {
    let mut pair = Pair::new();
    pair.policy.strict = false;
    let link = pair.start(client_addr(0), 40_000);
    let wrong_direction = outgoing_reply(1, 1, 1);
    pair.client_says(link, &wrong_direction);
    assert_eq!(pair.at_server(link).pop().unwrap(), wrong_direction);
    let mut unknown = echo_request();
    unknown[9] = 99;
    pair.client_says(link, &unknown);
    assert_eq!(pair.at_server(link).pop().unwrap(), unknown);
    // A known message of the wrong direction is no fault without strict validation.
    assert_eq!(pair.engine.counters().messages_malformed, 1);
    assert_eq!(closed_as(&pair), []);
}

#[test]
fn a_first_message_that_is_not_a_start_request_never_reaches_the_server() {
    for first in [outgoing_request(5), b"GET / HTTP/1.0\r\n\r\n".to_vec()] {
        for strict in [true, false] {
            let mut pair = Pair::new();
            pair.policy.strict = strict;
            let link = pair.connect(client_addr(0), 40_000);
            pair.client_says(link, &first);
            assert_eq!(pair.servers[&link.server].got, b"");
            assert!(pair.clients[&link.client].reset && pair.servers[&link.server].reset);
        }
    }
}

#[test]
fn connections_without_a_first_message_are_limited_per_client_and_per_server() {
    let limits = Limits { half_open_per_client: 2, half_open_per_server: 3, ..Limits::default() };
    let mut pair = Pair::with_limits(limits);
    let mut reset = Vec::new();
    for (client, port) in [(0, 1), (0, 2), (0, 3), (1, 1), (1, 2)] {
        pair.connect(client_addr(client), port);
        reset.push(pair.clients[&(client_addr(client), port)].reset);
    }
    assert_eq!(reset, [false, false, true, false, true]);
    assert_eq!(pair.engine.counters().connections_refused, 2);
    // What has ended without its first message burdens the server no more, but its client for as long as it may say something.
    pair.wait(6_000);
    assert!(pair.start(client_addr(2), 1).server.1 > 0);
    pair.connect(client_addr(0), 8);
    assert!(pair.clients[&(client_addr(0), 8)].reset);
    pair.wait(10_000);
    let link = pair.start(client_addr(0), 9);
    assert_eq!(pair.at_server(link), [start_request()]);
}

/// Why connections were refused, each reason once.
fn refusals(pair: &Pair) -> Vec<OpenRefusal> {
    let mut refusals: Vec<OpenRefusal> = Vec::new();
    for event in &pair.events {
        if let Event::Refused { why, .. } = event
            && !refusals.contains(why)
        {
            refusals.push(*why);
        }
    }
    refusals
}

#[test]
fn a_client_that_opens_and_resets_without_end_leaves_ports_and_places_to_others() {
    let limits = Limits { port_ranges: vec![(20_000, 20_019)], max_connections: 4, ..Limits::default() };
    let mut pair = Pair::with_limits(limits);
    for port in 0..100 {
        let link = pair.connect(client_addr(0), port);
        pair.client_resets(link);
    }
    assert_eq!(refusals(&pair), [OpenRefusal::HalfOpenClient(8)]);
    let other = pair.start(client_addr(1), 40_000);
    assert_eq!(pair.at_server(other), [start_request()]);
    // What never began rests as long as it is remembered, and no longer.
    pair.wait(10_000);
    assert_eq!(pair.engine.records().len(), 1);
    pair.connect(client_addr(0), 200);
    assert!(!pair.clients[&(client_addr(0), 200)].reset);
}

#[test]
fn one_port_that_begins_anew_without_end_has_no_more_external_ports_than_a_client_may_have() {
    let limits = Limits { port_ranges: vec![(20_000, 20_019)], ports_per_client: 10, ..Limits::default() };
    let mut pair = Pair::with_limits(limits);
    // The server is slow to answer: each SYN has another number, and takes the place of the one before.
    for isn in 0..100 {
        let mut end = End::new(client_addr(0), 40_000, SERVER, 1723, isn * 1_000);
        let mut syn = end.syn();
        pair.engine.from_client(&mut syn, &mut super::pair::Always(super::pair::policy()), pair.now);
        while let Some(command) = pair.engine.poll_command() {
            if let callgate_pptp::Command::Note(event) = command {
                pair.events.push(event);
            }
        }
    }
    assert_eq!(refusals(&pair), [OpenRefusal::PortsOfClient(10)]);
    let other = pair.start(client_addr(1), 40_000);
    assert_eq!(pair.at_server(other), [start_request()]);
}

#[test]
fn ports_of_a_client_are_limited_live_and_resting_and_nobody_inherits_its_limit() {
    let limits = Limits { port_ranges: vec![(20_000, 20_019)], ports_per_client: 10, ..Limits::default() };
    let mut pair = Pair::with_limits(limits);
    let kept = pair.start(client_addr(0), 1);
    for port in 2..50 {
        pair.connect(client_addr(0), port);
        if pair.clients[&(client_addr(0), port)].reset {
            continue;
        }
        let link = super::pair::Link { client: (client_addr(0), port), server: pair.newest() };
        pair.client_says(link, &start_request());
        pair.client_resets(link);
    }
    assert_eq!(refusals(&pair), [OpenRefusal::PortsOfClient(10)]);
    assert_eq!(pair.engine.records().len(), 10, "one live, nine resting");
    let other = pair.start(client_addr(1), 40_000);
    assert_eq!(pair.at_server(other), [start_request()]);
    pair.client_says(kept, &echo_request());
    assert_eq!(pair.at_server(kept).pop(), Some(echo_request()));
    // Whoever has its address next has not used them.
    pair.engine.end_clients(&[client_addr(0)].into(), pair.now);
    pair.settle(callgate_pptp::Verdict::Consumed, vec![]);
    let heir = pair.start(client_addr(0), 60);
    assert_eq!(pair.at_server(heir), [start_request()]);
}

#[test]
fn a_server_that_refuses_connections_costs_neither_ports_nor_places() {
    let limits = Limits { port_ranges: vec![(20_000, 20_001)], max_connections: 2, ..Limits::default() };
    let mut pair = Pair::with_limits(limits);
    pair.refusing = true;
    for port in 0..50 {
        pair.connect(client_addr(0), port);
        assert!(pair.clients[&(client_addr(0), port)].reset);
    }
    assert_eq!(closed_as(&pair), [CloseReason::Reset(Side::Server); 50]);
    assert_eq!((refusals(&pair), pair.engine.records()), (vec![], vec![]));
    pair.refusing = false;
    let link = pair.start(client_addr(0), 60);
    assert_eq!(pair.at_server(link), [start_request()]);
    pair.restart();
    pair.client_says(link, &echo_request());
    assert_eq!(pair.at_server(link).pop(), Some(echo_request()));
}

#[test]
fn a_client_whose_calls_end_without_end_uses_up_its_own_call_ids_only() {
    let mut pair = Pair::with_limits(Limits { call_ids_per_client: 3, ..Limits::default() });
    pair.policy.echo_timeout_ms = 0;
    let (link, other) = (pair.start(client_addr(0), 40_000), pair.start(client_addr(1), 40_000));
    // Those that the server refuses are nobody's.
    for _ in 0..10 {
        pair.client_says(link, &outgoing_request(5));
        let request = pair.at_server(link).pop().unwrap();
        let translated = u16::from_be_bytes([request[12], request[13]]);
        pair.server_says(link, &outgoing_reply(0, translated, 4));
        assert_eq!(pair.at_client(link).pop(), Some(outgoing_reply(0, 5, 4)));
    }
    // Those that the client gives up rest, since the server may have taken them.
    for _ in 0..10 {
        pair.client_says(link, &outgoing_request(5));
        pair.client_says(link, &call_clear(5));
    }
    let refused = |event: &&Event| {
        matches!(event, Event::CallRefused { why: CallRefusal::CallIdsOfClient(3), pns_id: 5, flow }
            if flow.client == client_addr(0))
    };
    assert_eq!(pair.events.iter().filter(refused).count(), 7);
    let refusal = pair.at_client(link).pop().unwrap();
    assert_eq!((refusal[9], refusal[16], refusal[17]), (8, 2, 4));
    pair.call(other, 5, 100);
    assert_eq!(pair.at_client(other).pop(), Some(outgoing_reply(100, 5, 1)));
    // Also after a restart what is live is the client's; what has rested is not.
    pair.wait(10_000);
    pair.restart();
    pair.wait(121_000);
    for pns in 0..4 {
        pair.client_says(link, &outgoing_request(pns));
    }
    assert_eq!(pair.engine.call_count(), 4);
    assert_eq!(pair.events.iter().filter(|event| matches!(event, Event::CallRefused { .. })).count(), 8);
}

/// How often a connection is saved, and octets of the longest record.
fn saved(pair: &Pair) -> (usize, usize) {
    let records = pair.journal.iter().filter(|change| matches!(change, Change::Put(_)));
    let lengths: Vec<usize> = records.map(|record| serde_json::to_string(record).unwrap().len()).collect();
    (lengths.len(), lengths.into_iter().max().unwrap_or_default())
}

#[test]
fn calls_whose_time_comes_together_are_saved_together() {
    let mut pair = Pair::new();
    let link = pair.start(client_addr(0), 40_000);
    let other = pair.start(client_addr(1), 40_000);
    for pns in 0..200 {
        pair.client_says(link, &outgoing_request(pns));
    }
    pair.client_says(other, &outgoing_request(0));
    pair.wait(59_000);
    pair.journal.clear();
    pair.wait(1_500);
    assert_eq!((pair.engine.call_count(), pair.engine.counters().calls_timed_out), (0, 201));
    assert_eq!(saved(&pair).0, 2);
    let told = |messages: Vec<Vec<u8>>, kind: u8| messages.iter().filter(|message| message[9] == kind).count();
    assert_eq!((told(pair.at_client(link), 8), told(pair.at_server(link), 12)), (200, 200));
    // So are those that their client has given up.
    for pns in 0..200 {
        pair.client_says(link, &outgoing_request(pns));
    }
    for pns in 0..200 {
        pair.client_says(link, &call_clear(pns));
    }
    pair.wait(9_000);
    pair.journal.clear();
    pair.wait(1_500);
    assert_eq!((pair.engine.call_count(), saved(&pair).0), (0, 1));
}

#[test]
fn calls_of_one_connection_are_limited_and_the_next_is_refused_to_whoever_asks() {
    let mut pair = Pair::with_limits(Limits { calls_per_connection: 2, ..Limits::default() });
    let link = pair.start(client_addr(0), 40_000);
    pair.call(link, 5, 100);
    pair.call(link, 6, 101);
    pair.client_says(link, &outgoing_request(7));
    let refusal = pair.at_client(link).pop().unwrap();
    assert_eq!((refusal[9], refusal[15], refusal[16], refusal[17]), (8, 7, 2, 4));
    pair.server_says(link, &incoming_request(102));
    let refusal = pair.at_server(link).pop().unwrap();
    assert_eq!((refusal[9], refusal[15], refusal[16]), (10, 102, 3));
    let other = pair.start(client_addr(0), 40_001);
    pair.call(other, 5, 103);
    pair.server_says(link, &disconnect_notify(100));
    pair.call(link, 7, 104);
    assert_eq!(pair.engine.call_count(), 3);
}

#[test]
fn messages_that_are_taken_out_behind_what_a_deaf_server_has_not_got_are_limited() {
    let mut pair = Pair::new();
    let link = pair.start(client_addr(0), 40_000);
    let deaf = pair.servers.remove(&link.server).unwrap();
    pair.client_says(link, &echo_request());
    let start = pair.clients[&link.client].sent.len() - 16;
    for _ in 0..2_000 {
        pair.client_says(link, &call_clear(5));
    }
    let counters = pair.engine.counters();
    assert_eq!((counters.messages_swallowed, counters.drop_tcp_full), (511, 1));
    // It goes on where it stood once the server hears again.
    pair.servers.insert(link.server, deaf);
    let again = pair.clients[&link.client].again(start, start + 16);
    pair.up(again);
    let delivered = pair.clients[&link.client].delivered();
    let rest = pair.clients[&link.client].again(delivered, delivered + 160);
    pair.up(rest);
    assert_eq!((pair.engine.counters().messages_swallowed, delivered), (521, start + 16 + 511 * 16));
    assert_eq!(pair.at_server(link).pop(), Some(echo_request()));
}

#[test]
fn a_client_that_acknowledges_no_refusal_gets_no_more_of_them() {
    let mut pair = Pair::new();
    pair.policy.max_calls = 1;
    let link = pair.start(client_addr(0), 40_000);
    pair.call(link, 5, 100);
    let mut deaf = pair.clients.remove(&link.client).unwrap();
    let start = deaf.sent.len();
    for pns in 0..2_000 {
        let request = deaf.data(&outgoing_request(pns + 6));
        pair.up(request);
    }
    assert_eq!(pair.engine.counters().calls_refused, 256);
    assert!(saved(&pair).1 < 100_000, "{:?}", saved(&pair));
    // It hears again: what it sends again is answered again.
    pair.clients.insert(link.client, deaf);
    pair.wait(400);
    assert_eq!(pair.at_client(link).len(), 2 + 256);
    let (from, to) = (start + 256 * 168, start + 260 * 168);
    let rest = pair.clients[&link.client].again(from, to);
    pair.up(rest);
    assert_eq!((pair.at_client(link).len(), pair.engine.counters().calls_refused), (2 + 260, 260));
}

#[test]
fn max_sessions_of_a_service_refuses_the_next_connection() {
    let mut pair = Pair::new();
    pair.policy.max_sessions = 1;
    pair.start(client_addr(0), 40_000);
    pair.connect(client_addr(1), 40_000);
    assert!(pair.clients[&(client_addr(1), 40_000)].reset);
    assert_eq!(pair.servers.len(), 1);
}

#[test]
fn a_forged_segment_of_another_client_or_server_changes_nothing() {
    let mut pair = Pair::new();
    let link = pair.start(client_addr(0), 40_000);
    pair.call(link, 5, 100);
    let received = pair.servers[&link.server].got.clone();
    // Another client with the same port: a connection of its own that does not exist.
    let mut other = End::new(client_addr(1), 40_000, SERVER, 1723, 5);
    other.expected = Seq(9);
    pair.up(other.data(&call_clear(5)));
    // The right addresses, numbers far away.
    let forger = End { next: Seq(0x7000_0000), ..pair.clients[&link.client].clone() };
    pair.up(forger.packet(forger.next, tcp::Flags::ACK.with(tcp::Flags::PSH), &call_clear(5)));
    pair.up(forger.packet(forger.next, tcp::Flags::RST, &[]));
    let server = End { next: Seq(0x1234_5678), ..pair.servers[&link.server].clone() };
    pair.down(server.packet(server.next, tcp::Flags::RST, &[]));
    // From a server that nobody called.
    let mut stranger = pair.servers[&link.server].clone();
    stranger.addr = "203.0.113.66".parse().unwrap();
    pair.down(stranger.data(&disconnect_notify(100)));
    assert_eq!(pair.servers[&link.server].got, received);
    assert!(!pair.clients[&link.client].reset && !pair.servers[&link.server].reset);
    assert_eq!(pair.engine.calls().len(), 1);
    let counters = pair.engine.counters();
    assert_eq!(
        (
            counters.tcp_unknown_client,
            counters.drop_tcp_window,
            counters.drop_tcp_rst_forged,
            counters.drop_tcp_unknown_server
        ),
        (1, 1, 2, 1)
    );
}

#[test]
fn a_forged_gre_packet_of_another_client_reaches_nobody() {
    let mut pair = Pair::new();
    let link = pair.start(client_addr(0), 40_000);
    let translated = pair.call(link, 5, 100);
    let second = pair.start(client_addr(1), 40_000);
    pair.call(second, 5, 101);
    pair.up(gre(client_addr(1), SERVER, 100, 1, b"into another's call"));
    pair.down(gre("203.0.113.66".parse().unwrap(), EXTERNAL, translated, 1, b"from another server"));
    assert_eq!((pair.at_server.len(), pair.at_client.len()), (0, 0));
    assert_eq!(pair.engine.counters().drop_gre_unknown_call, 2);
}

#[test]
fn a_reset_at_the_right_place_ends_the_connection_on_the_other_side_too() {
    let mut pair = Pair::new();
    let link = pair.start(client_addr(0), 40_000);
    pair.call(link, 5, 100);
    let client = pair.clients[&link.client].clone();
    pair.up(client.packet(client.next, tcp::Flags::RST, &[]));
    assert!(pair.servers[&link.server].reset);
    assert_eq!(closed_as(&pair), [CloseReason::Reset(Side::Client)]);
    assert_eq!(pair.engine.calls(), []);
}

#[test]
fn silence_on_the_control_connection_is_told_to_both_ends() {
    let mut pair = Pair::new();
    let link = pair.start(client_addr(0), 40_000);
    let translated = pair.call(link, 5, 100);
    pair.wait(181_000);
    let to_client = pair.at_client(link);
    assert_eq!(to_client[to_client.len() - 2][9], 13);
    assert_eq!(to_client[to_client.len() - 1][9], 3);
    let to_server = pair.at_server(link);
    assert_eq!(to_server[to_server.len() - 2], call_clear(translated));
    assert_eq!(pair.engine.calls(), []);
    // Whoever does not close by itself is reset.
    assert!(!pair.clients[&link.client].reset && !pair.servers[&link.server].reset);
    pair.wait(2_000);
    assert!(pair.clients[&link.client].reset && pair.servers[&link.server].reset);
    assert!(matches!(closed_as(&pair)[..], [CloseReason::EchoTimeout(_)]));
}

#[test]
fn a_rule_that_is_gone_ends_its_connections_and_new_limits_apply_at_once() {
    let mut pair = Pair::new();
    let link = pair.start(client_addr(0), 40_000);
    pair.call(link, 5, 100);
    let now = pair.now;
    pair.engine.set_policies(&mut |old| Some(callgate_pptp::Policy { max_calls: 1, ..old.clone() }), now);
    pair.client_says(link, &outgoing_request(6));
    assert_eq!(pair.at_client(link).pop().unwrap()[16], 7);
    pair.engine.set_policies(&mut |_| None, now);
    pair.settle(callgate_pptp::Verdict::Consumed, vec![]);
    assert_eq!(pair.engine.calls(), []);
    pair.wait(2_000);
    assert!(pair.clients[&link.client].reset && pair.servers[&link.server].reset);
    assert_eq!(closed_as(&pair), [CloseReason::RuleRemoved]);
    assert_eq!(pair.engine.calls(), []);
}

#[test]
fn when_the_external_ports_are_used_up_the_next_connection_is_refused_until_one_has_rested() {
    let limits = Limits { port_ranges: vec![(20_000, 20_001)], ..Limits::default() };
    let mut pair = Pair::with_limits(limits);
    let first = pair.start(client_addr(0), 40_000);
    pair.start(client_addr(1), 40_000);
    pair.connect(client_addr(2), 40_000);
    assert!(pair.clients[&(client_addr(2), 40_000)].reset);
    // A free port is not given out again before its rest.
    let client = pair.clients[&first.client].clone();
    pair.up(client.packet(client.next, tcp::Flags::RST, &[]));
    pair.connect(client_addr(3), 40_000);
    assert!(pair.clients[&(client_addr(3), 40_000)].reset);
    pair.wait(121_000);
    let link = pair.start(client_addr(4), 40_000);
    assert_eq!(link.server, first.server);
}

#[test]
fn a_rule_change_keeps_what_it_does_not_touch() {
    let mut pair = Pair::new();
    let (kept, gone) = (pair.start(client_addr(0), 40_000), {
        pair.policy.rule = "pos/other".into();
        pair.start(client_addr(1), 40_000)
    });
    pair.call(kept, 5, 100);
    pair.call(gone, 5, 101);
    let now = pair.now;
    pair.engine.set_policies(&mut |old| (old.rule == "pos/tills").then(|| old.clone()), now);
    pair.settle(callgate_pptp::Verdict::Consumed, vec![]);
    let types: Vec<u8> = pair.at_client(gone).iter().map(|message| message[9]).collect();
    assert_eq!(types, [2, 8, 13, 3]);
    let types: Vec<u8> = pair.at_server(gone).iter().map(|message| message[9]).collect();
    assert_eq!(types, [1, 7, 12, 3]);
    assert_eq!(pair.engine.calls().len(), 1);
    assert_eq!(pair.at_client(kept).len(), 2);
    // The ends answer what was said and close: nothing of the answer is passed on, and nobody is reset.
    pair.client_says(gone, &stop_reply());
    pair.server_says(gone, &stop_reply());
    assert_eq!((pair.at_client(gone).len(), pair.at_server(gone).len()), (4, 4));
    let fin = pair.clients.get_mut(&gone.client).unwrap().fin();
    pair.up(fin);
    let fin = pair.servers.get_mut(&gone.server).unwrap().fin();
    pair.down(fin);
    assert_eq!(closed_as(&pair), [CloseReason::RuleRemoved]);
    assert!(!pair.clients[&gone.client].reset && !pair.servers[&gone.server].reset);
}

#[test]
fn after_a_restart_nobody_is_timed_out_for_the_time_the_agent_was_away() {
    let mut pair = Pair::new();
    pair.policy.idle_timeout_ms = 100_000;
    let link = pair.start(client_addr(0), 40_000);
    pair.call(link, 5, 100);
    pair.now = pair.now.after(500_000);
    pair.restart();
    pair.wait(59_000);
    assert_eq!(pair.engine.calls().len(), 1);
    pair.client_says(link, &echo_request());
    pair.up(gre(client_addr(0), SERVER, 100, 1, b"here I am"));
    pair.wait(90_000);
    assert_eq!(pair.engine.calls().len(), 1);
    assert_eq!(closed_as(&pair), []);
}

#[test]
fn the_shortest_journal_restores_the_same_engine() {
    let mut pair = Pair::new();
    for client in 0..20 {
        let link = pair.start(client_addr(client), 40_000);
        pair.call(link, 5, client as u16);
        pair.call(link, 6, 100 + client as u16);
        if client % 3 == 0 {
            pair.server_says(link, &disconnect_notify(100 + client as u16));
        }
    }
    let records = pair.engine.records();
    let again = callgate_pptp::Engine::restore(pair.engine.limits().clone(), 7, records.clone(), pair.now);
    assert_eq!(again.records(), records);
    assert_eq!((again.calls(), again.connections()), (pair.engine.calls(), pair.engine.connections()));
    let journal = callgate_pptp::Engine::restore(pair.engine.limits().clone(), 8, pair.journal.clone(), pair.now);
    assert_eq!((journal.calls(), journal.connections()), (pair.engine.calls(), pair.engine.connections()));
}
