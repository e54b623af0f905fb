//! ICMP errors about GRE of the shared mode's calls: those from outside that say what fits, or that a packet ran out of time,
//! are translated with the header they quote; all else is dropped. A server gets none: pptpd would end every call of the
//! address. Errors about the control connections are the kernel's: its sockets hold them.

use std::net::Ipv4Addr;

use super::Shared;
use super::calls::Call;
use super::types::Command;
use crate::engine::icmp::{Translated, rewrite};
use crate::types::{Side, Verdict};
use crate::wire::{gre, icmp, ipv4};

impl Shared {
    pub(super) fn icmp(&mut self, from: Side, packet: &[u8]) -> Option<Verdict> {
        let ip = ipv4::Packet::new_unchecked(packet);
        let (sender, error) = (ip.src(), icmp::Packet::new_checked(ip.payload()).ok()?);
        let original = error.original().ok()?;
        if original.protocol() != ipv4::PROTOCOL_GRE || original.fragment_offset() != 0 {
            return None;
        }
        let id = gre::Packet::new_embedded(original.payload()).ok()?.call_id();
        let (src, dst) = (original.src(), original.dst());
        let passes =
            error.verify_checksum() && (error.is_fragmentation_needed() || error.kind() == icmp::TIME_EXCEEDED);
        let ways: Vec<Translated> = match from {
            // About a packet of the server, which must not hear of it.
            Side::Client => {
                self.calls.with_client_pns(dst, src, id).next()?;
                Vec::new()
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
        for way in ways {
            let mut copy = packet.to_vec();
            rewrite(&mut copy, &way);
            self.counters.icmp_passed += 1;
            self.commands.push_back(Command::Send { to: Side::Client, packet: copy });
        }
        Some(Verdict::Consumed)
    }
}

/// An error about GRE to `server`, as its client knows the call.
fn towards_client(call: &Call, outer_src: Ipv4Addr, server: Ipv4Addr) -> Option<Translated> {
    let (_, client) = call.client?;
    Some(Translated { outer_src, outer_dst: client, src: client, dst: server, call_id: call.client_pac, ports: None })
}
