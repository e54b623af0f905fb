//! What the agent and the program of dataplane/bpf both know, octet by octet: slots of the map, reasons counted.

use std::mem::{offset_of, size_of};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use callgate_pptp::Traffic;

/// Goes up with every change of this file's types: maps of another layout are left behind, and filled anew.
pub const LAYOUT: u32 = 2;

/// Slots of a bucket.
pub(super) const SLOTS: usize = 8;

/// The program's unit of time: 2^20 ns, about a millisecond. Its counter begins anew after 52 days.
const UNIT: u32 = 20;

/// A packet of one direction of a call as it comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    source: Ipv4Addr,
    destination: Ipv4Addr,
    call_id: u16,
}

/// Which of a packet's addresses is replaced; the other one stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replaced {
    /// The source: client to server.
    Source(Ipv4Addr),
    /// The destination: server to client.
    Destination(Ipv4Addr),
}

/// What becomes of it: written by the agent, read by the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Number of the link it comes in by; by others it is left to the ALG.
    pub from_link: u32,
    /// Number of the link it goes out by.
    pub to_link: u32,
    /// Its address on the other side.
    pub address: Replaced,
    /// Its Call ID on the other side.
    pub call_id: u16,
    /// Whose MAC address it goes to.
    pub next_hop: Ipv4Addr,
    /// Largest IPv4 packet on the way out.
    pub mtu: u16,
}

/// What is counted of it: written by the program.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Meter {
    /// Passed on.
    pub packets: u64,
    /// Of them, IPv4 headers included.
    pub bytes: u64,
    /// When one was seen last, passed on or not: CLOCK_MONOTONIC, ns, to the millisecond; 0 is never.
    pub last_seen: u64,
    /// The same of packets with user data.
    pub last_payload: u64,
    /// Packets that never came, by gaps in the sequence numbers.
    pub lost: u32,
}

/// A key's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The agent's part.
    pub rule: Rule,
    /// The program's part.
    pub meter: Meter,
}

/// One cache line of the map, shared with the program: one direction of a call. Addresses and Call IDs as on the wire.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub(super) struct Slot {
    source: AtomicU32,
    destination: AtomicU32,
    /// Call ID, then what the slot holds: `FREE`, `UP` or `DOWN`.
    call: AtomicU32,
    from_link: AtomicU32,
    to_link: AtomicU32,
    address: AtomicU32,
    next_hop: AtomicU32,
    /// Call ID on the other side, then the MTU.
    id_and_mtu: AtomicU32,
    pub(super) packets: AtomicU64,
    bytes: AtomicU64,
    pub(super) last_seen: AtomicU32,
    last_payload: AtomicU32,
    next_sequence: AtomicU32,
    lost: AtomicU32,
}

const FREE: u16 = 0;
const UP: u16 = 1;
const DOWN: u16 = 2;

const _: () = assert!(size_of::<Slot>() == 64);
const _: () = assert!(offset_of!(Slot, call) == 8);
const _: () = assert!(offset_of!(Slot, address) == 20);
const _: () = assert!(offset_of!(Slot, id_and_mtu) == 28);
const _: () = assert!(offset_of!(Slot, packets) == 32);
const _: () = assert!(offset_of!(Slot, last_seen) == 48);
const _: () = assert!(offset_of!(Slot, lost) == 60);

/// Two fields of 16 bits that stand one behind the other.
fn pair(first: [u8; 2], second: u16) -> u32 {
    let second = second.to_ne_bytes();
    u32::from_ne_bytes([first[0], first[1], second[0], second[1]])
}

fn unpair(word: u32) -> ([u8; 2], u16) {
    let [a, b, c, d] = word.to_ne_bytes();
    ([a, b], u16::from_ne_bytes([c, d]))
}

fn wire(address: Ipv4Addr) -> u32 {
    u32::from_ne_bytes(address.octets())
}

fn address(wire: u32) -> Ipv4Addr {
    Ipv4Addr::from(wire.to_ne_bytes())
}

/// The program's time in ns; `now` is that of CLOCK_MONOTONIC. It may be one that the program has only now looked at, so half of the
/// counter's range is ahead of us.
fn since_boot(stamp: u32, now: u64) -> u64 {
    if stamp == 0 {
        return 0;
    }
    let units = now >> UNIT;
    let age = (units as u32).wrapping_sub(stamp) as i32;
    units.saturating_sub(u64::try_from(age).unwrap_or(0)).max(1) << UNIT
}

impl Key {
    /// A packet with these addresses and this Call ID.
    #[must_use]
    pub fn new(source: Ipv4Addr, destination: Ipv4Addr, call_id: u16) -> Self {
        Self { source, destination, call_id }
    }

    /// As the program has them in registers.
    pub(super) fn words(&self) -> (u32, u32, u16) {
        (wire(self.source), wire(self.destination), u16::from_ne_bytes(self.call_id.to_be_bytes()))
    }
}

impl Meter {
    /// As it is counted elsewhere.
    pub(super) fn traffic(&self) -> Traffic {
        Traffic { packets: self.packets, bytes: self.bytes, lost: u64::from(self.lost) }
    }
}

impl Rule {
    /// Whether the packet comes out with the same addresses and Call ID, whichever way it goes.
    #[must_use]
    pub fn translates_as(&self, other: &Self) -> bool {
        (self.address, self.call_id) == (other.address, other.call_id)
    }
}

impl Slot {
    /// Whether the program may find it.
    pub(super) fn is_taken(&self) -> bool {
        unpair(self.call.load(Ordering::Relaxed)).1 != FREE
    }

    /// Whether it is this key's.
    pub(super) fn holds(&self, key: &Key) -> bool {
        self.key() == Some(*key)
    }

    /// Whose it is.
    pub(super) fn key(&self) -> Option<Key> {
        let (call_id, kind) = unpair(self.call.load(Ordering::Acquire));
        let of = |word: &AtomicU32| address(word.load(Ordering::Relaxed));
        let call_id = u16::from_be_bytes(call_id);
        (kind != FREE).then(|| Key { source: of(&self.source), destination: of(&self.destination), call_id })
    }

    /// The agent's part. Of a slot that is hidden it says nothing about the address.
    pub(super) fn rule(&self) -> Rule {
        let of = |word: &AtomicU32| word.load(Ordering::Relaxed);
        let (call_id, mtu) = unpair(of(&self.id_and_mtu));
        let replacement = address(of(&self.address));
        Rule {
            from_link: of(&self.from_link),
            to_link: of(&self.to_link),
            address: match unpair(of(&self.call)).1 {
                UP => Replaced::Source(replacement),
                _ => Replaced::Destination(replacement),
            },
            call_id: u16::from_be_bytes(call_id),
            next_hop: address(of(&self.next_hop)),
            mtu,
        }
    }

    /// Both parts; `now` is CLOCK_MONOTONIC, ns.
    pub(super) fn entry(&self, now: u64) -> Entry {
        let of = |word: &AtomicU64| word.load(Ordering::Relaxed);
        let at = |word: &AtomicU32| since_boot(word.load(Ordering::Relaxed), now);
        let meter = Meter {
            packets: of(&self.packets),
            bytes: of(&self.bytes),
            last_seen: at(&self.last_seen),
            last_payload: at(&self.last_payload),
            lost: self.lost.load(Ordering::Relaxed),
        };
        Entry { rule: self.rule(), meter }
    }

    /// Nothing has passed yet.
    pub(super) fn clear_meter(&self) {
        [&self.packets, &self.bytes].into_iter().for_each(|word| word.store(0, Ordering::Relaxed));
        let words = [&self.last_seen, &self.last_payload, &self.next_sequence, &self.lost];
        words.into_iter().for_each(|word| word.store(0, Ordering::Relaxed));
    }

    /// The program finds it no more.
    pub(super) fn hide(&self) {
        self.call.store(0, Ordering::Relaxed);
        // Nothing that is written afterwards is seen before this.
        fence(Ordering::Release);
    }

    /// All zeroes: whatever it meant.
    pub(super) fn wipe(&self) {
        self.hide();
        let words = [&self.source, &self.destination, &self.from_link, &self.to_link];
        let more = [&self.address, &self.next_hop, &self.id_and_mtu];
        words.into_iter().chain(more).for_each(|word| word.store(0, Ordering::Relaxed));
        self.clear_meter();
    }

    /// The program finds it, by this rule; it was hidden, or free.
    pub(super) fn show(&self, key: &Key, rule: &Rule) {
        let (kind, replacement) = match rule.address {
            Replaced::Source(address) => (UP, address),
            Replaced::Destination(address) => (DOWN, address),
        };
        let (source, destination, _) = key.words();
        let words = [
            (&self.source, source),
            (&self.destination, destination),
            (&self.from_link, rule.from_link),
            (&self.to_link, rule.to_link),
            (&self.address, wire(replacement)),
            (&self.next_hop, wire(rule.next_hop)),
            (&self.id_and_mtu, pair(rule.call_id.to_be_bytes(), rule.mtu)),
        ];
        words.into_iter().for_each(|(word, value)| word.store(value, Ordering::Relaxed));
        self.call.store(pair(key.call_id.to_be_bytes(), kind), Ordering::Release);
    }
}

/// Why the program leaves packets to the ALG, in the order of `enum left`: names of counters.
pub const LEFT: [&str; 7] = [
    // Left to the ALG: of no call in the table, the first ones of a call, or nobody's.
    "fast_left_unknown",
    // Left to the ALG: of a call, but by another link than the one routes lead to.
    "fast_left_link",
    // Left to the ALG: any GRE with IPv4 options.
    "fast_left_options",
    // Left to the ALG: first fragments of a call, later ones of any GRE.
    "fast_left_fragment",
    // Left to the ALG: their TTL ends here, they go no further.
    "fast_left_ttl",
    // Left to the ALG: lengths do not fit each other.
    "fast_left_malformed",
    // Left to the ALG: larger than the way out; it cuts them.
    "fast_left_too_big",
];

#[cfg(test)]
#[path = "layout_tests.rs"]
mod tests;
