//! What a captured packet says. A parser of the lab's own, so that the code under test does not judge itself.

use std::net::Ipv4Addr;
use std::time::Duration;

/// One IPv4 packet as it was seen on an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// When, since the capture started.
    pub at: Duration,
    /// Source address.
    pub source: Ipv4Addr,
    /// Destination address.
    pub destination: Ipv4Addr,
    /// Time to live.
    pub ttl: u8,
    /// What it carries.
    pub body: Body,
    /// The whole packet from the IPv4 header on.
    pub bytes: Vec<u8>,
}

/// What a packet carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// A TCP segment.
    Tcp(Segment),
    /// Enhanced GRE (RFC 2637 section 4.1), version 1, protocol 0x880b.
    Gre(Gre),
    /// An ICMP message; `inner` is the packet that an error is about.
    Icmp {
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
        /// Bytes 4 to 7: of a fragmentation-needed the MTU is in the last two.
        rest: [u8; 4],
        /// The packet inside.
        inner: Option<Box<Packet>>,
    },
    /// A fragment that is not the first.
    Fragment {
        /// IP protocol.
        protocol: u8,
        /// Identification.
        id: u16,
        /// Offset, bytes.
        offset: u16,
    },
    /// Anything else: IP protocol and payload.
    Other(u8),
}

/// A TCP segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// Sequence number of the first byte (of the SYN, if it is one).
    pub sequence: u32,
    /// FIN 1, SYN 2, RST 4, PSH 8, ACK 16.
    pub flags: u8,
    /// Payload.
    pub payload: Vec<u8>,
}

/// Flags of a TCP segment.
pub mod flags {
    /// No more data.
    pub const FIN: u8 = 1;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 2;
    /// Reset.
    pub const RST: u8 = 4;
}

/// An enhanced GRE header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gre {
    /// Call ID of the receiver.
    pub call_id: u16,
    /// Sequence number, if it carries data.
    pub sequence: Option<u32>,
    /// Acknowledgement number, if it carries one.
    pub acknowledgement: Option<u32>,
    /// Payload length as the header says it.
    pub length: u16,
    /// More fragments follow.
    pub more_fragments: bool,
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from(be16(bytes, at)?) << 16 | u32::from(be16(bytes, at + 2)?))
}

fn address(bytes: &[u8], at: usize) -> Option<Ipv4Addr> {
    be32(bytes, at).map(Ipv4Addr::from_bits)
}

impl Packet {
    /// Reads an IPv4 packet; `None` if it is none.
    pub fn parse(at: Duration, bytes: &[u8]) -> Option<Self> {
        Self::read(at, bytes, true)
    }

    /// `outer`: of the packet inside an ICMP error only the beginning is there.
    fn read(at: Duration, bytes: &[u8], outer: bool) -> Option<Self> {
        let first = *bytes.first()?;
        let header = usize::from(first & 15) * 4;
        if first >> 4 != 4 || header < 20 {
            return None;
        }
        // Super-packets of more than 64 kB have length 0; Ethernet padding has to go.
        let length = match usize::from(be16(bytes, 2)?) {
            0 => bytes.len(),
            length => length.min(bytes.len()),
        };
        let bytes = &bytes[..length];
        let fragment = be16(bytes, 6)?;
        let protocol = *bytes.get(9)?;
        let payload = bytes.get(header..)?;
        let body = if fragment & 0x1fff != 0 {
            Body::Fragment { protocol, id: be16(bytes, 4)?, offset: (fragment & 0x1fff) * 8 }
        } else {
            match protocol {
                6 if outer => Segment::parse(payload).map(Body::Tcp),
                47 => Gre::parse(payload, fragment & 0x2000 != 0).map(Body::Gre),
                1 if outer => icmp(at, payload),
                _ => None,
            }
            .unwrap_or(Body::Other(protocol))
        };
        Some(Self {
            at,
            source: address(bytes, 12)?,
            destination: address(bytes, 16)?,
            ttl: *bytes.get(8)?,
            body,
            bytes: bytes.to_vec(),
        })
    }

    /// The GRE header, if it is one of PPTP.
    pub fn gre(&self) -> Option<Gre> {
        match &self.body {
            Body::Gre(gre) => Some(*gre),
            Body::Tcp(_) | Body::Icmp { .. } | Body::Fragment { .. } | Body::Other(_) => None,
        }
    }

    /// The TCP segment, if it is one.
    pub fn tcp(&self) -> Option<&Segment> {
        match &self.body {
            Body::Tcp(segment) => Some(segment),
            Body::Gre(_) | Body::Icmp { .. } | Body::Fragment { .. } | Body::Other(_) => None,
        }
    }

    /// Whether it is an ICMP destination-unreachable of code 2 (RFC 792): one about GRE ends calls.
    pub fn is_protocol_unreachable(&self) -> bool {
        matches!(self.body, Body::Icmp { kind: 3, code: 2, .. })
    }
}

fn icmp(at: Duration, bytes: &[u8]) -> Option<Body> {
    let (kind, code) = (*bytes.first()?, *bytes.get(1)?);
    let rest = bytes.get(4..8)?.try_into().ok()?;
    let inner = if matches!(kind, 3 | 4 | 5 | 11 | 12) { Packet::read(at, bytes.get(8..)?, false) } else { None };
    Some(Body::Icmp { kind, code, rest, inner: inner.map(Box::new) })
}

impl Segment {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let header = usize::from(*bytes.get(12)? >> 4) * 4;
        Some(Self {
            source_port: be16(bytes, 0)?,
            destination_port: be16(bytes, 2)?,
            sequence: be32(bytes, 4)?,
            flags: *bytes.get(13)?,
            payload: bytes.get(header..)?.to_vec(),
        })
    }
}

impl Gre {
    fn parse(bytes: &[u8], more_fragments: bool) -> Option<Self> {
        let word = be16(bytes, 0)?;
        // Version 1, key present, protocol PPP.
        if word & 0x2007 != 0x2001 || be16(bytes, 2)? != 0x880b {
            return None;
        }
        let (has_sequence, has_ack) = (word & 0x1000 != 0, word & 0x0080 != 0);
        let sequence = if has_sequence { be32(bytes, 8) } else { None };
        let acknowledgement = if has_ack { be32(bytes, if has_sequence { 12 } else { 8 }) } else { None };
        Some(Self { call_id: be16(bytes, 6)?, sequence, acknowledgement, length: be16(bytes, 4)?, more_fragments })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ipv4(protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x45, 0, 0, 20 + payload.len() as u8, 0x12, 0x34];
        bytes.extend(fragment.to_be_bytes());
        bytes.extend([64, protocol, 0, 0, 10, 0, 0, 1, 203, 0, 113, 11]);
        bytes.extend(payload);
        bytes
    }

    fn body(bytes: &[u8]) -> Option<Body> {
        Packet::parse(Duration::ZERO, bytes).map(|packet| packet.body)
    }

    #[test]
    fn gre_with_data_and_acknowledgement_is_read() {
        let header = [0x30, 0x81, 0x88, 0x0b, 0, 2, 0x12, 0x34, 0, 0, 0, 7, 0, 0, 0, 9, 0xff, 3];
        let gre =
            Gre { call_id: 0x1234, sequence: Some(7), acknowledgement: Some(9), length: 2, more_fragments: false };
        assert_eq!(body(&ipv4(47, 0, &header)), Some(Body::Gre(gre)));
    }

    #[test]
    fn an_acknowledgement_alone_stands_where_the_sequence_would_be() {
        let header = [0x20, 0x81, 0x88, 0x0b, 0, 0, 0, 0, 0, 0, 0, 9];
        let gre = Gre { call_id: 0, sequence: None, acknowledgement: Some(9), length: 0, more_fragments: false };
        assert_eq!(body(&ipv4(47, 0, &header)), Some(Body::Gre(gre)));
    }

    #[test]
    fn an_icmp_error_shows_the_packet_inside() {
        let inner = ipv4(47, 0, &[0x30, 0x01, 0x88, 0x0b, 0, 9, 0, 5]);
        let mut message = vec![3, 4, 0, 0, 0, 0, 0x05, 0x14];
        message.extend(&inner);
        let Some(Body::Icmp { kind: 3, code: 4, rest: [0, 0, 0x05, 0x14], inner: Some(inside) }) =
            body(&ipv4(1, 0, &message))
        else {
            panic!("not read as fragmentation-needed");
        };
        assert_eq!((inside.source, inside.gre().map(|gre| gre.call_id)), (Ipv4Addr::new(10, 0, 0, 1), Some(5)));
    }

    #[test]
    fn later_fragments_and_short_packets_are_told_apart() {
        assert_eq!(body(&ipv4(47, 185, &[1, 2])), Some(Body::Fragment { protocol: 47, id: 0x1234, offset: 1480 }));
        assert_eq!(body(&ipv4(6, 0, &[1, 2])), Some(Body::Other(6)));
        assert_eq!(body(&[0x45, 0]), None);
        assert_eq!(body(&[0x60; 40]), None);
    }
}
