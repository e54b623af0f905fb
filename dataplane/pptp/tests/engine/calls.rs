//! Calls of many clients to one server: every Call ID finds its way.

use super::messages::{self, gre, read_gre};
use super::pair::{EXTERNAL, Pair, SERVER, client_addr};

fn id(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// Sends one GRE packet each way and checks where and as what it arrives.
fn gre_passes(pair: &mut Pair, client: u32, pns: u16, translated: u16, pac: u16) {
    let (address, text) = (client_addr(client), format!("client {client}").into_bytes());
    pair.at_server.clear();
    pair.up(gre(address, SERVER, pac, 1, &text));
    let arrived: Vec<_> = pair.at_server.drain(..).map(|packet| read_gre(&packet)).collect();
    assert_eq!(arrived, [(EXTERNAL, SERVER, pac, text.clone())]);
    pair.at_client.clear();
    pair.down(gre(SERVER, EXTERNAL, translated, 1, &text));
    let arrived: Vec<_> = pair.at_client.drain(..).map(|packet| read_gre(&packet)).collect();
    assert_eq!(arrived, [(SERVER, address, pns, text)]);
}

#[test]
fn fifty_clients_with_the_same_call_id_zero_keep_their_calls_apart() {
    let mut pair = Pair::new();
    let calls: Vec<(u32, u16)> = (0..50)
        .map(|n| {
            let link = pair.start(client_addr(n), 40_000);
            (n, pair.call(link, 0, n as u16))
        })
        .collect();
    for &(n, translated) in &calls {
        gre_passes(&mut pair, n, 0, translated, n as u16);
    }
    assert_eq!(pair.engine.calls().len(), 50);
}

#[test]
fn several_calls_share_a_control_connection() {
    let mut pair = Pair::new();
    let link = pair.start(client_addr(0), 40_000);
    let ids: Vec<(u16, u16)> = [(5, 100), (6, 101), (0, 0)].map(|(pns, pac)| (pac, pair.call(link, pns, pac))).to_vec();
    gre_passes(&mut pair, 0, 5, ids[0].1, 100);
    gre_passes(&mut pair, 0, 0, ids[2].1, 0);
    pair.client_says(link, &messages::call_clear(6));
    assert_eq!(id(&pair.at_server(link).pop().unwrap(), 12), ids[1].1);
    pair.server_says(link, &messages::disconnect_notify(101));
    assert_eq!(pair.engine.calls().len(), 2);
    gre_passes(&mut pair, 0, 5, ids[0].1, 100);
}

#[test]
fn a_server_may_call() {
    let mut pair = Pair::new();
    let link = pair.start(client_addr(0), 40_000);
    pair.server_says(link, &messages::incoming_request(9));
    pair.client_says(link, &messages::incoming_reply(3, 9, 1));
    let reply = pair.at_server(link).pop().unwrap();
    let translated = id(&reply, 12);
    assert_eq!(id(&reply, 14), 9);
    pair.server_says(link, &messages::incoming_connected(translated));
    assert_eq!(pair.at_client(link).pop().unwrap(), messages::incoming_connected(3));
    gre_passes(&mut pair, 0, 3, translated, 9);
}

#[test]
fn disconnect_notify_is_understood_with_either_id() {
    let mut pair = Pair::new();
    let link = pair.start(client_addr(0), 40_000);
    pair.call(link, 5, 100);
    pair.server_says(link, &messages::disconnect_notify(100));
    assert_eq!(pair.at_client(link).pop().unwrap(), messages::disconnect_notify(100));
    assert_eq!(pair.engine.calls(), []);
    let translated = pair.call(link, 5, 101);
    pair.server_says(link, &messages::disconnect_notify(translated));
    let expected = if translated == 101 { 101 } else { 5 };
    assert_eq!(pair.at_client(link).pop().unwrap(), messages::disconnect_notify(expected));
    assert_eq!(pair.engine.calls(), []);
}

#[test]
fn when_max_calls_is_reached_the_next_call_is_refused_and_the_connection_goes_on() {
    let mut pair = Pair::new();
    pair.policy.max_calls = 1;
    let link = pair.start(client_addr(0), 40_000);
    let translated = pair.call(link, 5, 100);
    let sent = pair.at_server(link).len();
    pair.client_says(link, &messages::outgoing_request(6));
    let refusal = pair.at_client(link).pop().unwrap();
    assert_eq!((id(&refusal, 8), id(&refusal, 14), refusal[16], refusal[17]), (8, 6, 7, 4));
    assert_eq!(pair.at_server(link).len(), sent);
    // Numbers are shifted from here on, both ways.
    pair.client_says(link, &messages::echo_request());
    assert_eq!(pair.at_server(link).pop().unwrap(), messages::echo_request());
    pair.server_says(link, &messages::echo_reply());
    assert_eq!(pair.at_client(link).pop().unwrap(), messages::echo_reply());
    gre_passes(&mut pair, 0, 5, translated, 100);
    let client = &pair.clients[&link.client];
    assert_eq!(client.acked, client.next);
    let server = &pair.servers[&link.server];
    assert_eq!(server.acked, server.next);
}

#[test]
fn gre_of_no_call_is_dropped_and_never_answered() {
    let mut pair = Pair::new();
    let link = pair.start(client_addr(0), 40_000);
    pair.call(link, 5, 100);
    pair.up(gre(client_addr(1), SERVER, 100, 1, b"forged"));
    pair.down(gre(SERVER, EXTERNAL, 1, 1, b"nobody's"));
    assert_eq!((pair.at_client.len(), pair.at_server.len()), (0, 0));
    assert_eq!(pair.engine.counters().drop_gre_unknown_call, 2);
}

#[test]
fn a_restart_changes_nothing() {
    let mut pair = Pair::new();
    let link = pair.start(client_addr(0), 40_000);
    let translated = pair.call(link, 5, 100);
    pair.restart();
    gre_passes(&mut pair, 0, 5, translated, 100);
    pair.client_says(link, &messages::call_clear(5));
    assert_eq!(pair.at_server(link).pop().unwrap(), messages::call_clear(translated));
}

#[test]
fn both_ends_hear_of_an_idle_time_out() {
    let mut pair = Pair::new();
    pair.policy.idle_timeout_ms = 10_000;
    pair.policy.echo_timeout_ms = 0;
    let link = pair.start(client_addr(0), 40_000);
    let translated = pair.call(link, 5, 100);
    pair.wait(11_000);
    let notify = pair.at_client(link).pop().unwrap();
    assert_eq!((id(&notify, 8), id(&notify, 12), notify[14]), (13, 100, 3));
    assert_eq!(pair.at_server(link).pop().unwrap(), messages::call_clear(translated));
    assert_eq!(pair.engine.calls(), []);
}

#[test]
fn after_both_fins_nothing_is_left_in_the_tables() {
    let mut pair = Pair::new();
    let link = pair.start(client_addr(0), 40_000);
    pair.call(link, 5, 100);
    let fin = pair.clients.get_mut(&link.client).unwrap().fin();
    pair.up(fin);
    let fin = pair.servers.get_mut(&link.server).unwrap().fin();
    pair.down(fin);
    assert!(pair.clients[&link.client].finished && pair.servers[&link.server].finished);
    assert_eq!((pair.engine.calls(), pair.engine.connections()), (vec![], vec![]));
    pair.wait(20_000);
    assert_eq!(pair.engine.external_addresses().len(), 0);
}

#[test]
fn a_client_that_is_gone_leaves_no_call_to_the_next_holder_of_its_address_and_hears_nothing() {
    let mut pair = Pair::new();
    let (gone, kept) = (pair.start(client_addr(0), 40_000), pair.start(client_addr(1), 40_000));
    let translated = pair.call(gone, 5, 100);
    pair.call(kept, 5, 101);
    let now = pair.now;
    pair.at_client.clear();
    pair.engine.end_clients(&[client_addr(0)].into(), now);
    pair.settle(callgate_pptp::Verdict::Consumed, vec![]);
    assert!(!pair.clients[&gone.client].reset && pair.servers[&gone.server].reset);
    let left: Vec<_> = pair.engine.calls().iter().map(|call| call.flow.client).collect();
    assert_eq!(left, [client_addr(1)]);
    // Neither way does a packet of the old call come through.
    pair.at_server.clear();
    pair.up(gre(client_addr(0), SERVER, 100, 1, b"mine?"));
    pair.down(gre(SERVER, EXTERNAL, translated, 1, b"yours?"));
    assert_eq!((pair.at_server.len(), pair.at_client.len()), (0, 0));
    // A restart does not bring it back.
    pair.restart();
    assert_eq!(pair.engine.calls().len(), 1);
}

#[test]
fn calls_are_counted_by_rule_service_and_alg() {
    let mut pair = Pair::new();
    let link = pair.start(client_addr(0), 40_000);
    pair.call(link, 5, 100);
    pair.call(link, 6, 101);
    let other = pair.start(client_addr(1), 40_000);
    pair.call(other, 5, 102);
    let by = pair.engine.calls_by_object();
    let policy = pair.policy.clone();
    let expected = callgate_pptp::CallsByObject {
        rules: [(policy.rule, 3)].into(),
        services: [(policy.service, 3)].into(),
        algs: [(policy.alg, 3)].into(),
    };
    assert_eq!(by, expected);
}
