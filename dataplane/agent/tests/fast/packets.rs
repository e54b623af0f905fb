//! Packets, octet by octet.

use std::net::Ipv4Addr;

use callgate_pptp::CallPath;
use callgate_pptp::wire::{gre, ipv4};

/// One GRE packet of a call, to be changed.
#[derive(Debug, Clone)]
pub(crate) struct Gre {
    pub(crate) from: Ipv4Addr,
    pub(crate) to: Ipv4Addr,
    pub(crate) call_id: u16,
    pub(crate) ttl: u8,
    pub(crate) tos: u8,
    pub(crate) seq: Option<u32>,
    pub(crate) ack: Option<u32>,
    pub(crate) dont_fragment: bool,
    pub(crate) payload: Vec<u8>,
}

impl Gre {
    fn new(from: Ipv4Addr, to: Ipv4Addr, call_id: u16) -> Self {
        let payload = (0..37).collect();
        Self { from, to, call_id, ttl: 64, tos: 0xb9, seq: Some(7), ack: None, dont_fragment: true, payload }
    }

    /// As the client sends it.
    pub(crate) fn up(call: &CallPath) -> Self {
        Self::new(call.client, call.server, call.pac.client)
    }

    /// As the server sends it.
    pub(crate) fn down(call: &CallPath) -> Self {
        Self::new(call.server, call.external, call.pns.server)
    }

    /// As it is to come out on the other side.
    pub(crate) fn beyond(&self, call: &CallPath) -> Self {
        let (from, to, call_id) = if self.from == call.client {
            (call.external, call.server, call.pac.server)
        } else {
            (call.server, call.client, call.pns.client)
        };
        Self { from, to, call_id, ttl: self.ttl - 1, ..self.clone() }
    }

    pub(crate) fn seq(self, seq: u32) -> Self {
        Self { seq: Some(seq), ..self }
    }

    /// IPv4 length.
    pub(crate) fn length(self, length: usize) -> Self {
        let headers = 20 + self.repr().buffer_len();
        Self { payload: vec![0xa5; length - headers], ..self }
    }

    fn repr(&self) -> gre::Repr {
        gre::Repr { call_id: self.call_id, seq: self.seq, ack: self.ack, payload_len: self.payload.len() as u16 }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let header = self.repr();
        let ip = ipv4::Repr {
            src: self.from,
            dst: self.to,
            protocol: ipv4::PROTOCOL_GRE,
            tos: self.tos,
            ttl: self.ttl,
            id: 0x1234,
            dont_fragment: self.dont_fragment,
            payload_len: header.buffer_len() + self.payload.len(),
        };
        let mut bytes = vec![0; 20 + header.buffer_len()];
        ip.emit(&mut bytes).unwrap();
        header.emit(&mut bytes[20..]).unwrap();
        bytes.extend(&self.payload);
        bytes
    }
}

/// The packet with some octets changed and its checksum right again.
pub(crate) fn changed(mut bytes: Vec<u8>, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    change(&mut bytes);
    let header = usize::from(bytes[0] & 0xf) * 4;
    bytes[10..12].fill(0);
    let words = bytes[..header].chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum: u32 = words.sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    bytes[10..12].copy_from_slice(&sum.to_be_bytes());
    bytes
}
