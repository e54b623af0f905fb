//! Real traffic: each control message and GRE packet of the captures parses, and is emitted the same.

use std::net::Ipv4Addr;

use super::super::{gre, ipv4, tcp};
use super::{ControlType, Message, Sender, validate};

static TCPDUMP: &[u8] = include_bytes!("../../../tests/data/tcpdump-pptp.pcap");
static ZEEK: &[u8] = include_bytes!("../../../tests/data/zeek-gre-pptp.pcap");

/// The IPv4 packets of a classic capture file: 24 octets of header, then 16 octets and a frame for each packet.
fn ipv4_packets(capture: &[u8]) -> Vec<Vec<u8>> {
    let little = match capture[..4] {
        [0xd4, 0xc3, 0xb2, 0xa1] => true,
        [0xa1, 0xb2, 0xc3, 0xd4] => false,
        _ => panic!("not a classic capture file with microseconds"),
    };
    let (mut packets, mut at) = (Vec::new(), 24);
    while at < capture.len() {
        let length: [u8; 4] = capture[at + 8..at + 12].try_into().unwrap();
        let length = if little { u32::from_le_bytes(length) } else { u32::from_be_bytes(length) } as usize;
        let frame = &capture[at + 16..at + 16 + length];
        // Zeek's packets are IPv4 in IPv6 (40 octets of fixed header) in a VLAN (4 octets).
        let skip = if frame[12..14] == [0x81, 0x00] { 14 + 4 + 40 } else { 14 };
        packets.push(frame[skip..].to_vec());
        at += 16 + length;
    }
    packets
}

#[test]
fn every_message_of_the_captured_session_is_understood_and_emitted_the_same() {
    let server = Ipv4Addr::new(10, 1, 1, 10);
    let mut types = Vec::new();
    for bytes in ipv4_packets(TCPDUMP) {
        let packet = ipv4::Packet::new_checked(&bytes[..]).unwrap();
        assert!(packet.verify_checksum());
        if packet.protocol() != ipv4::PROTOCOL_TCP {
            continue;
        }
        let segment = tcp::Packet::new_checked(packet.payload()).unwrap();
        assert!(segment.verify_checksum(packet.src(), packet.dst()));
        let message = segment.payload();
        if message.is_empty() {
            continue;
        }
        let sender = if packet.src() == server { Sender::Pac } else { Sender::Pns };
        types.push(validate(message, sender, true).unwrap());
        let parsed = Message::parse(message).unwrap();
        let mut again = vec![0xa5; parsed.buffer_len()];
        parsed.emit(&mut again).unwrap();
        assert_eq!(again, message);

        let ip = ipv4::Repr::parse(&packet).unwrap();
        let rebuilt = tcp::datagram(&ip, &tcp::Repr::parse(&segment), message).unwrap();
        assert_eq!(rebuilt, bytes);
    }
    use ControlType::{OutgoingCallReply, OutgoingCallRequest, SetLinkInfo, StartReply, StartRequest};
    let server_frames_come_twice =
        [StartRequest, StartReply, StartReply, OutgoingCallRequest, OutgoingCallReply, OutgoingCallReply, SetLinkInfo];
    assert_eq!(types, server_frames_come_twice);
}

#[test]
fn every_gre_packet_of_the_captures_is_understood_and_emitted_the_same() {
    let mut seen = Vec::new();
    for bytes in ipv4_packets(TCPDUMP).into_iter().chain(ipv4_packets(ZEEK)) {
        let packet = ipv4::Packet::new_checked(&bytes[..]).unwrap();
        if packet.protocol() != ipv4::PROTOCOL_GRE {
            continue;
        }
        let gre = gre::Packet::new_checked(packet.payload()).unwrap();
        let repr = gre::Repr::parse(&gre).unwrap();
        let mut again = packet.payload().to_vec();
        again[..repr.buffer_len()].fill(0xa5);
        repr.emit(&mut again).unwrap();
        assert_eq!(again, packet.payload());
        seen.push(repr);
    }
    let want = [
        gre::Repr { call_id: 0, seq: Some(0), ack: None, payload_len: 48 },
        gre::Repr { call_id: 6016, seq: Some(430_001), ack: Some(539_254), payload_len: 103 },
        gre::Repr { call_id: 17, seq: Some(539_320), ack: None, payload_len: 178 },
    ];
    assert_eq!(seen, want);
}
