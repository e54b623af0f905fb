//! The table of the shared mode's calls: which id means which call on which leg.
//!
//! ```text
//!  client leg                                             server leg
//!  PNS id: the client's choice, unique in its session     PNS id: ours, unique for (external, server)     down ► GRE
//!  PAC id: ours, unique for (client, server)  ◄ up GRE    PAC id: the server's, unique in its connection
//! ```
//!
//! Both PNS ids belong together, and both PAC ids. The server's PAC id is kept towards the client where it is free there;
//! it is not where the client has calls over two connections to a server that counts anew on each.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::event::CallNames;
use super::group::GroupId;
use super::types::{SessionId, UpstreamId};
use crate::engine::CallDirection;
use crate::engine::call::Meter;
use crate::engine::calls::Key;
use crate::engine::hash::{FlatMap, Seeded};
use crate::engine::slab::Slab;
use crate::types::{Now, Policy};
use crate::wire::control::OutgoingCallRequest;

/// How far a call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Stage {
    /// The client has asked; no connection to the server has room yet.
    Waiting,
    /// The server (incoming: the client) has been asked.
    Requested,
    /// Incoming: the client has accepted.
    Accepted,
    /// GRE flows.
    Up,
}

/// The end of a call is wanted, and its server still has to say its part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Clearing {
    /// Since when.
    pub(super) at: Now,
    /// Call-Clear-Request is sent; otherwise it follows the reply: accel-ppp takes harm from one before it.
    pub(super) sent: bool,
}

/// One call.
#[derive(Debug)]
pub(super) struct Call {
    /// Never used twice.
    pub(super) serial: u64,
    pub(super) group: GroupId,
    pub(super) external: Ipv4Addr,
    pub(super) server: Ipv4Addr,
    pub(super) policy: Arc<Policy>,
    /// The client's session and address; `None` once the client has nothing to do with it any more.
    pub(super) client: Option<(SessionId, Ipv4Addr)>,
    pub(super) upstream: Option<UpstreamId>,
    pub(super) direction: CallDirection,
    pub(super) stage: Stage,
    pub(super) client_pns: Option<u16>,
    pub(super) client_pac: Option<u16>,
    pub(super) server_pns: Option<u16>,
    pub(super) server_pac: Option<u16>,
    /// `server_pac` is kept from other clients' calls.
    pub(super) holds_pac: bool,
    /// The client to which `server_pns` is counted, also when it has nothing to do with the call any more.
    pub(super) lent_to: Option<Ipv4Addr>,
    /// What the client has asked for, until it is answered.
    pub(super) request: Option<Box<OutgoingCallRequest>>,
    /// Its place in the queue of its group.
    pub(super) rank: u32,
    pub(super) retried: bool,
    /// Incoming: the sessions that have been asked, and the request to ask them with.
    pub(super) asked: BTreeSet<SessionId>,
    pub(super) offer: Option<Box<crate::wire::control::IncomingCallRequest>>,
    pub(super) clearing: Option<Clearing>,
    pub(super) created: Now,
    pub(super) up: Meter,
    pub(super) down: Meter,
    /// GRE of the server that came before its reply, and when; `Calls` counts it.
    held: Vec<(Now, Vec<u8>)>,
    pub(super) armed: Option<Now>,
}

impl Call {
    pub(super) fn new(group: GroupId, ends: (Ipv4Addr, Ipv4Addr), policy: Arc<Policy>, now: Now) -> Self {
        Self {
            serial: 0,
            group,
            external: ends.0,
            server: ends.1,
            policy,
            client: None,
            upstream: None,
            direction: CallDirection::Outgoing,
            stage: Stage::Waiting,
            client_pns: None,
            client_pac: None,
            server_pns: None,
            server_pac: None,
            holds_pac: false,
            lent_to: None,
            request: None,
            rank: 0,
            retried: false,
            asked: BTreeSet::new(),
            offer: None,
            clearing: None,
            created: now,
            up: Meter::new(now),
            down: Meter::new(now),
            held: Vec::new(),
            armed: None,
        }
    }

    /// Its Call ID towards the server, with the client it is counted to.
    pub(super) fn lent(&self) -> Option<(u16, Option<Ipv4Addr>)> {
        Some((self.server_pns?, self.lent_to))
    }

    /// GRE packets held for it.
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    pub(super) fn session(&self) -> Option<SessionId> {
        self.client.map(|(session, _)| session)
    }

    /// By all its names.
    pub(super) fn names(&self, flow: Option<crate::types::Flow>) -> CallNames {
        CallNames {
            flow,
            upstream: self.upstream,
            external: self.external,
            server: self.server,
            pns_id: (self.client_pns, self.server_pns),
            pac_id: (self.client_pac, self.server_pac),
        }
    }

    fn inner(&self) -> Option<Key> {
        Some(Key::new(self.client?.1, self.server, self.client_pns?))
    }

    fn up_key(&self) -> Option<Key> {
        Some(Key::new(self.client?.1, self.server, self.client_pac?))
    }

    fn down_key(&self) -> Option<Key> {
        Some(Key::new(self.external, self.server, self.server_pns?))
    }

    fn outer(&self) -> Option<Key> {
        Some(Key::new(self.external, self.server, self.server_pac?))
    }
}

/// Entries in each table of the calls.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct CallSizes {
    pub calls: usize,
    pub down: usize,
    pub up: usize,
    pub inner: usize,
    pub outer: usize,
    pub by_pac: usize,
    pub sessions: usize,
    pub upstreams: usize,
    pub resting: usize,
}

/// All calls.
#[derive(Debug)]
pub(super) struct Calls {
    slab: Slab<Call>,
    down: FlatMap<Key, u32>,
    up: FlatMap<Key, u32>,
    inner: BTreeSet<(Key, u32)>,
    outer: BTreeSet<(Key, u32)>,
    by_pac: BTreeMap<(UpstreamId, u16), u32>,
    sessions: BTreeSet<(SessionId, u32)>,
    upstreams: BTreeSet<(UpstreamId, u32)>,
    /// PAC ids a client knew of until a moment ago: its GRE may still come.
    resting: BTreeMap<Key, Now>,
    rest_ends: BTreeSet<(Now, Key)>,
    next_serial: u64,
    /// GRE packets held for all calls.
    held: usize,
}

impl Calls {
    pub(super) fn new(seed: u64) -> Self {
        let hash = Seeded::new(seed);
        Self {
            slab: Slab::default(),
            down: FlatMap::with_hasher(hash),
            up: FlatMap::with_hasher(hash),
            inner: BTreeSet::new(),
            outer: BTreeSet::new(),
            by_pac: BTreeMap::new(),
            sessions: BTreeSet::new(),
            upstreams: BTreeSet::new(),
            resting: BTreeMap::new(),
            rest_ends: BTreeSet::new(),
            next_serial: 1,
            held: 0,
        }
    }

    /// Adds a call that has neither legs nor ids yet.
    pub(super) fn insert(&mut self, mut call: Call) -> u32 {
        call.serial = self.next_serial;
        self.next_serial += 1;
        self.slab.insert(call)
    }

    /// Changes legs or ids of a call; the tables follow.
    pub(super) fn change(&mut self, index: u32, change: impl FnOnce(&mut Call)) {
        self.leave(index);
        if let Some(call) = self.slab.get_mut(index) {
            change(call);
        }
        self.enter(index);
    }

    /// The client has nothing to do with this call any more; its PAC id there rests until `rest`. Not that of a call it has not
    /// answered: it sends none of its GRE, and the server could make as many of them as it likes.
    pub(super) fn detach(&mut self, index: u32, rest: Now) {
        let answered = |call: &&Call| matches!(call.stage, Stage::Accepted | Stage::Up);
        if let Some(key) = self.slab.get(index).filter(answered).and_then(Call::up_key) {
            if let Some(before) = self.resting.insert(key, rest) {
                self.rest_ends.remove(&(before, key));
            }
            self.rest_ends.insert((rest, key));
        }
        self.take_held(index);
        self.change(index, |call| {
            call.client = None;
            call.client_pns = None;
            call.client_pac = None;
            call.request = None;
        });
    }

    /// Takes a call out of all tables.
    pub(super) fn remove(&mut self, index: u32) -> Option<Call> {
        self.leave(index);
        self.take_held(index);
        self.slab.remove(index)
    }

    /// Holds a GRE packet for a call until its reply.
    pub(super) fn hold(&mut self, index: u32, at: Now, packet: Vec<u8>) {
        if let Some(call) = self.slab.get_mut(index) {
            call.held.push((at, packet));
            self.held += 1;
        }
    }

    /// GRE packets held for all calls.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// What is held for a call is not any more.
    pub(super) fn take_held(&mut self, index: u32) -> Vec<(Now, Vec<u8>)> {
        let taken = self.slab.get_mut(index).map(|call| std::mem::take(&mut call.held)).unwrap_or_default();
        self.held -= taken.len();
        taken
    }

    /// Drops what has been held since `since` or longer: how many, and since when the oldest that is left.
    pub(super) fn drop_held(&mut self, index: u32, since: Now) -> (usize, Option<Now>) {
        let Some(call) = self.slab.get_mut(index) else { return (0, None) };
        let before = call.held.len();
        call.held.retain(|(at, _)| *at > since);
        let dropped = before - call.held.len();
        self.held -= dropped;
        (dropped, call.held.first().map(|(at, _)| *at))
    }

    fn enter(&mut self, index: u32) {
        let Some(call) = self.slab.get(index) else { return };
        call.down_key().map(|key| self.down.insert(key, index));
        call.up_key().map(|key| self.up.insert(key, index));
        call.inner().map(|key| self.inner.insert((key, index)));
        call.outer().map(|key| self.outer.insert((key, index)));
        call.session().map(|session| self.sessions.insert((session, index)));
        if let Some(upstream) = call.upstream {
            self.upstreams.insert((upstream, index));
            call.server_pac.map(|pac| self.by_pac.insert((upstream, pac), index));
        }
    }

    fn leave(&mut self, index: u32) {
        let Some(call) = self.slab.get(index) else { return };
        call.down_key().map(|key| self.down.remove(&key));
        call.up_key().map(|key| self.up.remove(&key));
        call.inner().map(|key| self.inner.remove(&(key, index)));
        call.outer().map(|key| self.outer.remove(&(key, index)));
        call.session().map(|session| self.sessions.remove(&(session, index)));
        if let Some(upstream) = call.upstream {
            self.upstreams.remove(&(upstream, index));
            call.server_pac.map(|pac| self.by_pac.remove(&(upstream, pac)));
        }
    }

    /// GRE or a message of the server: the call whose PNS id there this is.
    pub(super) fn down(&self, external: Ipv4Addr, server: Ipv4Addr, id: u16) -> Option<u32> {
        self.down.get(&Key::new(external, server, id)).copied()
    }

    /// GRE of the client: the call whose PAC id there this is.
    pub(super) fn up(&self, client: Ipv4Addr, server: Ipv4Addr, id: u16) -> Option<u32> {
        self.up.get(&Key::new(client, server, id)).copied()
    }

    /// The call a session knows by this PNS id.
    pub(super) fn of_client_pns(&self, session: SessionId, client: Ipv4Addr, server: Ipv4Addr, id: u16) -> Option<u32> {
        let mut found = self.with_client_pns(client, server, id);
        found.find(|&index| self.slab.get(index).is_some_and(|call| call.session() == Some(session)))
    }

    /// Calls of this client with this PNS id; more than one only over several sessions.
    pub(super) fn with_client_pns(
        &self,
        client: Ipv4Addr,
        server: Ipv4Addr,
        id: u16,
    ) -> impl Iterator<Item = u32> + '_ {
        let key = Key::new(client, server, id);
        self.inner.range((key, 0)..=(key, u32::MAX)).map(|&(_, index)| index)
    }

    /// Calls behind this external address with this PAC id of the server, of whichever connection.
    pub(super) fn with_server_pac(
        &self,
        external: Ipv4Addr,
        server: Ipv4Addr,
        id: u16,
    ) -> impl Iterator<Item = u32> + '_ {
        let key = Key::new(external, server, id);
        self.outer.range((key, 0)..=(key, u32::MAX)).map(|&(_, index)| index)
    }

    /// The call the server knows by this PAC id on this connection.
    pub(super) fn of_server_pac(&self, upstream: UpstreamId, id: u16) -> Option<u32> {
        self.by_pac.get(&(upstream, id)).copied()
    }

    /// The calls of a session.
    pub(super) fn of_session(&self, session: SessionId) -> impl Iterator<Item = u32> + '_ {
        self.sessions.range((session, 0)..=(session, u32::MAX)).map(|&(_, index)| index)
    }

    /// The calls a connection to a server carries.
    pub(super) fn of_upstream(&self, upstream: UpstreamId) -> impl Iterator<Item = u32> + '_ {
        self.upstreams.range((upstream, 0)..=(upstream, u32::MAX)).map(|&(_, index)| index)
    }

    /// What has rested for long enough may be given out again.
    pub(super) fn release(&mut self, now: Now) {
        while let Some(&(until, key)) = self.rest_ends.first().filter(|(until, _)| *until <= now) {
            self.rest_ends.remove(&(until, key));
            self.resting.remove(&key);
        }
    }

    /// Whether this client may be given this PAC id.
    pub(super) fn is_free_up(&self, client: Ipv4Addr, server: Ipv4Addr, id: u16) -> bool {
        let key = Key::new(client, server, id);
        !self.up.contains_key(&key) && !self.resting.contains_key(&key)
    }

    pub(super) fn get(&self, index: u32) -> Option<&Call> {
        self.slab.get(index)
    }

    /// For everything but legs and ids, which only `change` and `detach` may touch.
    pub(super) fn get_mut(&mut self, index: u32) -> Option<&mut Call> {
        self.slab.get_mut(index)
    }

    /// Puts a call back at the place it had: `values` and `free` are all places there are, each once.
    pub(super) fn put_back(&mut self, values: Vec<(u32, Call)>, free: Vec<u32>, next_serial: u64) -> Option<()> {
        let indices: Vec<u32> = values.iter().map(|(index, _)| *index).collect();
        self.slab = Slab::restore(values, free)?;
        self.next_serial = next_serial;
        indices.into_iter().for_each(|index| self.enter(index));
        Some(())
    }

    /// As `detach` had left it.
    pub(super) fn put_rest(&mut self, (client, server, id): (Ipv4Addr, Ipv4Addr, u16), until: Now) {
        let key = Key::new(client, server, id);
        self.resting.insert(key, until);
        self.rest_ends.insert((until, key));
    }

    /// PAC ids clients knew of until a moment ago: client, server, id, until when they rest.
    pub(super) fn resting(&self) -> impl Iterator<Item = (Ipv4Addr, Ipv4Addr, u16, Now)> + '_ {
        self.resting.iter().map(|(key, &until)| {
            let (client, server, id) = key.parts();
            (client, server, id, until)
        })
    }

    /// Places that are free, the one that is taken next last.
    pub(super) fn free(&self) -> &[u32] {
        self.slab.free()
    }

    pub(super) fn next_serial(&self) -> u64 {
        self.next_serial
    }

    pub(super) fn len(&self) -> usize {
        self.slab.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Call)> {
        self.slab.iter()
    }

    /// Entries in each table.
    pub(super) fn sizes(&self) -> CallSizes {
        CallSizes {
            calls: self.slab.len(),
            down: self.down.len(),
            up: self.up.len(),
            inner: self.inner.len(),
            outer: self.outer.len(),
            by_pac: self.by_pac.len(),
            sessions: self.sessions.len(),
            upstreams: self.upstreams.len(),
            resting: self.resting.len(),
        }
    }
}
