//! ICMP errors about what we carry, and packets that do not fit.

use std::net::Ipv4Addr;

use callgate_pptp::wire::{gre, icmp, ipv4};
use callgate_pptp::{Side, Verdict};

use super::messages::{self, gre as gre_packet, read_gre};
use super::pair::{EXTERNAL, Pair, SERVER, client_addr};

const ROUTER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

/// An ICMP error from `from` to `to` that quotes the first 28 octets of `original`.
fn error(from: Ipv4Addr, to: Ipv4Addr, kind: u8, code: u8, mtu: u16, original: &[u8]) -> Vec<u8> {
    let repr = icmp::Repr { kind, code, mtu, original: &original[..28] };
    let ip = ipv4::Repr {
        src: from,
        dst: to,
        protocol: ipv4::PROTOCOL_ICMP,
        tos: 0,
        ttl: 64,
        id: 3,
        dont_fragment: false,
        payload_len: repr.buffer_len(),
    };
    let mut bytes = vec![0; ip.buffer_len() + repr.buffer_len()];
    ip.emit(&mut bytes).unwrap();
    repr.emit(&mut bytes[ipv4::HEADER_LEN..]).unwrap();
    bytes
}

/// Ends of the error, its MTU, and ends and Call ID of the GRE packet it quotes; all checksums are right.
fn read(packet: &[u8]) -> (Ipv4Addr, Ipv4Addr, u16, Ipv4Addr, Ipv4Addr, u16) {
    let ip = ipv4::Packet::new_checked(packet).unwrap();
    let error = icmp::Packet::new_checked(ip.payload()).unwrap();
    assert!(ip.verify_checksum() && error.verify_checksum());
    let quoted = error.original().unwrap();
    assert!(quoted.verify_checksum());
    let id = gre::Packet::new_embedded(quoted.payload()).unwrap().call_id();
    (ip.src(), ip.dst(), error.mtu(), quoted.src(), quoted.dst(), id)
}

#[test]
fn protocol_unreachable_about_gre_reaches_nobody() {
    let mut pair = Pair::new();
    let link = pair.start(client_addr(0), 40_000);
    let translated = pair.call(link, 5, 100);
    let as_client_saw_it = gre_packet(SERVER, client_addr(0), 5, 1, b"data");
    pair.up(error(client_addr(0), SERVER, 3, 2, 0, &as_client_saw_it));
    let as_server_saw_it = gre_packet(EXTERNAL, SERVER, 100, 1, b"data");
    pair.down(error(SERVER, EXTERNAL, 3, 2, 0, &as_server_saw_it));
    assert_eq!((pair.at_client.len(), pair.at_server.len()), (0, 0));
    assert_eq!(pair.engine.counters().drop_icmp_protocol_unreachable, 2);
    assert_eq!(pair.engine.calls()[0].translated_id, Some(translated));
}

#[test]
fn fragmentation_needed_reaches_the_client_with_the_header_it_knows() {
    let mut pair = Pair::new();
    let link = pair.start(client_addr(0), 40_000);
    pair.call(link, 5, 100);
    pair.down(error(ROUTER, EXTERNAL, 3, 4, 1_000, &gre_packet(EXTERNAL, SERVER, 100, 1, b"data")));
    let got: Vec<_> = pair.at_client.iter().map(|packet| read(packet)).collect();
    assert_eq!(got, [(ROUTER, client_addr(0), 1_000, client_addr(0), SERVER, 100)]);
}

#[test]
fn fragmentation_needed_of_a_client_reaches_no_server() {
    let mut pair = Pair::new();
    let link = pair.start(client_addr(0), 40_000);
    pair.call(link, 5, 100);
    // Its own call, another's, nobody's.
    for (client, pns) in [(0, 5), (1, 5), (0, 6)] {
        let arrived = gre_packet(SERVER, client_addr(client), pns, 1, b"data");
        pair.up(error(client_addr(0), SERVER, 3, 4, 900, &arrived));
    }
    let counters = pair.engine.counters();
    assert_eq!((pair.at_server.len(), pair.at_client.len(), counters.drop_icmp_too_big_gre), (0, 0, 3));
    assert_eq!(pair.engine.calls().len(), 1);
}

#[test]
fn a_client_does_not_set_the_path_mtu_that_the_server_has_for_everybody() {
    let mut pair = Pair::new();
    pair.start(client_addr(0), 40_000);
    let quoted = ipv4::Repr {
        src: SERVER,
        dst: client_addr(0),
        protocol: ipv4::PROTOCOL_TCP,
        tos: 0,
        ttl: 64,
        id: 1,
        dont_fragment: true,
        payload_len: 20,
    };
    let mut original = vec![0; 40];
    quoted.emit(&mut original).unwrap();
    original[20..24].copy_from_slice(&[0x06, 0xbb, 0x9c, 0x40]);
    pair.up(error(client_addr(0), SERVER, 3, 4, 68, &original));
    let counters = pair.engine.counters();
    assert_eq!((pair.at_server.len(), counters.drop_icmp_too_big_tcp, counters.drop_icmp_too_big_gre), (0, 1, 0));
}

#[test]
fn an_error_about_a_call_nobody_has_goes_nowhere() {
    let mut pair = Pair::new();
    let link = pair.start(client_addr(0), 40_000);
    pair.call(link, 5, 100);
    pair.down(error(ROUTER, EXTERNAL, 3, 4, 1_000, &gre_packet(EXTERNAL, SERVER, 101, 1, b"data")));
    assert_eq!((pair.at_client.len(), pair.at_server.len()), (0, 0));
    assert_eq!(pair.engine.counters().drop_icmp_unknown, 1);
}

/// The same packet with DF set.
fn uncuttable(mut packet: Vec<u8>) -> Vec<u8> {
    let mut header = ipv4::Packet::new_unchecked(&mut packet[..]);
    header.set_fragment(true, false, 0);
    header.fill_checksum();
    packet
}

#[test]
fn gre_that_does_not_fit_is_cut_both_ways_whatever_its_sender_says_and_nobody_is_told() {
    let mut pair = Pair::new();
    let link = pair.start(client_addr(0), 40_000);
    pair.call(link, 5, 100);
    let down = gre_packet(SERVER, client_addr(0), 5, 1, &[7; 1_400]);
    let up = gre_packet(EXTERNAL, SERVER, 100, 1, &[8; 1_400]);
    let mut ids = Vec::new();
    for (to, packet) in [(Side::Client, down), (Side::Server, up)] {
        for packet in [packet.clone(), uncuttable(packet)] {
            pair.engine.too_big(&packet, to, 1_000);
            pair.settle(Verdict::Consumed, vec![]);
            let (arrived, others) = match to {
                Side::Client => (&mut pair.at_client, &pair.at_server),
                Side::Server => (&mut pair.at_server, &pair.at_client),
            };
            assert_eq!((reassemble(arrived), others.len()), (packet[20..].to_vec(), 0));
            assert!(arrived.iter().all(|fragment| fragment.len() <= 1_000));
            let of_fragments = arrived.drain(..).map(|fragment| {
                let ip = ipv4::Packet::new_unchecked(&fragment[..]);
                assert!(!ip.dont_fragment());
                ip.id()
            });
            ids.extend(of_fragments);
        }
    }
    assert_eq!(pair.engine.counters().fragmented, 4);
    // Of a packet that nobody was to cut the identification says nothing (RFC 6864).
    assert!(ids.chunks(2).all(|packet| packet[0] == packet[1] && packet[0] != 0), "{ids:?}");
    assert_ne!(ids[2], ipv4::Packet::new_unchecked(&gre_packet(SERVER, EXTERNAL, 5, 1, b"")[..]).id());
}

#[test]
fn what_is_not_gre_and_may_not_be_cut_is_dropped() {
    let mut pair = Pair::new();
    let header = ipv4::Repr {
        src: EXTERNAL,
        dst: SERVER,
        protocol: ipv4::PROTOCOL_TCP,
        tos: 0,
        ttl: 64,
        id: 1,
        dont_fragment: true,
        payload_len: 100,
    };
    let mut packet = vec![0; 120];
    header.emit(&mut packet).unwrap();
    pair.engine.too_big(&packet, Side::Server, 68);
    assert_eq!((pair.engine.poll_command(), pair.engine.counters().fragmented), (None, 0));
}

/// Payload of fragments in order of their offsets, without holes.
fn reassemble(fragments: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for fragment in fragments {
        let ip = ipv4::Packet::new_checked(&fragment[..]).unwrap();
        assert!(ip.verify_checksum());
        assert_eq!(ip.fragment_offset(), bytes.len());
        bytes.extend_from_slice(ip.payload());
    }
    bytes
}

/// Cuts a packet into fragments of at most `room` octets of payload.
fn cut(packet: &[u8], room: usize) -> Vec<Vec<u8>> {
    let parts: Vec<&[u8]> = packet[20..].chunks(room).collect();
    parts
        .iter()
        .enumerate()
        .map(|(number, part)| {
            let mut bytes = [&packet[..20], part].concat();
            let mut ip = ipv4::Packet::new_unchecked(&mut bytes[..]);
            ip.set_total_len((20 + part.len()) as u16);
            ip.set_fragment(false, number + 1 < parts.len(), number * room);
            ip.fill_checksum();
            bytes
        })
        .collect()
}

#[test]
fn fragments_of_gre_pass_both_ways_in_any_order() {
    for order in [[0, 1, 2], [1, 2, 0], [2, 0, 1]] {
        let mut pair = Pair::new();
        let link = pair.start(client_addr(0), 40_000);
        let translated = pair.call(link, 5, 100);
        let payload: Vec<u8> = (0..1_200).map(|n| n as u8).collect();
        let fragments = cut(&gre_packet(client_addr(0), SERVER, 100, 1, &payload), 480);
        order.iter().for_each(|&n| pair.up(fragments[n].clone()));
        let mut arrived = std::mem::take(&mut pair.at_server);
        arrived.sort_by_key(|fragment| ipv4::Packet::new_unchecked(&fragment[..]).fragment_offset());
        let first = arrived[0][..20].to_vec();
        let whole = [first, reassemble(&arrived)].concat();
        assert_eq!(whole[20..], gre_packet(EXTERNAL, SERVER, 100, 1, &payload)[20..]);

        let fragments = cut(&gre_packet(SERVER, EXTERNAL, translated, 1, &payload), 480);
        order.iter().for_each(|&n| pair.down(fragments[n].clone()));
        let mut arrived = std::mem::take(&mut pair.at_client);
        arrived.sort_by_key(|fragment| ipv4::Packet::new_unchecked(&fragment[..]).fragment_offset());
        for fragment in &arrived {
            let ip = ipv4::Packet::new_unchecked(&fragment[..]);
            assert_eq!((ip.src(), ip.dst()), (SERVER, client_addr(0)));
        }
        assert_eq!(reassemble(&arrived), gre_packet(SERVER, client_addr(0), 5, 1, &payload)[20..]);
    }
}

#[test]
fn a_fragment_that_a_client_forges_is_no_part_of_the_servers_packet() {
    let mut pair = Pair::new();
    let link = pair.start(client_addr(0), 40_000);
    let translated = pair.call(link, 5, 100);
    let payload: Vec<u8> = (0..900).map(|n| n as u8).collect();
    let fragments = cut(&gre_packet(SERVER, EXTERNAL, translated, 1, &payload), 480);
    pair.up(fragments[1].clone());
    pair.down(fragments[0].clone());
    assert_eq!(pair.at_client.len(), 1, "the first fragment alone");
    pair.down(fragments[1].clone());
    assert_eq!(reassemble(&pair.at_client), gre_packet(SERVER, client_addr(0), 5, 1, &payload)[20..]);
}

#[test]
fn gre_that_comes_before_the_reply_is_passed_on_behind_it() {
    let mut pair = Pair::new();
    let link = pair.start(client_addr(0), 40_000);
    pair.client_says(link, &messages::outgoing_request(5));
    let request = pair.at_server(link).pop().unwrap();
    let translated = u16::from_be_bytes([request[12], request[13]]);
    pair.down(gre_packet(SERVER, EXTERNAL, translated, 0, b"early"));
    assert_eq!(pair.at_client.len(), 0);
    pair.server_says(link, &messages::outgoing_reply(100, translated, 1));
    let got: Vec<_> = pair.at_client.iter().map(|packet| read_gre(packet)).collect();
    assert_eq!(got, [(SERVER, client_addr(0), 5, b"early".to_vec())]);
}

#[test]
fn an_error_about_a_pac_id_that_two_clients_have_reaches_both() {
    let mut pair = Pair::new();
    for number in [0, 1] {
        let link = pair.start(client_addr(number), 40_000);
        pair.call(link, 5, 100);
        // The server may give its id to the next call before we have its answer.
        pair.client_says(link, &messages::call_clear(5));
    }
    pair.down(error(ROUTER, EXTERNAL, 3, 4, 1_000, &gre_packet(EXTERNAL, SERVER, 100, 1, b"data")));
    let mut got: Vec<_> = pair.at_client.iter().map(|packet| read(packet)).collect();
    got.sort();
    let to = |number| (ROUTER, client_addr(number), 1_000, client_addr(number), SERVER, 100);
    assert_eq!(got, [to(0), to(1)]);
}

#[test]
fn fragments_of_two_clients_with_the_same_identification_are_not_put_together() {
    let mut pair = Pair::new();
    let mut ids = std::collections::BTreeSet::new();
    for number in [0, 1] {
        let link = pair.start(client_addr(number), 40_000);
        pair.call(link, 5, 100 + number as u16);
        for fragment in cut(&gre_packet(client_addr(number), SERVER, 100 + number as u16, 1, &[0; 900]), 480) {
            pair.up(fragment);
        }
        let of_packet: Vec<u16> =
            pair.at_server.drain(..).map(|fragment| ipv4::Packet::new_unchecked(&fragment[..]).id()).collect();
        assert_eq!(of_packet, [of_packet[0]; 2]);
        assert!(of_packet[0] != 0 && ids.insert(of_packet[0]), "{ids:?}");
    }
}

#[test]
fn fragments_without_their_first_are_dropped_after_a_while() {
    let mut pair = Pair::new();
    let link = pair.start(client_addr(0), 40_000);
    pair.call(link, 5, 100);
    let fragments = cut(&gre_packet(client_addr(0), SERVER, 100, 1, &[0; 900]), 480);
    pair.up(fragments[1].clone());
    pair.wait(2_000);
    assert_eq!((pair.at_server.len(), pair.engine.counters().drop_fragment_unknown), (0, 1));
    // The table of ways is bounded, and the oldest goes first.
    for id in 0..2_000u16 {
        let mut first = fragments[0].clone();
        let mut ip = ipv4::Packet::new_unchecked(&mut first[..]);
        ip.set_id(id + 10);
        ip.fill_checksum();
        pair.up(first);
    }
    pair.at_server.clear();
    for (id, passes) in [(10u16, 0), (2_009, 1)] {
        let mut later = fragments[1].clone();
        let mut ip = ipv4::Packet::new_unchecked(&mut later[..]);
        ip.set_id(id);
        ip.fill_checksum();
        pair.up(later);
        assert_eq!(pair.at_server.drain(..).count(), passes, "identification {id}");
    }
}

#[test]
fn what_is_held_for_a_call_is_bounded_and_dropped_in_time() {
    let mut pair = Pair::new();
    let link = pair.start(client_addr(0), 40_000);
    pair.client_says(link, &messages::outgoing_request(5));
    let request = pair.at_server(link).pop().unwrap();
    let translated = u16::from_be_bytes([request[12], request[13]]);
    for seq in 0..10 {
        pair.down(gre_packet(SERVER, EXTERNAL, translated, seq, b"early"));
    }
    assert_eq!((pair.engine.counters().gre_held, pair.engine.counters().drop_gre_held), (8, 2));
    pair.wait(1_100);
    assert_eq!(pair.engine.counters().drop_gre_held, 10);
    pair.server_says(link, &messages::outgoing_reply(100, translated, 1));
    assert_eq!(pair.at_client.len(), 0);
}

#[test]
fn packets_that_make_no_sense_are_dropped_and_counted() {
    let mut pair = Pair::new();
    let link = pair.start(client_addr(0), 40_000);
    let translated = pair.call(link, 5, 100);
    let good = gre_packet(SERVER, EXTERNAL, translated, 1, b"data");
    let changed = |at: usize, value: u8| {
        let mut packet = good.clone();
        packet[at] = value;
        packet
    };
    // Version 0, no key, another protocol, more payload than there is: all GRE we do not take.
    for packet in [changed(21, 0), changed(20, 0x10), changed(23, 0x0a), changed(25, 200)] {
        pair.down(packet);
    }
    pair.down(good[..30].to_vec());
    let whole = |mut packet: Vec<u8>| {
        ipv4::Packet::new_unchecked(&mut packet[..]).fill_checksum();
        packet
    };
    pair.down(whole(changed(8, 1)));
    pair.down(whole(changed(9, 17)));
    // What was damaged on the way: a bit of its time to live.
    pair.down(changed(8, good[8] ^ 1));
    let counters = pair.engine.counters();
    assert_eq!(pair.at_client.len(), 0);
    assert_eq!(
        (counters.drop_gre_malformed, counters.drop_ip_malformed, counters.drop_ttl, counters.drop_ip_protocol),
        (4, 2, 1, 1)
    );
}
