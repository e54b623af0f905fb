//! Packets with random faults, checksums put right again: nothing panics, nothing hurts another client's call.

use proptest::prelude::*;

use callgate_pptp::Side;
use callgate_pptp::wire::{icmp, ipv4, tcp};

use super::messages::*;
use super::pair::{EXTERNAL, Pair, SERVER, client_addr};

/// Gives a damaged packet right checksums, so that it is looked at beyond them.
fn repaired(mut packet: Vec<u8>) -> Vec<u8> {
    let length = packet.len();
    let mut ip = ipv4::Packet::new_unchecked(&mut packet[..]);
    if ip.header_len() > length {
        return packet;
    }
    ip.fill_checksum();
    let (src, dst, protocol) = (ip.src(), ip.dst(), ip.protocol());
    match protocol {
        ipv4::PROTOCOL_TCP => tcp::Packet::new_unchecked(ip.payload_mut()).fill_checksum(src, dst),
        ipv4::PROTOCOL_ICMP => icmp::Packet::new_unchecked(ip.payload_mut()).fill_checksum(),
        _ => {}
    }
    packet
}

/// Packets as they are in an ordinary life, of client 0 and of the server about it.
fn sane(pair: &Pair, link: super::pair::Link, translated: u16) -> Vec<(Side, Vec<u8>)> {
    let (client, server) = (&pair.clients[&link.client], &pair.servers[&link.server]);
    let flags = tcp::Flags::ACK;
    let mut packets = vec![
        (Side::Client, gre(client_addr(0), SERVER, 100, 5, b"up")),
        (Side::Server, gre(SERVER, EXTERNAL, translated, 5, b"down")),
        (Side::Client, client.packet(client.next, tcp::Flags::SYN, &[])),
        (Side::Client, client.packet(client.next, tcp::Flags::RST, &[])),
        (Side::Client, client.packet(client.next, flags.with(tcp::Flags::FIN), &[])),
        (Side::Client, client.ack()),
        (Side::Server, server.ack()),
    ];
    for message in [echo_request(), outgoing_request(6), call_clear(5), set_link_info(100), incoming_reply(7, 9, 1)] {
        packets.push((Side::Client, client.packet(client.next, flags, &message)));
    }
    for message in
        [outgoing_reply(3, translated, 1), incoming_request(9), disconnect_notify(100), wan_error(translated)]
    {
        packets.push((Side::Server, server.packet(server.next, flags, &message)));
    }
    let quoted = gre(EXTERNAL, SERVER, 100, 5, b"quoted");
    let error = icmp::Repr { kind: 3, code: 4, mtu: 900, original: &quoted };
    let ip = ipv4::Repr {
        src: SERVER,
        dst: EXTERNAL,
        protocol: ipv4::PROTOCOL_ICMP,
        tos: 0,
        ttl: 9,
        id: 1,
        dont_fragment: false,
        payload_len: error.buffer_len(),
    };
    let mut packet = vec![0; 20 + error.buffer_len()];
    ip.emit(&mut packet).unwrap();
    error.emit(&mut packet[20..]).unwrap();
    packets.push((Side::Server, packet));
    packets
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn damaged_packets_of_one_client_do_not_touch_the_call_of_another(
        faults in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 1..40),
        cut in any::<prop::sample::Index>(),
        strict: bool,
    ) {
        let mut pair = Pair::new();
        let other = pair.start(client_addr(1), 40_000);
        let safe = pair.call(other, 5, 200);
        pair.policy.strict = strict;
        let link = pair.start(client_addr(0), 40_000);
        let translated = pair.call(link, 5, 100);
        for end in pair.clients.values_mut().chain(pair.servers.values_mut()) {
            end.holes = true;
            end.lenient = true;
        }
        let packets = sane(&pair, link, translated);
        for (which, place, value, short) in faults {
            let (from, mut packet) = packets[which.index(packets.len())].clone();
            // Addresses stay: another's packets are another test's matter.
            let at = place.index(packet.len());
            if !(12..20).contains(&at) {
                packet[at] = value;
            }
            if short {
                packet.truncate(cut.index(packet.len()));
            }
            let packet = if packet.len() >= 20 { repaired(packet) } else { packet };
            match from {
                Side::Client => pair.up(packet),
                Side::Server => pair.down(packet),
            }
        }
        pair.wait(1_000);
        pair.at_client.clear();
        pair.down(gre(SERVER, EXTERNAL, safe, 1, b"safe"));
        let got: Vec<_> = pair.at_client.drain(..).map(|packet| read_gre(&packet)).collect();
        prop_assert_eq!(got, [(SERVER, client_addr(1), 5, b"safe".to_vec())]);
        prop_assert!(!pair.clients[&other.client].reset);
    }

    #[test]
    fn no_octets_at_all_make_it_panic(
        packets in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..120)), 1..20),
    ) {
        let mut pair = Pair::new();
        for (client, mut packet) in packets {
            if let Some(first) = packet.first_mut() {
                *first = 0x45;
            }
            let packet = if packet.len() >= 20 { repaired(packet) } else { packet };
            if client { pair.up(packet) } else { pair.down(packet) }
        }
    }
}
