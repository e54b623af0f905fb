//! IPv4: one literal packet read and written, refusals, incremental checksums.

use proptest::prelude::*;

use super::*;

/// Frame 8 of tcpdump-pptp.pcap, the header, and four octets of payload (total length made to fit).
static PACKET: [u8; 24] = [
    0x45, 0x00, 0x00, 0x18, 0x4f, 0xb6, 0x40, 0x00, 0x40, 0x06, 0xd5, 0x13, 0x0a, 0x01, 0x01, 0x0a, 0x0a, 0x01, 0x01,
    0x0b, 0x06, 0xbb, 0x0b, 0xd1,
];

fn repr() -> Repr {
    Repr {
        src: Ipv4Addr::new(10, 1, 1, 10),
        dst: Ipv4Addr::new(10, 1, 1, 11),
        protocol: PROTOCOL_TCP,
        tos: 0,
        ttl: 64,
        id: 0x4fb6,
        dont_fragment: true,
        payload_len: 4,
    }
}

#[test]
fn deconstruct() {
    let packet = Packet::new_checked(&PACKET[..]).unwrap();
    assert_eq!((packet.header_len(), packet.total_len(), packet.tos(), packet.id()), (20, 24, 0, 0x4fb6));
    assert!(packet.dont_fragment() && !packet.more_fragments() && !packet.is_fragment());
    assert_eq!((packet.fragment_offset(), packet.ttl(), packet.protocol()), (0, 64, PROTOCOL_TCP));
    assert_eq!((packet.src(), packet.dst()), (Ipv4Addr::new(10, 1, 1, 10), Ipv4Addr::new(10, 1, 1, 11)));
    assert_eq!(packet.payload(), &[0x06, 0xbb, 0x0b, 0xd1]);
    assert!(packet.verify_checksum());
}

#[test]
fn construct() {
    let mut bytes = [0xa5; 24];
    bytes[0] = 0x45;
    let mut packet = Packet::new_unchecked(&mut bytes[..]);
    packet.set_tos(0);
    packet.set_total_len(24);
    packet.set_id(0x4fb6);
    packet.set_fragment(true, false, 0);
    packet.set_ttl(64);
    packet.set_protocol(PROTOCOL_TCP);
    packet.set_src(Ipv4Addr::new(10, 1, 1, 10));
    packet.set_dst(Ipv4Addr::new(10, 1, 1, 11));
    packet.fill_checksum();
    packet.payload_mut().copy_from_slice(&[0x06, 0xbb, 0x0b, 0xd1]);
    assert_eq!(bytes, PACKET);
}

#[test]
fn parse() {
    assert_eq!(Repr::parse(&Packet::new_checked(&PACKET[..]).unwrap()), Ok(repr()));
}

#[test]
fn emit() {
    let mut bytes = [0xa5; 24];
    repr().emit(&mut bytes).unwrap();
    assert_eq!(bytes[..20], PACKET[..20]);
    assert_eq!(bytes[20..], [0xa5; 4]);
    assert_eq!(repr().emit(&mut bytes[..19]), Err(Error));
    assert_eq!(Repr { payload_len: 65_516, ..repr() }.emit(&mut bytes), Err(Error));
}

#[test]
fn what_is_no_whole_ipv4_packet_is_refused() {
    assert!(Packet::new_checked(&PACKET[..23]).is_err(), "shorter than its total length");
    assert!(Packet::new_checked(&PACKET[..19]).is_err(), "shorter than a header");
    let changed = |at: usize, value: u8| {
        let mut bytes = PACKET;
        bytes[at] = value;
        bytes
    };
    assert!(Packet::new_checked(changed(0, 0x65)).is_err(), "version 6");
    assert!(Packet::new_checked(changed(0, 0x44)).is_err(), "header of 16 octets");
    assert!(Packet::new_checked(changed(0, 0x47)).is_err(), "header longer than the packet");
    assert!(Packet::new_checked(changed(3, 19)).is_err(), "total length below the header");
}

#[test]
fn an_embedded_packet_may_be_cut_behind_its_header() {
    let packet = Packet::new_embedded(&PACKET[..22]).unwrap();
    assert_eq!(packet.payload(), &[0x06, 0xbb]);
    assert!(Packet::new_embedded(&PACKET[..19]).is_err());
}

#[test]
fn padding_behind_the_total_length_is_not_payload() {
    let mut bytes = PACKET.to_vec();
    bytes.extend([0x55; 6]);
    assert_eq!(Packet::new_checked(bytes).unwrap().payload(), &[0x06, 0xbb, 0x0b, 0xd1]);
}

#[test]
fn the_last_hop_is_not_taken() {
    let mut bytes = PACKET;
    bytes[8] = 1;
    let before = bytes;
    assert!(!Packet::new_unchecked(&mut bytes[..]).decrement_ttl());
    assert_eq!(bytes, before);
}

proptest! {
    #[test]
    fn rewriting_keeps_the_checksum_right(src: u32, dst: u32, id: u16, ttl in 2u8..) {
        let mut bytes = [0xa5; 20];
        Repr { id, ttl, payload_len: 0, ..repr() }.emit(&mut bytes).unwrap();
        let mut packet = Packet::new_checked(&mut bytes[..]).unwrap();
        packet.rewrite_src(src.into());
        packet.rewrite_dst(dst.into());
        prop_assert!(packet.decrement_ttl());
        prop_assert!(packet.verify_checksum());
        let want = Repr { src: src.into(), dst: dst.into(), id, ttl: ttl - 1, payload_len: 0, ..repr() };
        prop_assert_eq!(Repr::parse(&packet), Ok(want));
    }

    #[test]
    fn no_bytes_make_it_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        if let Ok(packet) = Packet::new_checked(&bytes[..]) {
            let _ = (Repr::parse(&packet), packet.payload(), packet.verify_checksum());
        }
        let mut packet = Packet::new_unchecked(&mut bytes[..]);
        packet.rewrite_src(Ipv4Addr::LOCALHOST);
        packet.rewrite_dst(Ipv4Addr::LOCALHOST);
        packet.decrement_ttl();
        packet.fill_checksum();
        let _ = packet.payload_mut();
    }
}
