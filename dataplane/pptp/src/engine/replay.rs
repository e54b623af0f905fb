//! The journal read back change by change: what is kept is the state after them, however many they were.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::call::CallData;
use super::connection::ConnectionData;
use super::record::{Change, ConnectionRecord, ConnectionUpdate, Opened, Quarantined, QuarantinedWhat, RecordData};
use crate::types::Now;

/// State as far as the journal was read.
#[derive(Debug)]
pub struct Replay {
    now: Now,
    connections: BTreeMap<u64, Replayed>,
    quarantined: BTreeMap<(Ipv4Addr, Ipv4Addr, QuarantinedWhat), Now>,
    next_id: u64,
}

/// A connection of it.
#[derive(Debug)]
pub(super) struct Replayed {
    pub(super) opened: Opened,
    pub(super) data: ConnectionData,
    /// By their numbers.
    pub(super) calls: BTreeMap<u32, CallData>,
}

impl Replay {
    /// Nothing was read yet. What is over at `now` is not kept.
    pub fn new(now: Now) -> Self {
        Self { now, connections: BTreeMap::new(), quarantined: BTreeMap::new(), next_id: 1 }
    }

    /// Reads the next change.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Update(update) => self.update(*update),
            Change::Put(record) => self.put(*record),
            Change::Remove(id) => {
                self.seen(id);
                self.connections.remove(&id);
            }
            Change::Quarantine(Quarantined { external, server, what, until }) => {
                if until > self.now {
                    self.quarantined.insert((external, server, what), until);
                }
            }
        }
    }

    fn seen(&mut self, id: u64) {
        self.next_id = self.next_id.max(id.saturating_add(1));
    }

    fn update(&mut self, update: ConnectionUpdate) {
        let ConnectionUpdate { id, opened, data, calls, over } = update;
        self.seen(id);
        match (self.connections.get_mut(&id), opened) {
            (Some(known), opened) => {
                known.data = data;
                known.opened = opened.unwrap_or_else(|| known.opened.clone());
            }
            (None, Some(opened)) => {
                self.connections.insert(id, Replayed { opened, data, calls: BTreeMap::new() });
            }
            // The line that opened it is lost, and was reported.
            (None, None) => {}
        }
        if let Some(known) = self.connections.get_mut(&id) {
            known.calls.extend(calls);
            known.calls.retain(|number, _| !over.contains(number));
        }
    }

    fn put(&mut self, record: ConnectionRecord) {
        let ConnectionRecord { id, flow, external, external_port, data } = record;
        let RecordData { policy, client_isn, created, data, calls } = data;
        self.seen(id);
        let opened = Opened { flow, external, external_port, policy, client_isn, created };
        let calls = (0..).zip(calls).collect();
        self.connections.insert(id, Replayed { opened, data, calls });
    }

    /// What was live at the end, what rests, and the number of the next connection.
    pub(super) fn into_parts(self) -> (BTreeMap<u64, Replayed>, impl Iterator<Item = Quarantined>, u64) {
        let quarantined = self.quarantined.into_iter();
        let quarantined =
            quarantined.map(|((external, server, what), until)| Quarantined { external, server, what, until });
        (self.connections, quarantined, self.next_id)
    }
}
