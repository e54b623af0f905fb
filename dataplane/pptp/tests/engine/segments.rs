//! Single segments: timestamps and SACK of both ends, resets, numbers that cannot be, and what is acknowledged for whom.

use callgate_pptp::wire::tcp::options::{self, TcpOption};
use callgate_pptp::wire::{Seq, ipv4, tcp};
use callgate_pptp::{CloseReason, Event, Side};

use super::messages::*;
use super::pair::{Link, Pair, client_addr};

const ACK: tcp::Flags = tcp::Flags::ACK;
const RST: tcp::Flags = tcp::Flags::RST;

/// Timestamps of the newest packet an end has got.
fn stamps(packets: &[Vec<u8>]) -> Option<(u32, u32)> {
    let packet = packets.last().unwrap();
    let ip = ipv4::Packet::new_unchecked(&packet[..]);
    options::timestamps(tcp::Packet::new_unchecked(ip.payload()).options())
}

fn with_timestamps() -> (Pair, Link) {
    let mut pair = Pair::new();
    let link = pair.start(client_addr(0), 40_000);
    pair.clients.get_mut(&link.client).unwrap().timestamps = Some((1_000, 70));
    pair.servers.get_mut(&link.server).unwrap().timestamps = Some((5_000, 990));
    pair.client_says(link, &echo_request());
    (pair, link)
}

#[test]
fn a_message_carries_the_timestamps_its_sender_gave_it() {
    let (pair, link) = with_timestamps();
    assert_eq!(stamps(&pair.servers[&link.server].packets), Some((1_000, 70)));
}

#[test]
fn a_segment_that_was_overtaken_does_not_take_the_clock_back() {
    let (mut pair, link) = with_timestamps();
    let client = pair.clients.get_mut(&link.client).unwrap();
    let late = client.ack();
    client.timestamps = Some((2_000, 70));
    let newer = client.ack();
    pair.up(newer);
    pair.up(late);
    // The end of the idle call is said in the client's name.
    let now = pair.now;
    pair.engine.set_policies(&mut |_| None, now);
    pair.settle(callgate_pptp::Verdict::Consumed, vec![]);
    assert_eq!(pair.at_server(link).pop().unwrap()[9], 3);
    assert_eq!(stamps(&pair.servers[&link.server].packets), Some((2_000, 70)));
}

#[test]
fn an_acknowledgement_in_the_servers_name_echoes_the_clients_latest_clock() {
    let (mut pair, link) = with_timestamps();
    let server = pair.servers.get_mut(&link.server).unwrap();
    let heard = server.ack();
    pair.down(heard);
    let client = pair.clients.get_mut(&link.client).unwrap();
    client.timestamps = Some((9_000, 5_000));
    pair.client_says(link, &outgoing_request(5)[..20]);
    assert_eq!(stamps(&pair.clients[&link.client].packets), Some((5_000, 9_000)));
    let client = &pair.clients[&link.client];
    assert_eq!(client.acked, client.next, "a sender with Nagle waits for this");
}

#[test]
fn what_was_acknowledged_for_the_server_is_sent_again_until_it_acknowledges() {
    let mut pair = Pair::new();
    let link = pair.start(client_addr(0), 40_000);
    let request = outgoing_request(5);
    pair.client_says(link, &request[..20]);
    // The server hears nothing for a while.
    let deaf = pair.servers.remove(&link.server).unwrap();
    pair.client_says(link, &request[20..]);
    pair.servers.insert(link.server, deaf);
    assert_eq!(pair.at_server(link).len(), 1);
    pair.wait(350);
    assert_eq!(pair.at_server(link).len(), 2);
    assert_eq!(pair.engine.counters().tcp_retransmitted, 1);
    pair.wait(10_000);
    assert_eq!(pair.engine.counters().tcp_retransmitted, 1);
}

#[test]
fn a_server_that_acknowledges_nothing_is_given_up_and_the_client_is_told() {
    let mut pair = Pair::new();
    pair.policy.echo_timeout_ms = 0;
    let link = pair.start(client_addr(0), 40_000);
    pair.call(link, 5, 100);
    pair.client_says(link, &echo_request()[..5]);
    pair.servers.clear();
    pair.client_says(link, &echo_request()[5..]);
    pair.wait(60_000);
    assert!(pair.clients[&link.client].reset);
    let types: Vec<u8> = pair.at_client(link).iter().map(|message| message[9]).collect();
    assert_eq!(types, [2, 8, 13, 3]);
    let closed = pair
        .events
        .iter()
        .any(|event| matches!(event, Event::Closed { reason: CloseReason::Unresponsive(Side::Server), .. }));
    assert!(closed, "{:?}", pair.events);
}

#[test]
fn sack_ranges_are_told_in_the_senders_numbers_behind_a_message_that_was_taken_out() {
    let mut pair = Pair::new();
    pair.policy.max_calls = 1;
    let link = pair.start(client_addr(0), 40_000);
    pair.call(link, 5, 100);
    // Refused by the gateway: from here on the server's numbers are 168 smaller.
    pair.client_says(link, &outgoing_request(6));
    let expected = pair.servers[&link.server].expected;
    let deaf = pair.servers.remove(&link.server).unwrap();
    let start = pair.clients[&link.client].next;
    pair.client_says(link, &[echo_request(), echo_reply()].concat());
    assert_eq!(start.distance(expected), 168);
    // The server has got the second message only: a range of 20 octets behind a hole of 16.
    let range = [expected + 16, expected + 36].map(|seq| seq.0.to_be_bytes()).concat();
    let mut packet = [deaf.ack(), vec![1, 1, 5, 10], range].concat();
    let length = packet.len() as u16;
    let mut ip = ipv4::Packet::new_unchecked(&mut packet[..]);
    ip.set_total_len(length);
    ip.fill_checksum();
    let (src, dst) = (ip.src(), ip.dst());
    let mut segment = tcp::Packet::new_unchecked(ip.payload_mut());
    segment.set_header_len(32);
    segment.fill_checksum(src, dst);
    pair.down(packet);
    let got = pair.clients[&link.client].packets.last().unwrap();
    let ip = ipv4::Packet::new_unchecked(&got[..]);
    let segment = tcp::Packet::new_unchecked(ip.payload());
    let blocks: Vec<(Seq, Seq)> = options::iter(segment.options())
        .filter_map(|option| if let TcpOption::Sack(data) = option { Some(data) } else { None })
        .flat_map(options::sack_blocks)
        .collect();
    assert_eq!((segment.ack(), blocks), (start, vec![(start + 16, start + 36)]));
}

#[test]
fn a_reset_in_the_window_but_not_at_its_start_is_asked_about_and_ends_nothing() {
    let mut pair = Pair::new();
    let link = pair.start(client_addr(0), 40_000);
    pair.call(link, 5, 100);
    let client = pair.clients[&link.client].clone();
    pair.up(client.packet(client.next + 100, RST, &[]));
    assert_eq!(pair.engine.calls().len(), 1);
    assert!(!pair.servers[&link.server].reset);
    let asked = pair.clients[&link.client].packets.last().unwrap();
    let ip = ipv4::Packet::new_unchecked(&asked[..]);
    let segment = tcp::Packet::new_unchecked(ip.payload());
    assert_eq!((segment.flags(), segment.ack()), (ACK, client.next));
    // The one who has really reset answers with the number that was asked for.
    pair.up(client.packet(segment.ack(), RST, &[]));
    assert_eq!(pair.engine.calls(), []);
    assert!(pair.servers[&link.server].reset);
}

#[test]
fn an_acknowledgement_of_what_was_never_sent_changes_nothing() {
    let mut pair = Pair::new();
    let link = pair.start(client_addr(0), 40_000);
    pair.call(link, 5, 100);
    let seen = pair.servers[&link.server].got.len();
    let mut forger = pair.clients[&link.client].clone();
    forger.expected += 5_000;
    forger.timestamps = Some((u32::MAX / 2, 0));
    pair.up(forger.packet(forger.next, ACK, &call_clear(5)));
    assert_eq!((pair.servers[&link.server].got.len(), pair.engine.counters().drop_tcp_window), (seen, 1));
    pair.client_says(link, &echo_request());
    assert_eq!(pair.at_server(link).pop().unwrap(), echo_request());
    assert_eq!(stamps(&pair.servers[&link.server].packets), None);
}

#[test]
fn a_keep_alive_probe_is_answered_by_the_other_end() {
    let mut pair = Pair::new();
    let link = pair.start(client_addr(0), 40_000);
    let client = pair.clients[&link.client].clone();
    let seen = client.packets.len();
    pair.up(client.packet(client.next - 1, ACK, &[]));
    let packets = &pair.clients[&link.client].packets;
    assert_eq!(packets.len(), seen + 1);
    // With one octet of garbage, as some systems do it.
    pair.up(client.packet(client.next - 1, ACK, &[0]));
    assert_eq!(pair.clients[&link.client].packets.len(), seen + 2);
    assert_eq!(pair.at_server(link).len(), 1);
}

#[test]
fn urgent_data_reaches_the_server_as_ordinary_data() {
    let mut pair = Pair::new();
    let link = pair.start(client_addr(0), 40_000);
    let client = pair.clients.get_mut(&link.client).unwrap();
    let packet = client.packet(client.next, ACK.with(tcp::Flags::URG), &echo_request());
    client.next += 16;
    pair.up(packet);
    let got = pair.servers[&link.server].packets.last().unwrap();
    let ip = ipv4::Packet::new_unchecked(&got[..]);
    let flags = tcp::Packet::new_unchecked(ip.payload()).flags();
    assert_eq!(flags, ACK.with(tcp::Flags::PSH));
    assert_eq!(pair.at_server(link).pop().unwrap(), echo_request());
}

#[test]
fn fin_inside_a_message_is_a_malformed_message() {
    let mut pair = Pair::new();
    let link = pair.start(client_addr(0), 40_000);
    let seen = pair.servers[&link.server].got.len();
    pair.client_says(link, &echo_request()[..7]);
    let fin = pair.clients.get_mut(&link.client).unwrap().fin();
    pair.up(fin);
    assert_eq!(pair.servers[&link.server].got.len(), seen);
    assert!(pair.clients[&link.client].reset && pair.servers[&link.server].reset);
}

#[test]
fn half_a_close_is_forgotten_after_its_time() {
    let mut pair = Pair::new();
    let link = pair.start(client_addr(0), 40_000);
    pair.call(link, 5, 100);
    let fin = pair.clients.get_mut(&link.client).unwrap().fin();
    pair.up(fin);
    assert!(pair.servers[&link.server].finished);
    pair.wait(70_000);
    assert_eq!((pair.engine.connections(), pair.engine.calls()), (vec![], vec![]));
    assert!(pair.servers[&link.server].reset);
}

#[test]
fn a_segment_of_a_connection_that_was_reset_is_answered_with_rst() {
    let mut pair = Pair::new();
    let link = pair.start(client_addr(0), 40_000);
    let server = pair.servers[&link.server].clone();
    let client = pair.clients[&link.client].clone();
    pair.up(client.packet(client.next, RST, &[]));
    pair.servers.insert(link.server, super::ends::End { reset: false, ..server.clone() });
    pair.down(server.ack());
    assert!(pair.servers[&link.server].reset, "who did not hear it, is told again");
}
