//! Enhanced GRE: literal packets read and written, refusals, the misplaced acknowledgement.

use proptest::prelude::*;

use super::*;

/// The first packet of zeek-gre-pptp.pcap: data with acknowledgement, its payload cut to four octets.
static DATA_ACK: [u8; 20] = [
    0x30, 0x81, 0x88, 0x0b, 0x00, 0x04, 0x17, 0x80, 0x00, 0x06, 0x8f, 0xb1, 0x00, 0x08, 0x3a, 0x76, 0xff, 0x03, 0x00,
    0x21,
];
/// An acknowledgement alone.
static ACK_ONLY: [u8; 12] = [0x20, 0x81, 0x88, 0x0b, 0x00, 0x00, 0x17, 0x80, 0x00, 0x08, 0x3a, 0x76];

fn repr() -> Repr {
    Repr { call_id: 6016, seq: Some(430_001), ack: Some(539_254), payload_len: 4 }
}

#[test]
fn deconstruct() {
    let packet = Packet::new_checked(&DATA_ACK[..]).unwrap();
    assert!(packet.has_seq() && packet.has_ack());
    assert_eq!((packet.header_len(), packet.payload_len(), packet.call_id()), (16, 4, 6016));
    assert_eq!((packet.seq(), packet.ack()), (Some(430_001), Some(539_254)));
    assert_eq!(packet.payload(), &[0xff, 0x03, 0x00, 0x21]);
}

#[test]
fn construct() {
    let mut bytes = DATA_ACK;
    bytes[6..8].fill(0xa5);
    Packet::new_unchecked(&mut bytes[..]).set_call_id(6016);
    assert_eq!(bytes, DATA_ACK);
}

#[test]
fn parse() {
    assert_eq!(Repr::parse(&Packet::new_checked(&DATA_ACK[..]).unwrap()), Ok(repr()));
}

#[test]
fn emit() {
    let mut bytes = [0xa5; 20];
    repr().emit(&mut bytes).unwrap();
    assert_eq!(bytes[..16], DATA_ACK[..16]);
    assert_eq!(bytes[16..], [0xa5; 4]);
    assert_eq!(repr().emit(&mut bytes[..15]), Err(Error));
}

#[test]
fn an_acknowledgement_alone_sits_where_the_sequence_number_would() {
    let packet = Packet::new_checked(&ACK_ONLY[..]).unwrap();
    assert_eq!((packet.seq(), packet.ack(), packet.payload()), (None, Some(539_254), &[][..]));
    let repr = Repr { call_id: 6016, seq: None, ack: Some(539_254), payload_len: 0 };
    assert_eq!(Repr::parse(&packet), Ok(repr));
    let mut bytes = [0xa5; 12];
    repr.emit(&mut bytes).unwrap();
    assert_eq!(bytes, ACK_ONLY);
}

#[test]
fn what_is_not_enhanced_gre_with_ppp_is_refused() {
    let changed = |at: usize, value: u8| {
        let mut bytes = DATA_ACK;
        bytes[at] = value;
        bytes
    };
    for (at, value, why) in [
        (1, 0x80, "version 0"),
        (1, 0x82, "version 2"),
        (0, 0x10, "no key"),
        (0, 0xb0, "checksum present"),
        (0, 0x70, "routing present"),
        (0, 0x38, "strict source route"),
        (3, 0x00, "IP instead of PPP"),
        (5, 5, "payload longer than the packet"),
    ] {
        assert!(Packet::new_checked(changed(at, value)).is_err(), "{why}");
    }
    assert!(Packet::new_checked(&DATA_ACK[..7]).is_err());
    assert!(Packet::new_checked(&ACK_ONLY[..11]).is_err());
}

#[test]
fn eight_octets_are_enough_for_the_call_id_of_a_cut_packet() {
    let packet = Packet::new_embedded(&DATA_ACK[..8]).unwrap();
    assert_eq!((packet.call_id(), packet.seq(), packet.ack()), (6016, None, None));
    assert_eq!(Repr::parse(&packet), Err(Error));
    let first_fragment = Packet::new_embedded(&DATA_ACK[..18]).unwrap();
    assert_eq!((first_fragment.seq(), first_fragment.payload()), (Some(430_001), &[0xff, 0x03][..]));
}

proptest! {
    #[test]
    fn what_is_emitted_is_parsed_again(call_id: u16, seq: Option<u32>, ack: Option<u32>, payload_len in 0u16..64) {
        let repr = Repr { call_id, seq, ack, payload_len };
        let mut bytes = vec![0xa5; repr.buffer_len() + usize::from(payload_len)];
        repr.emit(&mut bytes).unwrap();
        prop_assert_eq!(Repr::parse(&Packet::new_checked(&bytes[..]).unwrap()), Ok(repr));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..40), valid: bool) {
        let mut bytes = bytes;
        if valid {
            put(&mut bytes, 1, &[0x81, 0x88, 0x0b]);
        }
        if let Ok(packet) = Packet::new_embedded(&bytes[..]) {
            let _ = (Repr::parse(&packet), packet.payload(), packet.ack());
        }
        let mut packet = Packet::new_unchecked(&mut bytes[..]);
        packet.set_call_id(1);
        let _ = (packet.payload(), packet.seq());
    }
}
