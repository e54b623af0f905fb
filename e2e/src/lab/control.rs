//! Calls as a capture shows them: control connections put together from their segments, read message by message; and messages to send.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;

use callgate_pptp::wire::control::COOKIE;

use super::packet::{Packet, flags};

/// One call that was asked for and granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SeenCall {
    /// Where the control connection comes from on this side of the gateway.
    pub client: SocketAddrV4,
    /// Where it goes to.
    pub server: SocketAddrV4,
    /// The PNS's Call ID on this side.
    pub pns: u16,
    /// The PAC's Call ID on this side.
    pub pac: u16,
}

/// One control message: its type and all its bytes.
pub type Message = (u16, Vec<u8>);

/// One direction of a connection: source, destination.
type Way = (SocketAddrV4, SocketAddrV4);

/// All control messages of all connections to `port`, in stream order, by direction.
pub fn messages(packets: &[Packet], port: u16) -> BTreeMap<Way, Vec<Message>> {
    let mut streams: BTreeMap<Way, (u32, BTreeMap<u32, Vec<u8>>)> = BTreeMap::new();
    for packet in packets {
        let Some(segment) = packet.tcp().filter(|tcp| tcp.source_port == port || tcp.destination_port == port) else {
            continue;
        };
        let way = (
            SocketAddrV4::new(packet.source, segment.source_port),
            SocketAddrV4::new(packet.destination, segment.destination_port),
        );
        if segment.flags & flags::SYN != 0 {
            // A new connection on old ports starts a new stream.
            let start = segment.sequence.wrapping_add(1);
            let stream = streams.entry(way).or_insert_with(|| (start, BTreeMap::new()));
            if stream.0 != start {
                *stream = (start, BTreeMap::new());
            }
        } else if !segment.payload.is_empty()
            && let Some((start, parts)) = streams.get_mut(&way)
        {
            let part = parts.entry(segment.sequence.wrapping_sub(*start)).or_default();
            if part.len() < segment.payload.len() {
                part.clone_from(&segment.payload);
            }
        }
    }
    streams.into_iter().map(|(way, (_, parts))| (way, split(&join(parts)))).collect()
}

/// The stream's bytes up to the first gap.
fn join(parts: BTreeMap<u32, Vec<u8>>) -> Vec<u8> {
    let mut stream: Vec<u8> = Vec::new();
    for (at, bytes) in parts {
        let Some(known) = stream.len().checked_sub(at as usize) else { break };
        stream.extend(bytes.iter().skip(known));
    }
    stream
}

fn split(mut stream: &[u8]) -> Vec<Message> {
    let mut messages = Vec::new();
    while let Some(head) = stream.first_chunk::<10>() {
        let length = usize::from(u16::from_be_bytes([head[0], head[1]]));
        let Some(message) = stream.get(..length).filter(|_| length >= head.len()) else { break };
        messages.push((u16::from_be_bytes([head[8], head[9]]), message.to_vec()));
        stream = &stream[length..];
    }
    messages
}

/// The calls that Outgoing-Call-Replies with result 1 grant (RFC 2637 section 2.8), sorted.
pub fn calls(packets: &[Packet], port: u16) -> Vec<SeenCall> {
    let mut calls = Vec::new();
    for ((source, destination), messages) in messages(packets, port) {
        for (kind, message) in messages {
            let id = |at: usize| u16::from_be_bytes([message[at], message[at + 1]]);
            if kind == 8 && message.len() == 32 && message[16] == 1 {
                calls.push(SeenCall { client: destination, server: source, pns: id(14), pac: id(12) });
            }
        }
    }
    calls.sort();
    calls
}

/// A control message to send: `length` octets, the header first, then `parts` at their offsets, zeros elsewhere.
pub fn message(kind: u8, length: u16, parts: &[(usize, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0; usize::from(length)];
    bytes[..2].copy_from_slice(&length.to_be_bytes());
    bytes[3] = 1;
    bytes[4..8].copy_from_slice(&COOKIE.to_be_bytes());
    bytes[9] = kind;
    for (at, part) in parts {
        bytes[*at..at + part.len()].copy_from_slice(part);
    }
    bytes
}

/// Start-Control-Connection-Request.
pub fn start_request() -> Vec<u8> {
    message(1, 156, &[(12, &[1, 0])])
}

/// Start-Control-Connection-Reply: the connection is open.
pub fn start_reply() -> Vec<u8> {
    message(2, 156, &[(12, &[1, 0, 1])])
}

/// Outgoing-Call-Request with this Call ID of the PNS.
pub fn call_request(pns: u16) -> Vec<u8> {
    message(7, 168, &[(12, &pns.to_be_bytes())])
}

/// Outgoing-Call-Reply with the Call IDs of PAC and PNS: the call is up.
pub fn call_reply(pac: u16, pns: u16) -> Vec<u8> {
    message(8, 32, &[(12, &pac.to_be_bytes()), (14, &pns.to_be_bytes()), (16, &[1])])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::packet::{Body, Segment};
    use std::net::Ipv4Addr;
    use std::time::Duration;

    const CLIENT: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 4000);
    const SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 11), 1723);

    fn segment(sequence: u32, flags: u8, payload: &[u8]) -> Packet {
        let body = Body::Tcp(Segment {
            source_port: SERVER.port(),
            destination_port: CLIENT.port(),
            sequence,
            flags,
            payload: payload.to_vec(),
        });
        Packet { at: Duration::ZERO, source: *SERVER.ip(), destination: *CLIENT.ip(), ttl: 64, body, bytes: vec![] }
    }

    fn reply(pac: u16, pns: u16, result: u8) -> Vec<u8> {
        let mut message = vec![0, 32, 0, 1, 0x1a, 0x2b, 0x3c, 0x4d, 0, 8, 0, 0];
        message.extend(pac.to_be_bytes());
        message.extend(pns.to_be_bytes());
        message.push(result);
        message.resize(32, 0);
        message
    }

    #[test]
    fn a_granted_call_is_found_however_the_stream_is_cut() {
        let stream = [reply(9, 9, 2), reply(128, 7, 1)].concat();
        for cut in 1..stream.len() {
            let first = segment(101, 16, &stream[..cut]);
            let second = segment(101 + cut as u32, 16, &stream[cut..]);
            let packets = [segment(100, 18, &[]), second.clone(), first.clone(), first, second];
            let call = SeenCall { client: CLIENT, server: SERVER, pns: 7, pac: 128 };
            assert_eq!(calls(&packets, 1723), vec![call], "cut at {cut}");
        }
    }

    #[test]
    fn nothing_is_read_behind_a_gap() {
        let packets = [segment(100, 18, &[]), segment(102, 16, &reply(1, 2, 1))];
        assert_eq!(calls(&packets, 1723), vec![]);
    }
}
