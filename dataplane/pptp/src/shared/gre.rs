//! GRE of the shared mode's calls: addresses and Call ID rewritten in place, both ways; one look-up a packet.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::Shared;
use super::calls::Stage;
use super::time::Owner;
use super::types::Command;
use crate::engine::fragments::FragmentKey;
use crate::types::{Now, Side, Verdict};
use crate::wire::{checksum, gre, ipv4};

/// Where the fragments of one packet go, and as what.
#[derive(Debug, Clone, Copy)]
struct Way {
    to: Side,
    src: Ipv4Addr,
    dst: Ipv4Addr,
    id: u16,
    until: Now,
}

/// Ways of packets under way in fragments.
#[derive(Debug, Default)]
pub(super) struct Fragments {
    known: BTreeMap<FragmentKey, Way>,
    last_id: u16,
}

impl Shared {
    /// An IPv4 packet from the clients' side: GRE of a call of ours, or an ICMP error about one. `None`: not ours, the
    /// in-path engine's.
    pub fn from_client(&mut self, packet: &mut [u8], now: Now) -> Option<Verdict> {
        self.packet(Side::Client, packet, now)
    }

    /// An IPv4 packet from outside, addressed to an external address; as `from_client`.
    pub fn from_server(&mut self, packet: &mut [u8], now: Now) -> Option<Verdict> {
        self.packet(Side::Server, packet, now)
    }

    fn packet(&mut self, from: Side, packet: &mut [u8], now: Now) -> Option<Verdict> {
        let ip = ipv4::Packet::new_checked(&*packet).ok()?;
        // The in-path engine drops and counts both. What comes from outside no kernel has looked at before, and it leaves with a
        // right checksum, whatever was damaged.
        if ip.ttl() <= 1 || (from == Side::Server && !ip.verify_checksum()) {
            return None;
        }
        match ip.protocol() {
            ipv4::PROTOCOL_GRE if ip.fragment_offset() > 0 => self.later_fragment(from, packet, now),
            ipv4::PROTOCOL_GRE => self.gre(from, packet, now),
            ipv4::PROTOCOL_ICMP if !ip.is_fragment() => self.icmp(from, packet),
            _ => None,
        }
    }

    fn gre(&mut self, from: Side, packet: &mut [u8], now: Now) -> Option<Verdict> {
        let mut ip = ipv4::Packet::new_unchecked(&mut *packet);
        let (src, dst, length, first) = (ip.src(), ip.dst(), ip.total_len(), ip.more_fragments());
        let payload = ip.payload_mut();
        let parsed = if first { gre::Packet::new_embedded(&*payload) } else { gre::Packet::new_checked(&*payload) };
        let header = parsed.ok()?;
        let (id, sequence) = (header.call_id(), header.seq());
        let index = match from {
            Side::Client => self.calls.up(src, dst, id),
            Side::Server => self.calls.down(dst, src, id),
        }?;
        let call = self.calls.get_mut(index)?;
        let ids = (call.client, call.client_pns, call.server_pac);
        let (Stage::Up, (Some((_, client)), Some(pns), Some(pac))) = (call.stage, ids) else {
            return Some(self.hold(from, index, packet, now));
        };
        let way = match from {
            Side::Client => {
                call.up.count(length, sequence, now);
                self.counters.gre_up_packets += 1;
                self.counters.gre_up_bytes += length as u64;
                gre::Packet::new_unchecked(payload).set_call_id(pac);
                (Side::Server, call.external, dst)
            }
            Side::Server => {
                call.down.count(length, sequence, now);
                self.counters.gre_down_packets += 1;
                self.counters.gre_down_bytes += length as u64;
                gre::Packet::new_unchecked(payload).set_call_id(pns);
                (Side::Client, src, client)
            }
        };
        if first {
            self.first_fragment(way, packet, now);
        } else {
            ip.readdress(way.1, way.2);
        }
        Some(Verdict::Forward(way.0))
    }

    /// The server may speak before its reply has reached the client; the client cannot, it does not know the id yet.
    fn hold(&mut self, from: Side, index: u32, packet: &[u8], now: Now) -> Verdict {
        let room = self.calls.held() < self.limits.early_gre_total as usize;
        let most = self.limits.early_gre_packets as usize;
        match self.calls.get(index) {
            Some(call) if room && from == Side::Server && call.client.is_some() && call.held() < most => {
                if call.held() == 0 {
                    self.timers.set(now.after(self.limits.early_gre_ms), Owner::Held(index, call.serial));
                }
                self.calls.hold(index, now, packet.to_vec());
                self.counters.gre_held += 1;
            }
            Some(_) | None => self.counters.drop_gre_not_up += 1,
        }
        Verdict::Consumed
    }

    /// What the server has said too early follows its reply.
    pub(super) fn release_held(&mut self, index: u32, now: Now) {
        for (at, mut packet) in self.calls.take_held(index) {
            if now.since(at) > self.limits.early_gre_ms {
                self.counters.drop_gre_not_up += 1;
                continue;
            }
            self.counters.gre_released += 1;
            if let Some(Verdict::Forward(to)) = self.gre(Side::Server, &mut packet, now) {
                self.commands.push_back(Command::Send { to, packet });
            }
        }
    }

    /// What is held for longer than it may is dropped.
    pub(super) fn held_due(&mut self, index: u32, serial: u64, now: Now) {
        if self.calls.get(index).is_none_or(|call| call.serial != serial) {
            return;
        }
        let limit = self.limits.early_gre_ms;
        let (dropped, oldest) = self.calls.drop_held(index, Now(now.0.saturating_sub(limit)));
        self.counters.drop_gre_not_up += dropped as u64;
        if let Some(oldest) = oldest {
            self.timers.set(oldest.after(limit), Owner::Held(index, serial));
        }
    }

    fn first_fragment(&mut self, (to, src, dst): (Side, Ipv4Addr, Ipv4Addr), packet: &mut [u8], now: Now) {
        let key = FragmentKey::of(packet);
        let id = ipv4::Packet::new_unchecked(&*packet).id();
        // Two clients may use the same identification, and behind one address their fragments would be put together.
        let id = if to == Side::Client && id != 0 { id } else { self.next_fragment_id() };
        let fragments = &mut self.fragments.known;
        if fragments.len() >= self.config.fragment_entries as usize {
            fragments.retain(|_, way| way.until > now);
            let oldest = fragments.iter().min_by_key(|(_, way)| way.until).map(|(key, _)| *key);
            if let Some(oldest) = oldest.filter(|_| fragments.len() >= self.config.fragment_entries as usize) {
                fragments.remove(&oldest);
            }
        }
        let way = Way { to, src, dst, id, until: now.after(self.limits.fragment_ms) };
        fragments.insert(key, way);
        way.apply(packet);
    }

    fn later_fragment(&mut self, from: Side, packet: &mut [u8], now: Now) -> Option<Verdict> {
        let known = self.fragments.known.get(&FragmentKey::of(packet));
        let way = *known.filter(|way| way.until > now && way.to != from)?;
        self.counters.gre_fragments += 1;
        way.apply(packet);
        Some(Verdict::Forward(way.to))
    }

    fn next_fragment_id(&mut self) -> u16 {
        if self.fragments.last_id == 0 {
            // Not where the in-path engine begins.
            self.fragments.last_id = self.random.next_u16() | 0x8000;
        }
        self.fragments.last_id = self.fragments.last_id.checked_add(1).unwrap_or(0x8000);
        self.fragments.last_id
    }
}

impl Fragments {
    /// Knows no way, but what was given out last.
    pub(super) fn after(last_id: u16) -> Self {
        Self { known: BTreeMap::new(), last_id }
    }

    /// The identification given to a fragmented packet last; 0 for none.
    pub(super) fn last_id(&self) -> u16 {
        self.last_id
    }
}

impl Way {
    fn apply(&self, packet: &mut [u8]) {
        let mut ip = ipv4::Packet::new_unchecked(packet);
        let value = checksum::update_u16(ip.checksum(), ip.id(), self.id);
        ip.set_id(self.id);
        ip.set_checksum(value);
        ip.readdress(self.src, self.dst);
    }
}
