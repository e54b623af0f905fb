//! ICMP errors about GRE of the shared mode's calls: fragmentation-needed is translated with the header it quotes, all
//! else is dropped. Errors about the control connections are the kernel's: its sockets hold them.

use std::net::Ipv4Addr;

use super::Shared;
use super::calls::Call;
use super::types::Command;
use crate::engine::icmp::{Translated, fragmentation_needed, rewrite};
use crate::types::{Side, Verdict};
use crate::wire::{gre, icmp, ipv4};

impl Shared {
    pub(super) fn icmp(&mut self, from: Side, packet: &mut [u8]) -> Option<Verdict> {
        let ip = ipv4::Packet::new_unchecked(&*packet);
        let (sender, error) = (ip.src(), icmp::Packet::new_checked(ip.payload()).ok()?);
        let original = error.original().ok()?;
        if original.protocol() != ipv4::PROTOCOL_GRE || original.fragment_offset() != 0 {
            return None;
        }
        let id = gre::Packet::new_embedded(original.payload()).ok()?.call_id();
        let (src, dst) = (original.src(), original.dst());
        let passes = error.verify_checksum()
            && (error.is_fragmentation_needed() || (from == Side::Server && error.kind() == icmp::TIME_EXCEEDED));
        let ways: Vec<Translated> = match from {
            // About a packet of the server; only its receiver can say that it did not fit.
            Side::Client => {
                let call = self.calls.with_client_pns(dst, src, id).find_map(|index| self.calls.get(index))?;
                (sender == dst).then(|| towards_server(call, src)).into_iter().collect()
            }
            // About a packet of a client: of each whose call has that id at the server.
            Side::Server => {
                let calls = self.calls.with_server_pac(src, dst, id).filter_map(|index| self.calls.get(index));
                let ways: Vec<Translated> = calls.filter_map(|call| towards_client(call, sender, dst)).collect();
                if ways.is_empty() {
                    return None;
                }
                ways
            }
        };
        if !passes || ways.is_empty() {
            self.counters.drop_icmp += 1;
            return Some(Verdict::Consumed);
        }
        let to = match from {
            Side::Client => Side::Server,
            Side::Server => Side::Client,
        };
        for way in ways {
            let mut copy = packet.to_vec();
            rewrite(&mut copy, &way);
            self.counters.icmp_passed += 1;
            self.commands.push_back(Command::Send { to, packet: copy });
        }
        Some(Verdict::Consumed)
    }

    /// The shell could not send `packet` (as rewritten) to `to` because it exceeds `mtu`, and it may not be cut: its sender
    /// is told. False when it is of no call of ours, or may be cut: the in-path engine's `too_big` does both.
    pub fn too_big(&mut self, packet: &[u8], to: Side, mtu: u16) -> bool {
        let Ok(ip) = ipv4::Packet::new_checked(packet) else { return false };
        let Ok(header) = gre::Packet::new_embedded(ip.payload()) else { return false };
        if !ip.dont_fragment() {
            return false;
        }
        let (src, dst, id) = (ip.src(), ip.dst(), header.call_id());
        let (back, ways): (Side, Vec<Translated>) = match to {
            Side::Server => {
                let calls = self.calls.with_server_pac(src, dst, id).filter_map(|index| self.calls.get(index));
                (Side::Client, calls.filter_map(|call| towards_client(call, src, dst)).collect())
            }
            Side::Client => {
                let calls = self.calls.with_client_pns(dst, src, id).filter_map(|index| self.calls.get(index));
                (Side::Server, calls.map(|call| towards_server(call, src)).collect())
            }
        };
        for way in &ways {
            let Some(bytes) = fragmentation_needed(packet, mtu, way) else { continue };
            self.counters.icmp_made += 1;
            self.commands.push_back(Command::Send { to: back, packet: bytes });
        }
        !ways.is_empty()
    }
}

/// An error about GRE from `server` to a client, as that server knows the call.
fn towards_server(call: &Call, server: Ipv4Addr) -> Translated {
    Translated {
        outer_src: call.external,
        outer_dst: server,
        src: server,
        dst: call.external,
        call_id: call.server_pns,
        ports: None,
    }
}

/// An error about GRE to `server`, as its client knows the call.
fn towards_client(call: &Call, outer_src: Ipv4Addr, server: Ipv4Addr) -> Option<Translated> {
    let (_, client) = call.client?;
    Some(Translated { outer_src, outer_dst: client, src: client, dst: server, call_id: call.client_pac, ports: None })
}
