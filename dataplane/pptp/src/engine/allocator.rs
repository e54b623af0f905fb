//! External ports and translated Call IDs of all address pairs, with the quarantine after their use, and how many each client has.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use super::ids::one_less;
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
    /// With the client whose it was; `None` for ports many share, and for those of before a restart.
    quarantine: BTreeMap<(Now, Quarantined), Option<Ipv4Addr>>,
    /// Ports and Call IDs of each client, live and in quarantine, towards all servers.
    ports_of: BTreeMap<Ipv4Addr, u32>,
    call_ids_of: BTreeMap<Ipv4Addr, u32>,
    random: Random,
}

impl Allocator {
    pub(crate) fn new(port_ranges: &[(u16, u16)], seed: u64) -> Self {
        Self {
            port_range: Arc::new(Range::of(port_ranges)),
            call_id_range: Arc::new(Range::full()),
            ports: BTreeMap::new(),
            call_ids: BTreeMap::new(),
            quarantine: BTreeMap::new(),
            ports_of: BTreeMap::new(),
            call_ids_of: BTreeMap::new(),
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

    /// One more port is this client's, until it is given back.
    pub(crate) fn count_port(&mut self, client: Ipv4Addr) {
        *self.ports_of.entry(client).or_default() += 1;
    }

    /// One more Call ID is this client's, until it is given back.
    pub(crate) fn count_call_id(&mut self, client: Ipv4Addr) {
        *self.call_ids_of.entry(client).or_default() += 1;
    }

    /// How many ports are this client's, live and in quarantine.
    pub(crate) fn ports_of(&mut self, client: Ipv4Addr, now: Now) -> u32 {
        self.release(now);
        self.ports_of.get(&client).copied().unwrap_or_default()
    }

    /// How many Call IDs are this client's, live and in quarantine.
    pub(crate) fn call_ids_of(&mut self, client: Ipv4Addr, now: Now) -> u32 {
        self.release(now);
        self.call_ids_of.get(&client).copied().unwrap_or_default()
    }

    /// Clients are gone; what rests of theirs is nobody's, so that whoever has the address next does not answer for it.
    pub(crate) fn disown(&mut self, gone: &BTreeSet<Ipv4Addr>) {
        for owner in self.quarantine.values_mut() {
            *owner = owner.filter(|owner| !gone.contains(owner));
        }
        for client in gone {
            self.ports_of.remove(client);
            self.call_ids_of.remove(client);
        }
    }

    /// What was in use is not, but must rest; it stays taken, and its client's, until `until`.
    pub(crate) fn quarantine(&mut self, entry: Quarantined, of: Option<Ipv4Addr>) {
        self.quarantine.insert((entry.until, entry), of);
    }

    /// As `quarantine`, for an entry of the journal: it is taken first.
    pub(crate) fn restore_quarantine(&mut self, entry: Quarantined) {
        let pair = Pair { external: entry.external, server: entry.server };
        let fresh = match entry.what {
            QuarantinedWhat::Port { server_port, port } => self.take_port(pair, server_port, port),
            QuarantinedWhat::CallId(id) => self.take_call_id(pair, id),
        };
        if fresh {
            self.quarantine(entry, None);
        }
    }

    /// What is still in quarantine at `now`, in a stable order.
    pub(crate) fn quarantined(&self, now: Now) -> impl Iterator<Item = Quarantined> + '_ {
        self.quarantine.keys().filter(move |(until, _)| *until > now).map(|(_, entry)| *entry)
    }

    /// Ends the quarantines that are over.
    pub(crate) fn release(&mut self, now: Now) {
        while let Some(first) = self.quarantine.first_entry().filter(|first| first.key().0 <= now) {
            let ((_, entry), of) = first.remove_entry();
            self.give_back(Pair { external: entry.external, server: entry.server }, entry.what, of);
        }
    }

    /// What was this client's may be given out again at once.
    pub(crate) fn give_back(&mut self, pair: Pair, what: QuarantinedWhat, of: Option<Ipv4Addr>) {
        match what {
            QuarantinedWhat::Port { server_port, port } => {
                if let Some(pool) = self.ports.get_mut(&(pair, server_port)) {
                    pool.give_back(port);
                    if pool.is_idle() {
                        self.ports.remove(&(pair, server_port));
                    }
                }
                of.iter().for_each(|client| one_less(&mut self.ports_of, client));
            }
            QuarantinedWhat::CallId(id) => {
                if let Some(pool) = self.call_ids.get_mut(&pair) {
                    pool.give_back(id);
                    if pool.is_idle() {
                        self.call_ids.remove(&pair);
                    }
                }
                of.iter().for_each(|client| one_less(&mut self.call_ids_of, client));
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
        allocator.quarantine(resting(17, 100), None);
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
        allocator.quarantine(resting(id, 5), None);
        allocator.release(Now(5));
        assert!(allocator.call_ids.is_empty());
    }

    #[test]
    fn what_rests_is_its_clients_until_it_is_given_back_or_the_client_is_gone() {
        let (one, other) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
        let mut allocator = Allocator::new(&[], 1);
        for (client, until) in [(one, 5), (one, 9), (other, 9)] {
            let id = allocator.call_id(PAIR, Now(0)).expect("free");
            allocator.count_call_id(client);
            allocator.quarantine(resting(id, until), Some(client));
        }
        let mut held = |now| [one, other].map(|client| allocator.call_ids_of(client, Now(now)));
        assert_eq!([held(4), held(5)], [[2, 1], [1, 1]]);
        allocator.disown(&[one].into());
        allocator.count_call_id(one);
        let mut held = |now| [one, other].map(|client| allocator.call_ids_of(client, Now(now)));
        assert_eq!([held(5), held(9)], [[1, 1], [1, 0]]);
    }
}
