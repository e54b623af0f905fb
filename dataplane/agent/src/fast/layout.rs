//! What the agent and the program of dataplane/bpf both know, octet by octet: keys and values of the map, reasons counted.

use std::mem::{offset_of, size_of};
use std::net::Ipv4Addr;

/// Goes up with every change of this file's types: maps of another layout are left behind, and filled anew.
pub const LAYOUT: u32 = 1;

/// A packet of one direction of a call as it comes in.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    source: [u8; 4],
    destination: [u8; 4],
    call_id: [u8; 2],
    zero: [u8; 2],
}

/// What becomes of it: written by the agent, read by the program.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Number of the only link it may come in by.
    pub from_link: u32,
    /// Number of the link it goes out by.
    pub to_link: u32,
    source: [u8; 4],
    destination: [u8; 4],
    next_hop: [u8; 4],
    call_id: [u8; 2],
    mtu: u16,
}

/// What is counted of it: written by the program.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Meter {
    /// Passed on.
    pub packets: u64,
    /// Of them, IPv4 headers included.
    pub bytes: u64,
    /// When one was seen last, passed on or not: CLOCK_MONOTONIC_COARSE, ns; 0 is never.
    pub last_seen: u64,
    /// The same of packets with user data.
    pub last_payload: u64,
    /// Comes next if nothing is lost; the program's own.
    pub next_sequence: u32,
    /// Packets that never came, by gaps in the sequence numbers.
    pub lost: u32,
}

/// A value of the map.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The agent's part.
    pub rule: Rule,
    /// The program's part.
    pub meter: Meter,
}

const _: () = assert!(size_of::<Key>() == 12);
const _: () = assert!(offset_of!(Key, call_id) == 8);
const _: () = assert!(size_of::<Entry>() == 64);
const _: () = assert!(offset_of!(Entry, rule.call_id) == 20);
const _: () = assert!(offset_of!(Entry, rule.mtu) == 22);
const _: () = assert!(offset_of!(Entry, meter.packets) == 24);
const _: () = assert!(offset_of!(Entry, meter.last_seen) == 40);
const _: () = assert!(offset_of!(Entry, meter.next_sequence) == 56);
const _: () = assert!(offset_of!(Entry, meter.lost) == 60);

// SAFETY: repr(C), of octets only, without padding; every pattern of bits is a value.
unsafe impl aya::Pod for Key {}
// SAFETY: as above; the assertions show that there is no padding.
unsafe impl aya::Pod for Entry {}

impl Key {
    /// A packet with these addresses and this Call ID.
    #[must_use]
    pub fn new(source: Ipv4Addr, destination: Ipv4Addr, call_id: u16) -> Self {
        let call_id = call_id.to_be_bytes();
        Self { source: source.octets(), destination: destination.octets(), call_id, zero: [0; 2] }
    }
}

impl Rule {
    /// In by one link, out by another to this neighbour.
    #[must_use]
    pub fn new(links: (u32, u32), addresses: (Ipv4Addr, Ipv4Addr), call_id: u16, next_hop: Ipv4Addr, mtu: u32) -> Self {
        Self {
            from_link: links.0,
            to_link: links.1,
            source: addresses.0.octets(),
            destination: addresses.1.octets(),
            next_hop: next_hop.octets(),
            call_id: call_id.to_be_bytes(),
            // No IPv4 packet is larger.
            mtu: u16::try_from(mtu).unwrap_or(u16::MAX),
        }
    }

    /// Whether the packet comes out with the same addresses and Call ID, whichever way it goes.
    #[must_use]
    pub fn translates_as(&self, other: &Self) -> bool {
        let what = |rule: &Self| (rule.source, rule.destination, rule.call_id);
        what(self) == what(other)
    }
}

/// Why the program leaves packets to the ALG, in the order of `enum left`: names of counters.
pub const LEFT: [&str; 7] = [
    "fast_left_unknown",
    "fast_left_link",
    "fast_left_options",
    "fast_left_fragment",
    "fast_left_ttl",
    "fast_left_malformed",
    "fast_left_too_big",
];
