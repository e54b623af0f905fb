//! External ports and translated Call IDs of all address pairs, with the quarantine after their use.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use super::pool::{Pool, Range};
use super::random::Random;
use super::record::{Quarantined, QuarantinedWhat};
use crate::types::Now;

/// A pair of addresses as the server sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Pair {
    pub(crate) external: Ipv4Addr,
    pub(crate) server: Ipv4Addr,
}

/// Gives out what must be unique towards a server.
#[derive(Debug)]
pub(crate) struct Allocator {
    port_range: Arc<Range>,
    call_id_range: Arc<Range>,
    ports: BTreeMap<(Pair, u16), Pool>,
    call_ids: BTreeMap<Pair, Pool>,
    quarantine: BTreeSet<(Now, Quarantined)>,
    random: Random,
}

impl Allocator {
    pub(crate) fn new(port_ranges: &[(u16, u16)], seed: u64) -> Self {
        Self {
            port_range: Arc::new(Range::of(port_ranges)),
            call_id_range: Arc::new(Range::full()),
            ports: BTreeMap::new(),
            call_ids: BTreeMap::new(),
            quarantine: BTreeSet::new(),
            random: Random::new(seed),
        }
    }

    /// A free external port towards this server and port.
    pub(crate) fn port(&mut self, pair: Pair, server_port: u16, now: Now) -> Option<u16> {
        self.release(now);
        // A start between the ranges would always lead to the first port of the next one, which could then be guessed.
        let inside = (0..32).map(|_| self.random.next_u16()).find(|start| self.port_range.contains(*start));
        let start = inside.unwrap_or_default();
        self.ports.entry((pair, server_port)).or_insert_with(|| Pool::new(&self.port_range)).take(start)
    }

    /// A free translated Call ID towards this server.
    pub(crate) fn call_id(&mut self, pair: Pair, now: Now) -> Option<u16> {
        self.release(now);
        let start = self.random.next_u16();
        self.call_ids.entry(pair).or_insert_with(|| Pool::new(&self.call_id_range)).take(start)
    }

    /// Takes a port that is in use according to a record; false when something else has it.
    pub(crate) fn take_port(&mut self, pair: Pair, server_port: u16, port: u16) -> bool {
        // A port outside today's ranges stays usable: it was legal when the connection was opened.
        let pool = self.ports.entry((pair, server_port)).or_insert_with(|| Pool::new(&self.port_range));
        pool.take_exactly(port) || !self.port_range.contains(port)
    }

    /// Takes a Call ID that is in use according to a record; false when something else has it.
    pub(crate) fn take_call_id(&mut self, pair: Pair, id: u16) -> bool {
        self.call_ids.entry(pair).or_insert_with(|| Pool::new(&self.call_id_range)).take_exactly(id)
    }

    /// What was in use is not, but must rest; it stays taken until `until`.
    pub(crate) fn quarantine(&mut self, entry: Quarantined) {
        self.quarantine.insert((entry.until, entry));
    }

    /// As `quarantine`, for an entry of the journal: it is taken first.
    pub(crate) fn restore_quarantine(&mut self, entry: Quarantined) {
        let pair = Pair { external: entry.external, server: entry.server };
        let fresh = match entry.what {
            QuarantinedWhat::Port { server_port, port } => self.take_port(pair, server_port, port),
            QuarantinedWhat::CallId(id) => self.take_call_id(pair, id),
        };
        if fresh {
            self.quarantine(entry);
        }
    }

    /// What is still in quarantine at `now`, in a stable order.
    pub(crate) fn quarantined(&self, now: Now) -> impl Iterator<Item = Quarantined> + '_ {
        self.quarantine.iter().filter(move |(until, _)| *until > now).map(|(_, entry)| *entry)
    }

    /// Ends the quarantines that are over.
    pub(crate) fn release(&mut self, now: Now) {
        while let Some(&(until, entry)) = self.quarantine.first() {
            if until > now {
                return;
            }
            self.quarantine.remove(&(until, entry));
            let pair = Pair { external: entry.external, server: entry.server };
            match entry.what {
                QuarantinedWhat::Port { server_port, port } => {
                    if let Some(pool) = self.ports.get_mut(&(pair, server_port)) {
                        pool.give_back(port);
                        if pool.is_idle() {
                            self.ports.remove(&(pair, server_port));
                        }
                    }
                }
                QuarantinedWhat::CallId(id) => {
                    if let Some(pool) = self.call_ids.get_mut(&pair) {
                        pool.give_back(id);
                        if pool.is_idle() {
                            self.call_ids.remove(&pair);
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAIR: Pair = Pair { external: Ipv4Addr::new(192, 0, 2, 1), server: Ipv4Addr::new(198, 51, 100, 9) };

    fn resting(id: u16, until: u64) -> Quarantined {
        Quarantined {
            external: PAIR.external,
            server: PAIR.server,
            what: QuarantinedWhat::CallId(id),
            until: Now(until),
        }
    }

    #[test]
    fn a_call_id_rests_until_its_quarantine_is_over() {
        let mut allocator = Allocator::new(&[], 1);
        for _ in 0..65_536u32 {
            allocator.call_id(PAIR, Now(0)).expect("free");
        }
        assert_eq!(allocator.call_id(PAIR, Now(0)), None);
        allocator.quarantine(resting(17, 100));
        assert_eq!(allocator.call_id(PAIR, Now(99)), None);
        assert_eq!(allocator.call_id(PAIR, Now(100)), Some(17));
    }

    #[test]
    fn another_server_or_address_has_its_own_numbers() {
        let other = Pair { server: Ipv4Addr::new(198, 51, 100, 10), ..PAIR };
        let mut allocator = Allocator::new(&[(5000, 5000)], 1);
        assert_eq!(allocator.port(PAIR, 1723, Now(0)), Some(5000));
        assert_eq!(allocator.port(PAIR, 1723, Now(0)), None);
        assert_eq!(allocator.port(PAIR, 1724, Now(0)), Some(5000));
        assert_eq!(allocator.port(other, 1723, Now(0)), Some(5000));
    }

    #[test]
    fn a_restored_quarantine_holds_and_an_over_one_is_not_listed() {
        let mut allocator = Allocator::new(&[], 1);
        allocator.restore_quarantine(resting(3, 50));
        allocator.restore_quarantine(resting(4, 60));
        assert!(!allocator.take_call_id(PAIR, 3));
        assert_eq!(allocator.quarantined(Now(50)).collect::<Vec<_>>(), [resting(4, 60)]);
        allocator.release(Now(60));
        assert!(allocator.take_call_id(PAIR, 3));
    }

    #[test]
    fn idle_pools_are_dropped() {
        let mut allocator = Allocator::new(&[], 1);
        let id = allocator.call_id(PAIR, Now(0)).expect("free");
        allocator.quarantine(resting(id, 5));
        allocator.release(Now(5));
        assert!(allocator.call_ids.is_empty());
    }
}
