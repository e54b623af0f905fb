//! ICMP errors about what we carry: those from outside translated with the header they quote, or dropped; a server gets none.
//!
//! Of protocol-unreachable and fragmentation-needed about GRE, pptpd ends every call of the address on one (measured; its raw
//! sockets are connected to the peer's address, and any error they read is the end). Fragmentation-needed about TCP changes
//! the server's path MTU for the whole address.

use std::net::Ipv4Addr;

use super::Engine;
use crate::types::{Command, Now, Side, Verdict};
use crate::wire::{gre, icmp, ipv4, tcp};

/// What the quoted packet is, with the ids its sender gave it.
enum Quoted {
    Gre { id: u16 },
    Tcp { src_port: u16, dst_port: u16 },
}

/// Addresses, id or port the quoted packet has on the other side.
pub(crate) struct Translated {
    pub(crate) outer_src: Ipv4Addr,
    pub(crate) outer_dst: Ipv4Addr,
    pub(crate) src: Ipv4Addr,
    pub(crate) dst: Ipv4Addr,
    pub(crate) call_id: Option<u16>,
    pub(crate) ports: Option<(u16, u16)>,
}

impl Engine {
    /// An error of a client (or a router behind it) about a packet that came from the server. None of them travels on.
    pub(super) fn icmp_from_client(&mut self, packet: &[u8], now: Now) {
        let Some((quoted, ..)) = self.wanted(Side::Client, packet, now) else { return };
        match quoted {
            Quoted::Gre { .. } => self.counters.drop_icmp_too_big_gre += 1,
            Quoted::Tcp { .. } => self.counters.drop_icmp_too_big_tcp += 1,
        }
        self.note_dropped(
            Side::Client,
            packet,
            "ICMP fragmentation-needed of a client: it would harm all of its address",
            now,
        );
    }

    /// An error of the server or a router before it about a packet that left under an external address.
    pub(super) fn icmp_from_server(&mut self, packet: &mut [u8], now: Now) -> Verdict {
        let Some((quoted, src, dst)) = self.wanted(Side::Server, packet, now) else { return Verdict::Consumed };
        let outer_src = ipv4::Packet::new_unchecked(&*packet).src();
        let clients: Vec<(Ipv4Addr, Option<(u16, u16)>)> = match quoted {
            // Two calls of different clients may have the same PAC id: each hears it.
            Quoted::Gre { id } => {
                let calls = self.calls.with_pac(src, dst, id).filter_map(|call| self.calls.get(call));
                calls.map(|call| (call.client, None)).collect()
            }
            Quoted::Tcp { src_port, dst_port } => self
                .by_outer
                .get(&(src, src_port, dst, dst_port))
                .and_then(|&index| self.connections.get(index))
                .map(|connection| (connection.flow.client, Some((connection.flow.client_port, dst_port))))
                .into_iter()
                .collect(),
        };
        if clients.is_empty() {
            return self.icmp_unknown();
        }
        for (client, ports) in clients {
            let mut copy = packet.to_vec();
            rewrite(&mut copy, &Translated { outer_src, outer_dst: client, src: client, dst, call_id: None, ports });
            self.counters.icmp_to_client += 1;
            self.commands.push_back(Command::Send { to: Side::Client, packet: copy });
        }
        Verdict::Consumed
    }

    /// The quoted packet with its source and destination, when the error is one that may travel on.
    fn wanted(&mut self, from: Side, packet: &[u8], now: Now) -> Option<(Quoted, Ipv4Addr, Ipv4Addr)> {
        let ip = ipv4::Packet::new_unchecked(packet);
        let Ok(error) = icmp::Packet::new_checked(packet.get(ip.header_len()..ip.total_len()).unwrap_or_default())
        else {
            self.counters.drop_icmp_other += 1;
            return None;
        };
        let Ok(original) = error.original() else {
            self.counters.drop_icmp_other += 1;
            return None;
        };
        if original.protocol() == ipv4::PROTOCOL_GRE && error.is_protocol_unreachable() {
            self.counters.drop_icmp_protocol_unreachable += 1;
            self.note_dropped(from, packet, "ICMP protocol-unreachable about GRE: it would end every call", now);
            return None;
        }
        let passes = error.is_fragmentation_needed() || (from == Side::Server && error.kind() == icmp::TIME_EXCEEDED);
        if !passes || !error.verify_checksum() || original.fragment_offset() != 0 {
            self.counters.drop_icmp_other += 1;
            return None;
        }
        let payload = original.payload();
        let quoted = match original.protocol() {
            ipv4::PROTOCOL_GRE => gre::Packet::new_embedded(payload).ok().map(|gre| Quoted::Gre { id: gre.call_id() }),
            ipv4::PROTOCOL_TCP => {
                let tcp = tcp::Packet::new_unchecked(payload);
                Some(Quoted::Tcp { src_port: tcp.src_port(), dst_port: tcp.dst_port() })
            }
            _ => None,
        };
        if quoted.is_none() {
            self.counters.drop_icmp_unknown += 1;
        }
        Some((quoted?, original.src(), original.dst()))
    }

    fn icmp_unknown(&mut self) -> Verdict {
        self.counters.drop_icmp_unknown += 1;
        Verdict::Consumed
    }
}

/// Gives the error and the packet it quotes the addresses and ids of the other side, one hop less, right checksums.
pub(crate) fn rewrite(packet: &mut [u8], to: &Translated) {
    let mut ip = ipv4::Packet::new_unchecked(packet);
    ip.readdress(to.outer_src, to.outer_dst);
    let mut error = icmp::Packet::new_unchecked(ip.payload_mut());
    let quoted = error.original_mut();
    let mut original = ipv4::Packet::new_unchecked(&mut *quoted);
    original.rewrite_src(to.src);
    original.rewrite_dst(to.dst);
    let header_len = original.header_len();
    let payload = quoted.get_mut(header_len..).unwrap_or_default();
    if let Some(id) = to.call_id {
        gre::Packet::new_unchecked(&mut *payload).set_call_id(id);
    }
    if let Some((src_port, dst_port)) = to.ports {
        let mut segment = tcp::Packet::new_unchecked(payload);
        segment.set_src_port(src_port);
        segment.set_dst_port(dst_port);
    }
    error.fill_checksum();
}
