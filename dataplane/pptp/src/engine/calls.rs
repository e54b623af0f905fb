//! The table of all calls: flat look-ups for GRE, ordered ones for everything that is rare.
//!
//! ```text
//!  down  (external, server, translated PNS id) -> call      GRE from the server      hash
//!  up    (client, server, PAC id)              -> call      GRE from the client      hash
//!  inner (client, server, PNS id, call)   outer (external, server, PAC id, call)   owner (connection, call)   ordered
//! ```

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use super::call::{Call, CallData, PnsId};
use super::hash::{FlatMap, Seeded};
use super::slab::Slab;
use crate::types::Side;

/// Two addresses and a Call ID, packed so that hashing takes two multiplications.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    addresses: u64,
    id: u16,
}

impl Key {
    pub(crate) fn new(near: Ipv4Addr, server: Ipv4Addr, id: u16) -> Self {
        Self { addresses: u64::from(near.to_bits()) << 32 | u64::from(server.to_bits()), id }
    }

    /// What `new` was given.
    pub(crate) fn parts(self) -> (Ipv4Addr, Ipv4Addr, u16) {
        let (near, server) = ((self.addresses >> 32) as u32, self.addresses as u32);
        (Ipv4Addr::from_bits(near), Ipv4Addr::from_bits(server), self.id)
    }
}

/// All calls.
#[derive(Debug)]
pub(crate) struct Calls {
    slab: Slab<Call>,
    down: FlatMap<Key, u32>,
    up: FlatMap<Key, u32>,
    inner: BTreeSet<(Key, u32)>,
    outer: BTreeSet<(Key, u32)>,
    owner: BTreeSet<(u32, u32)>,
    next_serial: u64,
}

impl Calls {
    pub(crate) fn new(seed: u64) -> Self {
        let hash = Seeded::new(seed);
        Self {
            slab: Slab::default(),
            down: FlatMap::with_hasher(hash),
            up: FlatMap::with_hasher(hash),
            inner: BTreeSet::new(),
            outer: BTreeSet::new(),
            owner: BTreeSet::new(),
            next_serial: 1,
        }
    }

    /// Adds a call, with its connection and its number there; its ids are entered as far as they are known.
    pub(crate) fn insert(
        &mut self,
        (connection, number): (u32, u32),
        (client, external, server): (Ipv4Addr, Ipv4Addr, Ipv4Addr),
        data: CallData,
    ) -> u32 {
        let serial = self.next_serial;
        self.next_serial += 1;
        let (pns, pac) = (data.pns, data.pac);
        let data = CallData { pns: None, pac: None, ..data };
        let index = self.slab.insert(Call {
            serial,
            connection,
            number,
            client,
            external,
            server,
            data,
            armed: None,
            beside: false,
            closed: false,
        });
        self.owner.insert((connection, index));
        if let Some(pns) = pns {
            self.set_pns(index, pns);
        }
        if let Some(pac) = pac {
            self.set_pac(index, pac);
        }
        index
    }

    /// Gives the call its PNS id on both sides.
    pub(crate) fn set_pns(&mut self, index: u32, pns: PnsId) {
        let Some(call) = self.slab.get_mut(index) else { return };
        if let Some(old) = call.data.pns.replace(pns) {
            self.down.remove(&Key::new(call.external, call.server, old.translated));
            self.inner.remove(&(Key::new(call.client, call.server, old.client), index));
        }
        self.down.insert(Key::new(call.external, call.server, pns.translated), index);
        self.inner.insert((Key::new(call.client, call.server, pns.client), index));
    }

    /// Gives the call its PAC id; the call that had the way up under it before, if there is one, loses it.
    pub(crate) fn set_pac(&mut self, index: u32, pac: u16) -> Option<u32> {
        self.unset_pac(index);
        let call = self.slab.get_mut(index)?;
        call.data.pac = Some(pac);
        self.outer.insert((Key::new(call.external, call.server, pac), index));
        self.up.insert(Key::new(call.client, call.server, pac), index).filter(|&before| before != index)
    }

    /// Takes a call out of all tables. If an older call had lost the way up to it, that one has it again.
    pub(crate) fn remove(&mut self, index: u32) -> Option<Call> {
        let pac = self.slab.get(index)?.data.pac;
        self.unset_pac(index);
        let mut call = self.slab.remove(index)?;
        call.data.pac = pac;
        self.owner.remove(&(call.connection, index));
        if let Some(pns) = call.data.pns {
            self.down.remove(&Key::new(call.external, call.server, pns.translated));
            self.inner.remove(&(Key::new(call.client, call.server, pns.client), index));
        }
        Some(call)
    }

    /// Takes the PAC id from a call. Another call of the same client with this id, if there is one, has the way up now.
    fn unset_pac(&mut self, index: u32) {
        let Some(call) = self.slab.get_mut(index) else { return };
        let Some(pac) = call.data.pac.take() else { return };
        let (client, external, server) = (call.client, call.external, call.server);
        self.outer.remove(&(Key::new(external, server, pac), index));
        let key = Key::new(client, server, pac);
        if self.up.get(&key) != Some(&index) {
            return;
        }
        self.up.remove(&key);
        let heir = self
            .with_pac(external, server, pac)
            .find(|&other| self.slab.get(other).is_some_and(|other| other.client == client));
        if let Some(heir) = heir {
            self.up.insert(key, heir);
        }
    }

    /// GRE from the server: the call whose translated id this is.
    pub(crate) fn down(&self, external: Ipv4Addr, server: Ipv4Addr, translated: u16) -> Option<u32> {
        self.down.get(&Key::new(external, server, translated)).copied()
    }

    /// GRE from the client: the call whose PAC id this is.
    pub(crate) fn up(&self, client: Ipv4Addr, server: Ipv4Addr, pac: u16) -> Option<u32> {
        self.up.get(&Key::new(client, server, pac)).copied()
    }

    /// Calls of this client to this server with this PNS id as the client chose it (more than one only over several
    /// connections).
    pub(crate) fn with_pns(&self, client: Ipv4Addr, server: Ipv4Addr, pns: u16) -> impl Iterator<Item = u32> + '_ {
        let key = Key::new(client, server, pns);
        self.inner.range((key, 0)..=(key, u32::MAX)).map(|&(_, index)| index)
    }

    /// Calls behind this external address to this server with this PAC id, of whichever client.
    pub(crate) fn with_pac(&self, external: Ipv4Addr, server: Ipv4Addr, pac: u16) -> impl Iterator<Item = u32> + '_ {
        let key = Key::new(external, server, pac);
        self.outer.range((key, 0)..=(key, u32::MAX)).map(|&(_, index)| index)
    }

    /// Whether there is a call between these ends of a packet from that side.
    pub(crate) fn between(&self, from: Side, src: Ipv4Addr, dst: Ipv4Addr) -> bool {
        let (table, near, server) = match from {
            Side::Client => (&self.inner, src, dst),
            Side::Server => (&self.outer, dst, src),
        };
        let (first, last) = (Key::new(near, server, 0), Key::new(near, server, u16::MAX));
        table.range((first, 0)..=(last, u32::MAX)).next().is_some()
    }

    /// The calls of a connection.
    pub(crate) fn of_connection(&self, connection: u32) -> impl Iterator<Item = u32> + '_ {
        self.owner.range((connection, 0)..=(connection, u32::MAX)).map(|&(_, index)| index)
    }

    /// The call of a connection behind this one; behind the last comes the first.
    pub(crate) fn behind(&self, connection: u32, index: u32) -> Option<u32> {
        let behind = self.owner.range((connection, index.saturating_add(1))..=(connection, u32::MAX)).next();
        behind.map(|&(_, index)| index).or_else(|| self.of_connection(connection).next())
    }

    /// Whether the call at this index still is the one with this serial number.
    pub(crate) fn is(&self, index: u32, serial: u64) -> bool {
        self.slab.get(index).is_some_and(|call| call.serial == serial)
    }

    pub(crate) fn get(&self, index: u32) -> Option<&Call> {
        self.slab.get(index)
    }

    pub(crate) fn get_mut(&mut self, index: u32) -> Option<&mut Call> {
        self.slab.get_mut(index)
    }

    pub(crate) fn len(&self) -> usize {
        self.slab.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Call)> {
        self.slab.iter()
    }
}
