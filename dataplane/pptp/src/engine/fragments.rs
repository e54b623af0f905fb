//! Fragments of GRE: only the first has the Call ID, so its way is remembered for the others.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::Engine;
use super::timers::Timer;
use crate::types::{Command, Now, Side, Verdict};
use crate::wire::ipv4;

/// What the fragments of one packet have in common (RFC 791: addresses, protocol, identification).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FragmentKey {
    src: Ipv4Addr,
    dst: Ipv4Addr,
    id: u16,
}

impl FragmentKey {
    pub(super) fn of(packet: &[u8]) -> Self {
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
        let mut ip = ipv4::Packet::new_unchecked(packet);
        ip.decrement_ttl();
        ip.rewrite_src(self.src);
        ip.rewrite_dst(self.dst);
    }
}

/// Ways of packets under way in fragments, and fragments that came before their first one.
#[derive(Debug, Default)]
pub(super) struct Fragments {
    ways: BTreeMap<FragmentKey, (Way, Now)>,
    early: Vec<(FragmentKey, Side, Now, Vec<u8>)>,
}

impl Engine {
    pub(super) fn first_fragment(&mut self, key: FragmentKey, way: Way, now: Now) {
        let until = now.after(self.limits.fragment_ms);
        if self.fragments.ways.len() >= self.limits.fragment_entries as usize {
            let oldest = self.fragments.ways.iter().min_by_key(|(_, (_, until))| *until).map(|(key, _)| *key);
            oldest.and_then(|oldest| self.fragments.ways.remove(&oldest));
        }
        self.fragments.ways.insert(key, (way, until));
        self.timers.set(until, Timer::Fragments);
        let (ready, waiting) = std::mem::take(&mut self.fragments.early).into_iter().partition(|(of, ..)| *of == key);
        self.fragments.early = waiting;
        let ready: Vec<(FragmentKey, Side, Now, Vec<u8>)> = ready;
        for (_, _, _, mut packet) in ready {
            self.counters.gre_fragments += 1;
            way.apply(&mut packet);
            self.commands.push_back(Command::Send { to: way.to, packet });
        }
    }

    pub(super) fn later_fragment(&mut self, from: Side, packet: &mut [u8], now: Now) -> Verdict {
        let key = FragmentKey::of(packet);
        if let Some(&(way, _)) = self.fragments.ways.get(&key)
            && way.to == super::connection::other(from)
        {
            self.counters.gre_fragments += 1;
            way.apply(packet);
            return Verdict::Forward(way.to);
        }
        if self.fragments.early.len() >= self.limits.fragment_held as usize {
            self.counters.drop_fragment_unknown += 1;
            return Verdict::Consumed;
        }
        let until = now.after(self.limits.early_gre_ms);
        self.timers.set(until, Timer::Fragments);
        self.fragments.early.push((key, from, until, packet.to_vec()));
        Verdict::Consumed
    }

    /// Forgets what is over.
    pub(super) fn expire_fragments(&mut self, now: Now) {
        self.fragments.ways.retain(|_, (_, until)| *until > now);
        let before = self.fragments.early.len();
        self.fragments.early.retain(|(_, _, until, _)| *until > now);
        self.counters.drop_fragment_unknown += (before - self.fragments.early.len()) as u64;
    }
}
