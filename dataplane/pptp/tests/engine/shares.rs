//! What one client can use up of what all have in common: ports, Call IDs, places, memory, room for fragments.

use callgate_pptp::wire::ipv4;
use callgate_pptp::{CallRefusal, Change, CloseReason, Command, Event, Limits, OpenRefusal, Side, Verdict};

use super::abuse::closed_as;
use super::ends::End;
use super::messages::*;
use super::pair::{Always, EXTERNAL, Link, Pair, SERVER, client_addr, policy};

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
    let limits =
        Limits { port_ranges: vec![(20_000, 20_019)], ports_per_client: 10, max_connections: 2, ..Limits::default() };
    let mut pair = Pair::with_limits(limits);
    for port in 0..100 {
        let link = pair.connect(client_addr(0), port);
        pair.client_resets(link);
    }
    assert_eq!(refusals(&pair), [OpenRefusal::PortsOfClient(10)]);
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
        pair.engine.from_client(&mut syn, &mut Always(policy()), pair.now);
        while let Some(command) = pair.engine.poll_command() {
            if let Command::Note(event) = command {
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
        let link = Link { client: (client_addr(0), port), server: pair.newest() };
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
    pair.settle(Verdict::Consumed, vec![]);
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

#[test]
fn one_client_cannot_use_up_max_sessions_nor_max_calls_so_that_others_get_none() {
    let mut pair = Pair::new();
    (pair.policy.max_sessions, pair.policy.max_calls) = (40, 80);
    for port in 0..50 {
        pair.connect(client_addr(0), port);
        if !pair.clients[&(client_addr(0), port)].reset {
            let link = Link { client: (client_addr(0), port), server: pair.newest() };
            pair.client_says(link, &start_request());
            pair.client_says(link, &outgoing_request(1));
            pair.client_says(link, &outgoing_request(2));
        }
    }
    assert_eq!(refusals(&pair), [OpenRefusal::ShareOfSessions(38)]);
    assert_eq!((pair.engine.connection_count(), pair.engine.call_count()), (38, 75));
    let refused = |event: &&Event| matches!(event, Event::CallRefused { why: CallRefusal::Share(75), .. });
    assert_eq!(pair.events.iter().filter(refused).count(), 1);
    for (client, pac) in [(1, 100), (2, 102)] {
        let other = pair.start(client_addr(client), 40_000);
        pair.call(other, 5, pac);
        assert_eq!(pair.at_client(other).pop(), Some(outgoing_reply(pac, 5, 1)));
    }
    pair.connect(client_addr(3), 40_000);
    assert!(pair.clients[&(client_addr(3), 40_000)].reset);
    assert_eq!(refusals(&pair).last(), Some(&OpenRefusal::MaxSessions(40)));
    // After a restart they have what they had.
    pair.restart();
    pair.client_resets(Link { client: (client_addr(0), 0), server: (EXTERNAL, 0) });
    pair.connect(client_addr(0), 60);
    assert!(pair.clients[&(client_addr(0), 60)].reset);
    let other = pair.start(client_addr(3), 50_000);
    pair.call(other, 5, 101);
    assert_eq!(pair.at_client(other).pop(), Some(outgoing_reply(101, 5, 1)));
}

/// How often a connection is saved, and octets of the longest record.
fn saved(pair: &Pair) -> (usize, usize) {
    let records = pair.journal.iter().filter(|change| matches!(change, Change::Update(_)));
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
    assert_eq!((counters.messages_swallowed, counters.drop_tcp_full), (63, 1));
    // It goes on where it stood once the server hears again.
    pair.servers.insert(link.server, deaf);
    let again = pair.clients[&link.client].again(start, start + 16);
    pair.up(again);
    let delivered = pair.clients[&link.client].delivered();
    let rest = pair.clients[&link.client].again(delivered, delivered + 160);
    pair.up(rest);
    assert_eq!((pair.engine.counters().messages_swallowed, delivered), (73, start + 16 + 63 * 16));
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
    assert_eq!(pair.engine.counters().calls_refused, 64);
    assert!(saved(&pair).1 < 14_000, "{:?}", saved(&pair));
    // It hears again: what it sends again is answered again.
    pair.clients.insert(link.client, deaf);
    pair.wait(400);
    assert_eq!(pair.at_client(link).len(), 2 + 64);
    let (from, to) = (start + 64 * 168, start + 68 * 168);
    let rest = pair.clients[&link.client].again(from, to);
    pair.up(rest);
    assert_eq!((pair.at_client(link).len(), pair.engine.counters().calls_refused), (2 + 68, 68));
}

/// A later fragment of a GRE packet with this identification.
fn later_fragment(src: std::net::Ipv4Addr, dst: std::net::Ipv4Addr, id: u16) -> Vec<u8> {
    let mut packet = gre(src, dst, 0, 1, &[0; 64]);
    let mut ip = ipv4::Packet::new_unchecked(&mut packet[..]);
    ip.set_id(id);
    ip.set_fragment(false, false, 480);
    ip.fill_checksum();
    packet
}

#[test]
fn fragments_wait_for_their_first_only_between_ends_of_a_call_and_those_of_one_source_leave_room_for_others() {
    let mut pair = Pair::new();
    for client in 0..2 {
        let link = pair.start(client_addr(client), 40_000);
        pair.call(link, 5, 100 + client as u16);
    }
    let dropped = |pair: &Pair| pair.engine.counters().drop_fragment_unknown;
    for id in 0..100 {
        pair.up(later_fragment(client_addr(7), SERVER, id));
        pair.down(later_fragment("203.0.113.66".parse().unwrap(), EXTERNAL, id));
    }
    assert_eq!(dropped(&pair), 200);
    for id in 0..100 {
        pair.up(later_fragment(client_addr(0), SERVER, id));
    }
    assert_eq!(dropped(&pair), 200 + 84);
    pair.up(later_fragment(client_addr(1), SERVER, 1));
    pair.down(later_fragment(SERVER, EXTERNAL, 1));
    assert_eq!(dropped(&pair), 200 + 84);
}
