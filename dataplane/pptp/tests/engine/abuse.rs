//! What a hostile or broken peer cannot do to others.

use std::net::Ipv4Addr;

use callgate_pptp::wire::{Seq, tcp};
use callgate_pptp::{Admission, Admit, CloseReason, Engine, Event, Flow, Limits, Now, Refusal, Side};

use super::ends::End;
use super::messages::*;
use super::pair::{EXTERNAL, Pair, SERVER, client_addr, policy};

/// Why connections ended.
pub(crate) fn closed_as(pair: &Pair) -> Vec<CloseReason> {
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
fn permissive_validation_closes_nothing_for_it_and_lets_no_call_id_pass_untranslated() {
    let mut pair = Pair::new();
    pair.policy.strict = false;
    let (link, other) = (pair.start(client_addr(0), 40_000), pair.start(client_addr(1), 40_000));
    let anothers = pair.call(other, 5, 100);
    let about_it = |kind: u16, length: u16| message(kind, length, &[(12, &anothers.to_be_bytes())]);
    let mut of_another_message_type = about_it(12, 16);
    of_another_message_type[3] = 2;
    let from_client = [
        outgoing_reply(1, anothers, 1),
        incoming_request(anothers),
        incoming_connected(anothers),
        disconnect_notify(anothers),
        wan_error(anothers),
        // Too short for their types.
        about_it(7, 16),
        about_it(10, 23),
        about_it(12, 14),
        about_it(15, 20),
        of_another_message_type,
    ];
    let (at_server, at_client) = (pair.at_server(link), pair.at_client(link));
    from_client.iter().for_each(|message| pair.client_says(link, message));
    assert_eq!(pair.at_server(link), at_server);
    let from_server = [outgoing_request(5), incoming_reply(5, 1, 1), call_clear(5), message(8, 31, &[(14, &[0, 5])])];
    from_server.iter().for_each(|message| pair.server_says(link, message));
    assert_eq!(pair.at_client(link), at_client);
    let counters = pair.engine.counters();
    assert_eq!((counters.messages_malformed, counters.messages_swallowed), (14, 14));
    // What is about no call passes, as it is or with nothing behind it.
    let unknown = message(99, 16, &[(12, &anothers.to_be_bytes())]);
    pair.client_says(link, &unknown);
    let hidden = [message(5, 32, &[(12, &[1, 2, 3, 4])])[..16].to_vec(), call_clear(anothers)].concat();
    pair.client_says(link, &hidden);
    assert_eq!(pair.at_server(link)[at_server.len()..], [unknown, message(5, 32, &[(12, &[1, 2, 3, 4])])]);
    assert_eq!(closed_as(&pair), []);
    assert_eq!(pair.engine.calls()[0].translated_id, Some(anothers));
}

#[test]
fn permissive_validation_too_closes_where_framing_is_lost() {
    let mut bad_cookie = echo_request();
    bad_cookie[4] = 0;
    for lost in [b"\xff\xffthis is no PPTP at all".to_vec(), bad_cookie] {
        let mut pair = Pair::new();
        pair.policy.strict = false;
        let link = pair.start(client_addr(0), 40_000);
        let seen = pair.servers[&link.server].got.len();
        pair.client_says(link, &lost);
        assert_eq!(pair.servers[&link.server].got.len(), seen);
        assert_eq!(closed_as(&pair), [CloseReason::Malformed(Side::Client)]);
    }
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
    // Once the first ones are over, others may come; of those that said nothing a little later.
    pair.wait(6_000);
    let link = pair.start(client_addr(2), 9);
    assert_eq!(pair.at_server(link), [start_request()]);
    pair.wait(4_000);
    let link = pair.start(client_addr(0), 9);
    assert_eq!(pair.at_server(link), [start_request()]);
}

/// Admits everybody, and counts the questions.
struct Counted(usize);

impl Admit for Counted {
    fn admit(&mut self, _: Flow) -> Result<Admission, Refusal> {
        self.0 += 1;
        Ok(Admission { external: EXTERNAL, policy: policy() })
    }
}

#[test]
fn nobody_is_asked_about_the_connections_of_a_client_that_is_over_a_limit_of_its_own() {
    let limits = Limits { half_open_per_client: 2, ..Limits::default() };
    let mut engine = Engine::new(limits, 1);
    let mut asked = Counted(0);
    for last in 1..=200 {
        let server = Ipv4Addr::new(203, 0, 113, last);
        engine.from_client(&mut End::new(client_addr(0), 40_000, server, 1723, 7).syn(), &mut asked, Now(1));
    }
    assert_eq!((asked.0, engine.counters().connections_refused), (2, 198));
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
fn idle_timeout_counts_from_the_restart_since_nobody_knows_what_passed_before() {
    let mut pair = Pair::new();
    (pair.policy.idle_timeout_ms, pair.policy.echo_timeout_ms) = (600_000, 0);
    let link = pair.start(client_addr(0), 40_000);
    pair.call(link, 5, 100);
    // Till after the last control message it was in use.
    pair.wait(590_000);
    pair.up(gre(client_addr(0), SERVER, 100, 1, b"just now"));
    pair.restart();
    pair.wait(599_000);
    assert_eq!(pair.engine.call_count(), 1);
    pair.wait(1_500);
    assert_eq!(pair.engine.call_count(), 0);
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
