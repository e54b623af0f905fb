//! TCP: one literal segment read and written, refusals, building with and without timestamps.

use proptest::prelude::*;

use super::*;

const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 1, 1, 11);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 1, 1, 10);

/// The Outgoing-Call-Reply of tcpdump-pptp.pcap, from its TCP header on.
static SEGMENT: [u8; 52] = [
    0x06, 0xbb, 0x0b, 0xd1, 0x8b, 0x6e, 0x20, 0x64, 0xd9, 0x73, 0xef, 0x30, 0x50, 0x18, 0x7d, 0x78, 0x56, 0x43, 0x00,
    0x00, 0x00, 0x20, 0x00, 0x01, 0x1a, 0x2b, 0x3c, 0x4d, 0x00, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00,
    0x00, 0x00, 0x05, 0xf5, 0xe1, 0x00, 0x00, 0x40, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
];

fn repr() -> Repr {
    Repr {
        src_port: 1723,
        dst_port: 3025,
        seq: Seq(0x8b6e_2064),
        ack: Seq(0xd973_ef30),
        flags: Flags::ACK.with(Flags::PSH),
        window: 0x7d78,
        timestamps: None,
    }
}

#[test]
fn deconstruct() {
    let packet = Packet::new_checked(&SEGMENT[..]).unwrap();
    assert_eq!((packet.src_port(), packet.dst_port()), (1723, 3025));
    assert_eq!((packet.seq(), packet.ack()), (Seq(0x8b6e_2064), Seq(0xd973_ef30)));
    assert_eq!((packet.header_len(), packet.window(), packet.urgent()), (20, 0x7d78, 0));
    assert_eq!(packet.flags(), Flags::PSH.with(Flags::ACK));
    assert!(!packet.fin() && !packet.syn() && !packet.rst());
    assert_eq!((packet.options(), packet.payload()), (&[][..], &SEGMENT[20..]));
    assert!(packet.verify_checksum(SERVER, CLIENT) && !packet.verify_checksum(SERVER, Ipv4Addr::LOCALHOST));
}

#[test]
fn construct() {
    let mut bytes = [0xa5; 52];
    bytes[20..].copy_from_slice(&SEGMENT[20..]);
    let mut packet = Packet::new_unchecked(&mut bytes[..]);
    packet.set_src_port(1723);
    packet.set_dst_port(3025);
    packet.set_seq(Seq(0x8b6e_2064));
    packet.set_ack(Seq(0xd973_ef30));
    packet.set_header_len(20);
    packet.set_flags(Flags::ACK.with(Flags::PSH).with(Flags::URG).without(Flags::URG));
    packet.set_window(0x7d78);
    packet.set_urgent(0);
    packet.fill_checksum(SERVER, CLIENT);
    assert_eq!(bytes, SEGMENT);
}

#[test]
fn parse() {
    assert_eq!(Repr::parse(&Packet::new_checked(&SEGMENT[..]).unwrap()), repr());
}

#[test]
fn emit() {
    let mut bytes = [0xa5; 52];
    repr().emit(&mut bytes, &SEGMENT[20..], SERVER, CLIENT).unwrap();
    assert_eq!(bytes, SEGMENT);
    assert_eq!(repr().emit(&mut bytes[..51], &SEGMENT[20..], SERVER, CLIENT), Err(Error));
}

#[test]
fn a_header_that_does_not_fit_is_refused() {
    let mut bytes = SEGMENT;
    bytes[12] = 0x40;
    assert!(Packet::new_checked(bytes).is_err(), "16 octets");
    bytes[12] = 0xf0;
    assert!(Packet::new_checked(bytes).is_err(), "60 octets");
    assert!(Packet::new_checked(&SEGMENT[..19]).is_err());
    assert!(Packet::new_checked(&SEGMENT[..20]).is_ok());
}

proptest! {
    #[test]
    fn a_built_datagram_is_parsed_again(
        seq: u32, ack: u32, window: u16, timestamps: Option<(u32, u32)>,
        payload in prop::collection::vec(any::<u8>(), 0..230),
    ) {
        let ip = ipv4::Repr {
            src: SERVER, dst: CLIENT, protocol: 0, tos: 0, ttl: 64, id: 1, dont_fragment: true, payload_len: 0,
        };
        let tcp = Repr { seq: Seq(seq), ack: Seq(ack), window, timestamps, ..repr() };
        let bytes = datagram(&ip, &tcp, &payload).unwrap();
        let packet = ipv4::Packet::new_checked(&bytes[..]).unwrap();
        prop_assert!(packet.verify_checksum());
        prop_assert_eq!(packet.protocol(), ipv4::PROTOCOL_TCP);
        let segment = Packet::new_checked(packet.payload()).unwrap();
        prop_assert!(segment.verify_checksum(SERVER, CLIENT));
        prop_assert_eq!(Repr::parse(&segment), tcp);
        prop_assert_eq!(segment.payload(), &payload[..]);
    }

    #[test]
    fn no_bytes_make_it_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        if let Ok(packet) = Packet::new_checked(&bytes[..]) {
            let _ = (Repr::parse(&packet), packet.payload(), packet.verify_checksum(SERVER, CLIENT));
        }
        let mut packet = Packet::new_unchecked(&mut bytes[..]);
        let _ = packet.options_mut();
        packet.fill_checksum(SERVER, CLIENT);
    }
}
