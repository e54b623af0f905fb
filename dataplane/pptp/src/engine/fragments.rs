//! Fragments of GRE: only the first has the Call ID, so its way is remembered for the others.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::Engine;
use super::timers::Timer;
use crate::types::{Command, Now, Side, Verdict};
use crate::wire::{checksum, ipv4};

/// What the fragments of one packet have in common (RFC 791: addresses, protocol, identification).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FragmentKey {
    src: Ipv4Addr,
    dst: Ipv4Addr,
    id: u16,
}

impl FragmentKey {
    pub(crate) fn of(packet: &[u8]) -> Self {
        let ip = ipv4::Packet::new_unchecked(packet);
        Self { src: ip.src(), dst: ip.dst(), id: ip.id() }
    }
}

/// Where a packet goes, and under which addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) to: Side,
    pub(super) src: Ipv4Addr,
    pub(super) dst: Ipv4Addr,
}

impl Way {
    /// One hop less, and the addresses of the other side.
    pub(super) fn apply(&self, packet: &mut [u8]) {
        ipv4::Packet::new_unchecked(packet).readdress(self.src, self.dst);
    }
}

/// A way, and the identification the fragments have on it.
#[derive(Debug, Clone, Copy)]
struct Known {
    way: Way,
    id: u16,
    until: Now,
}

/// A fragment that came before its first one, from this side, and until when it waits.
type Early = (FragmentKey, Side, Now, Vec<u8>);

/// One source has this part of the room for them.
const SHARE: usize = 4;

/// Ways of packets under way in fragments, and fragments that came before their first one.
#[derive(Debug, Default)]
pub(super) struct Fragments {
    known: BTreeMap<FragmentKey, Known>,
    early: Vec<Early>,
    armed: Option<Now>,
    last_id: u16,
}

impl Fragments {
    /// The identification of a packet's fragments. Two clients may use the same one at the same time, and behind one
    /// address their fragments would be put together; so each packet to a server gets a new one. Never 0: the kernel would give each fragment another.
    pub(super) fn id_for(&mut self, to: Side, id: u16) -> u16 {
        if to == Side::Client && id != 0 {
            return id;
        }
        self.last_id = self.last_id.checked_add(1).unwrap_or(1);
        self.last_id
    }
}

impl Known {
    fn apply(&self, packet: &mut [u8]) {
        let mut ip = ipv4::Packet::new_unchecked(&mut *packet);
        let value = checksum::update_u16(ip.checksum(), ip.id(), self.id);
        ip.set_id(self.id);
        ip.set_checksum(value);
        self.way.apply(packet);
    }
}

impl Engine {
    /// Sends a first fragment on its way, and lets those that came before it follow.
    pub(super) fn first_fragment(&mut self, key: FragmentKey, way: Way, packet: &mut [u8], now: Now) -> Verdict {
        let until = now.after(self.limits.fragment_ms);
        if self.fragments.known.len() >= self.limits.fragment_entries as usize {
            let oldest = self.fragments.known.iter().min_by_key(|(_, known)| known.until).map(|(key, _)| *key);
            oldest.and_then(|oldest| self.fragments.known.remove(&oldest));
        }
        let id = self.fragments.id_for(way.to, key.id);
        let known = Known { way, id, until };
        self.fragments.known.insert(key, known);
        self.arm_fragments(until);
        known.apply(packet);
        // A fragment is the packet's only if it came from the same side: addresses alone can be forged.
        let from = super::connection::other(way.to);
        if self.fragments.early.iter().all(|(of, side, ..)| (*of, *side) != (key, from)) {
            return Verdict::Forward(way.to);
        }
        // The first one first: it is no use to a receiver to have to wait for it.
        self.commands.push_back(Command::Send { to: way.to, packet: packet.to_vec() });
        for early in std::mem::take(&mut self.fragments.early) {
            if (early.0, early.1) != (key, from) {
                self.fragments.early.push(early);
                continue;
            }
            let (.., mut packet) = early;
            self.counters.gre_fragments += 1;
            known.apply(&mut packet);
            self.commands.push_back(Command::Send { to: way.to, packet });
        }
        Verdict::Consumed
    }

    fn arm_fragments(&mut self, at: Now) {
        self.timers.no_later(&mut self.fragments.armed, at, Timer::Fragments);
    }

    pub(super) fn later_fragment(&mut self, from: Side, packet: &mut [u8], now: Now) -> Verdict {
        let key = FragmentKey::of(packet);
        if let Some(known) = self.fragments.known.get(&key)
            && known.way.to == super::connection::other(from)
        {
            self.counters.gre_fragments += 1;
            known.apply(packet);
            return Verdict::Forward(known.way.to);
        }
        let room = self.limits.fragment_held as usize;
        let (early, of_source) = (&self.fragments.early, |early: &&Early| early.0.src == key.src);
        let full = early.len() >= room || early.iter().filter(of_source).count() >= room.div_ceil(SHARE);
        if full || !self.calls.between(from, key.src, key.dst) {
            self.counters.drop_fragment_unknown += 1;
            return Verdict::Consumed;
        }
        let until = now.after(self.limits.early_gre_ms);
        self.arm_fragments(until);
        self.fragments.early.push((key, from, until, packet.to_vec()));
        Verdict::Consumed
    }

    /// Forgets what is over.
    pub(super) fn expire_fragments(&mut self, now: Now) {
        self.fragments.armed = None;
        self.fragments.known.retain(|_, known| known.until > now);
        let before = self.fragments.early.len();
        self.fragments.early.retain(|(_, _, until, _)| *until > now);
        self.counters.drop_fragment_unknown += (before - self.fragments.early.len()) as u64;
        let next = self.fragments.known.values().map(|known| known.until);
        if let Some(at) = next.chain(self.fragments.early.iter().map(|(_, _, until, _)| *until)).min() {
            self.arm_fragments(at);
        }
    }
}
