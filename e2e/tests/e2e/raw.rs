//! Packets by hand: built, sent from a node, put together again.

use std::net::{Ipv4Addr, SocketAddrV4};

use callgate_e2e::lab::node::Node;
use callgate_e2e::lab::packet::Packet;
use callgate_pptp::wire::ipv4;
use socket2::{Domain, Protocol, Socket, Type};

/// An IPv4 datagram without options.
pub(crate) fn datagram(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, body: &[u8]) -> Vec<u8> {
    let ip =
        ipv4::Repr { src, dst, protocol, tos: 0, ttl: 64, id: 4_242, dont_fragment: false, payload_len: body.len() };
    let mut bytes = vec![0; ip.buffer_len()];
    ip.emit(&mut bytes).unwrap();
    bytes.extend_from_slice(body);
    bytes
}

/// Sends it as it is from `node`, to the destination in its header.
pub(crate) fn send(node: &Node, packet: &[u8]) -> anyhow::Result<()> {
    let dst = ipv4::Packet::new_unchecked(packet).dst();
    node.within(|| -> anyhow::Result<()> {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(libc::IPPROTO_RAW)))?;
        socket.set_header_included_v4(true)?;
        socket.send_to(packet, &SocketAddrV4::new(dst, 0).into())?;
        Ok(())
    })?
}

/// Cuts a datagram into fragments of at most `room` octets of payload (a multiple of 8).
pub(crate) fn fragments(packet: &[u8], room: usize) -> Vec<Vec<u8>> {
    let parts: Vec<&[u8]> = packet[20..].chunks(room).collect();
    let one = |(number, part): (usize, &&[u8])| {
        let mut bytes = [&packet[..20], part].concat();
        let mut ip = ipv4::Packet::new_unchecked(&mut bytes[..]);
        ip.set_total_len((20 + part.len()) as u16);
        ip.set_fragment(false, number + 1 < parts.len(), number * room);
        ip.fill_checksum();
        bytes
    };
    parts.iter().enumerate().map(one).collect()
}

/// Payload of the first fragmented datagram from `src`, once all of it was seen.
pub(crate) fn reassembled(packets: &[Packet], src: Ipv4Addr, protocol: u8) -> Option<Vec<u8>> {
    let mut parts: Vec<(usize, bool, Vec<u8>)> = packets
        .iter()
        .map(|packet| ipv4::Packet::new_unchecked(&packet.bytes[..]))
        .filter(|ip| ip.src() == src && ip.protocol() == protocol && ip.is_fragment())
        .map(|ip| (ip.fragment_offset(), ip.more_fragments(), ip.payload().to_vec()))
        .collect();
    parts.sort();
    let mut whole = Vec::new();
    for (offset, more, part) in parts {
        if offset != whole.len() {
            return None;
        }
        whole.extend(part);
        if !more {
            return Some(whole);
        }
    }
    None
}
