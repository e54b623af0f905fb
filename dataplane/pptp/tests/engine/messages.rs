//! Control messages and GRE packets for scripts.

use std::net::Ipv4Addr;

use callgate_pptp::wire::control::COOKIE;
use callgate_pptp::wire::{gre, ipv4};

/// A message of this type with these bytes at these offsets.
pub(crate) fn message(kind: u16, length: u16, parts: &[(usize, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0; usize::from(length)];
    bytes[..2].copy_from_slice(&length.to_be_bytes());
    bytes[3] = 1;
    bytes[4..8].copy_from_slice(&COOKIE.to_be_bytes());
    bytes[8..10].copy_from_slice(&kind.to_be_bytes());
    for (at, part) in parts {
        bytes[*at..at + part.len()].copy_from_slice(part);
    }
    bytes
}

pub(crate) fn start_request() -> Vec<u8> {
    message(1, 156, &[(12, &[1, 0]), (28, b"till")])
}
pub(crate) fn start_reply() -> Vec<u8> {
    message(2, 156, &[(12, &[1, 0, 1, 0]), (28, b"head office")])
}
pub(crate) fn stop_request() -> Vec<u8> {
    message(3, 16, &[(12, &[1])])
}
pub(crate) fn stop_reply() -> Vec<u8> {
    message(4, 16, &[(12, &[1])])
}
pub(crate) fn echo_request() -> Vec<u8> {
    message(5, 16, &[(12, &[0xde, 0xad, 0xbe, 0xef])])
}
pub(crate) fn echo_reply() -> Vec<u8> {
    message(6, 20, &[(12, &[0xde, 0xad, 0xbe, 0xef, 1])])
}
pub(crate) fn outgoing_request(pns: u16) -> Vec<u8> {
    message(7, 168, &[(12, &pns.to_be_bytes()), (40, b"phone")])
}
pub(crate) fn outgoing_reply(pac: u16, pns: u16, result: u8) -> Vec<u8> {
    message(8, 32, &[(12, &pac.to_be_bytes()), (14, &pns.to_be_bytes()), (16, &[result])])
}
pub(crate) fn incoming_request(pac: u16) -> Vec<u8> {
    message(9, 220, &[(12, &pac.to_be_bytes())])
}
pub(crate) fn incoming_reply(pns: u16, pac: u16, result: u8) -> Vec<u8> {
    message(10, 24, &[(12, &pns.to_be_bytes()), (14, &pac.to_be_bytes()), (16, &[result])])
}
pub(crate) fn incoming_connected(pns: u16) -> Vec<u8> {
    message(11, 28, &[(12, &pns.to_be_bytes())])
}
pub(crate) fn call_clear(pns: u16) -> Vec<u8> {
    message(12, 16, &[(12, &pns.to_be_bytes())])
}
pub(crate) fn disconnect_notify(id: u16) -> Vec<u8> {
    message(13, 148, &[(12, &id.to_be_bytes()), (14, &[4])])
}
pub(crate) fn wan_error(pns: u16) -> Vec<u8> {
    message(14, 40, &[(12, &pns.to_be_bytes())])
}
pub(crate) fn set_link_info(pac: u16) -> Vec<u8> {
    message(15, 24, &[(12, &pac.to_be_bytes()), (16, &[0xff; 8])])
}

/// Splits a stream of whole messages.
pub(crate) fn split(mut stream: &[u8]) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    while stream.len() >= 2 {
        let length = usize::from(u16::from_be_bytes([stream[0], stream[1]])).min(stream.len());
        messages.push(stream[..length].to_vec());
        stream = &stream[length..];
    }
    messages
}

/// A GRE packet with payload.
pub(crate) fn gre(src: Ipv4Addr, dst: Ipv4Addr, call_id: u16, seq: u32, payload: &[u8]) -> Vec<u8> {
    let header = gre::Repr { call_id, seq: Some(seq), ack: None, payload_len: payload.len() as u16 };
    let ip = ipv4::Repr {
        src,
        dst,
        protocol: ipv4::PROTOCOL_GRE,
        tos: 0,
        ttl: 64,
        id: 9,
        dont_fragment: false,
        payload_len: header.buffer_len() + payload.len(),
    };
    let mut bytes = vec![0; ip.buffer_len() + header.buffer_len()];
    ip.emit(&mut bytes).unwrap();
    header.emit(&mut bytes[ipv4::HEADER_LEN..]).unwrap();
    bytes.extend_from_slice(payload);
    bytes
}

/// Source, destination, Call ID and payload of a GRE packet.
pub(crate) fn read_gre(packet: &[u8]) -> (Ipv4Addr, Ipv4Addr, u16, Vec<u8>) {
    let ip = ipv4::Packet::new_checked(packet).unwrap();
    assert!(ip.verify_checksum());
    let gre = gre::Packet::new_checked(ip.payload()).unwrap();
    (ip.src(), ip.dst(), gre.call_id(), gre.payload().to_vec())
}
