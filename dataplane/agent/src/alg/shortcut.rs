//! Which GRE may go straight to a neighbour: that of destinations with much of it, by what routing and neighbour tables said within
//! the last second.
//!
//! A packet through the kernel's routing costs twice as much as one that is handed to the link. So after `BUSY` packets to one
//! destination its way is looked up, and taken for the rest of the second. The first packet of each second goes through routing
//! all the same: the kernel keeps the neighbour alive by it, and finds out when it is gone.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use callgate_pptp::Now;

use super::core::destination;
use crate::fast::Ways;
use crate::sockets::{Neighbour, Sent, Straight};

/// How long a way is taken before it is looked up again, ms.
const LEASE: u64 = 1_000;
/// Packets to one destination within a lease from which on looking it up (about 50 µs) is worth it.
const BUSY: u32 = 128;
/// Destinations remembered before the memory is cleared.
const KNOWN: usize = 65_536;

const GRE: u8 = 47;

/// A destination.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Known {
    /// End of the lease.
    until: Now,
    /// Packets in it so far.
    packets: u32,
    way: Option<Way>,
}

/// How its packets get there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Way {
    /// The next hop.
    pub(super) to: Neighbour,
    /// Largest packet.
    pub(super) mtu: u32,
}

/// What a packet's destination calls for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Through routing.
    Routed,
    /// By the way that is known.
    Known,
    /// Look it up, for the packets after this one if `first`.
    Ask { first: bool },
}

impl Known {
    fn step(&mut self, now: Now) -> Step {
        if now >= self.until {
            let again = self.packets >= BUSY;
            *self = Self { until: now.after(LEASE), packets: 0, way: None };
            return if again { Step::Ask { first: true } } else { Step::Routed };
        }
        self.packets = self.packets.saturating_add(1);
        match self.way {
            Some(_) => Step::Known,
            None if self.packets == BUSY => Step::Ask { first: false },
            None => Step::Routed,
        }
    }
}

/// Ways straight to neighbours.
pub(super) struct Shortcuts {
    socket: Straight,
    ways: Ways,
    known: HashMap<Ipv4Addr, Known>,
}

impl Shortcuts {
    /// None yet; routes are those of packets with this mark.
    ///
    /// # Errors
    /// When a socket cannot be opened.
    pub(super) fn open(mark: u32) -> Result<Self, String> {
        let socket = Straight::open(mark).map_err(|error| error.to_string())?;
        Ok(Self { socket, ways: Ways::open(mark)?, known: HashMap::new() })
    }

    /// Links, addresses or routes have changed; `seen` knows the links already.
    pub(super) fn forget(&mut self, seen: Option<&Ways>) {
        self.known.clear();
        match seen {
            Some(seen) => self.ways.forget_like(seen),
            None => {
                if let Err(error) = self.ways.forget() {
                    tracing::error!("GRE is not sent straight to neighbours until the next change: {error}");
                }
            }
        }
    }

    /// Where a packet may be sent without routing.
    pub(super) fn of(&mut self, packet: &[u8], now: Now) -> Option<Neighbour> {
        let destination = destination(packet).filter(|_| packet[9] == GRE)?;
        if self.known.len() >= KNOWN {
            self.known.clear();
        }
        let known = self.known.entry(destination).or_default();
        let way = match known.step(now) {
            Step::Routed => None,
            Step::Known => known.way,
            Step::Ask { first } => {
                let way = self.ways.to(destination).ok().and_then(|way| {
                    let address = self.ways.routes().neighbour(way.link, way.next_hop).ok().flatten()?;
                    Some(Way { to: Neighbour { link: way.link, address }, mtu: way.mtu })
                });
                known.way = way;
                way.filter(|_| !first)
            }
        };
        way.filter(|way| packet.len() <= way.mtu as usize).map(|way| way.to)
    }

    /// Hands over packets, each to its own of `neighbours`.
    pub(super) fn send(&mut self, packets: &[&[u8]], neighbours: &[Neighbour]) -> Sent {
        self.socket.send(packets, neighbours)
    }

    /// The way a packet was to take is none: it goes through routing, as do all to its destination for now.
    pub(super) fn refused(&mut self, packet: &[u8]) {
        if let Some(destination) = destination(packet) {
            self.known.remove(&destination);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TO: Way = Way { to: Neighbour { link: 3, address: [2, 0, 0, 0, 0, 1] }, mtu: 1_500 };

    /// Steps of so many packets at one time.
    fn steps(known: &mut Known, count: u32, at: u64) -> Vec<Step> {
        (0..count).map(|_| known.step(Now(at))).collect()
    }

    #[test]
    fn few_packets_are_routed_and_never_looked_up() {
        let mut known = Known::default();
        for second in 1..=3 {
            let seen = steps(&mut known, BUSY, second * LEASE);
            assert_eq!(seen, vec![Step::Routed; BUSY as usize], "second {second}");
        }
    }

    #[test]
    fn many_packets_are_looked_up_once_a_lease_whose_first_packet_is_routed() {
        let mut known = Known::default();
        let first = steps(&mut known, BUSY + 1, 5_000);
        assert_eq!(first[..BUSY as usize], vec![Step::Routed; BUSY as usize]);
        assert_eq!(first[BUSY as usize..], [Step::Ask { first: false }]);
        known.way = Some(TO);
        assert_eq!(steps(&mut known, 2, 5_999), [Step::Known; 2]);
        // The next lease begins where it left off, but by its first packet.
        assert_eq!(steps(&mut known, 1, 6_000), [Step::Ask { first: true }]);
        known.way = Some(TO);
        assert_eq!(steps(&mut known, 2, 6_001), [Step::Known; 2]);
        // And after a quiet one it has to be earned again.
        assert_eq!(steps(&mut known, 2, 7_000), [Step::Routed; 2]);
    }

    #[test]
    fn a_way_that_cannot_be_had_is_asked_for_once_a_lease() {
        let mut known = Known::default();
        let all = steps(&mut known, 10 * BUSY, 5_000);
        assert_eq!(all.iter().filter(|step| **step != Step::Routed).count(), 1);
    }
}
