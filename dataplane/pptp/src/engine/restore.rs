//! From the journal and back: the engine as records, and records as an engine.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Engine;
use super::allocator::Pair;
use super::connection::Connection;
use super::limits::Limits;
use super::record::{Change, ConnectionRecord, Quarantined};
use crate::types::{Now, Policy};

impl Engine {
    /// An engine as the journal left it. Nothing is sent; no time-out strikes before `Limits::restore_grace_ms`.
    pub fn restore(limits: Limits, seed: u64, changes: impl IntoIterator<Item = Change>, now: Now) -> Self {
        let mut connections = BTreeMap::new();
        let mut quarantined: Vec<Quarantined> = Vec::new();
        let mut engine = Self::new(limits, seed);
        for change in changes {
            match change {
                Change::Put(record) => {
                    engine.next_id = engine.next_id.max(record.id + 1);
                    connections.insert(record.id, record);
                }
                Change::Remove(id) => {
                    engine.next_id = engine.next_id.max(id + 1);
                    connections.remove(&id);
                }
                Change::Quarantine(entry) => quarantined.push(entry),
            }
        }
        for record in connections.into_values() {
            engine.revive(*record, now);
        }
        for entry in quarantined.into_iter().filter(|entry| entry.until > now) {
            engine.allocator.restore_quarantine(entry);
        }
        engine
    }

    fn revive(&mut self, record: ConnectionRecord, now: Now) {
        let ConnectionRecord { id, flow, external, external_port, mut data } = record;
        let pair = Pair { external, server: flow.server };
        self.allocator.take_port(pair, flow.server_port, external_port);
        self.allocator.count_port(flow.client);
        let calls = std::mem::take(&mut data.calls);
        data.policy = self.policies.intern(Policy::clone(&data.policy));
        data.up.rearm(now);
        if let Some(down) = &mut data.down {
            down.rearm(now);
        }
        let grace = now.after(self.limits.restore_grace_ms);
        let connection =
            Connection { id, flow, external, external_port, data, grace, ended: None, armed: None, half_open: false };
        let index = self.enter(connection);
        for mut call in calls {
            // Much may have passed since it was saved.
            call.up.forget_sequence();
            call.down.forget_sequence();
            if let Some(pns) = call.pns {
                self.allocator.take_call_id(pair, pns.translated);
                self.allocator.count_call_id(flow.client);
            }
            self.add_call(index, call);
        }
        self.arm(index);
    }

    /// The shortest journal that restores this engine, for compaction. Deterministic order.
    pub fn records(&self) -> Vec<Change> {
        let mut records: BTreeMap<u64, Change> = BTreeMap::new();
        for (index, connection) in self.connections.iter() {
            if let Some(record) = self.record(index) {
                records.insert(connection.id, Change::Put(Box::new(record)));
            }
        }
        records.into_values().chain(self.allocator.quarantined(Now(0)).map(Change::Quarantine)).collect()
    }

    /// A live connection as it has to be saved.
    pub(super) fn record(&self, index: u32) -> Option<ConnectionRecord> {
        let connection = self.connections.get(index).filter(|connection| connection.ended.is_none())?;
        let mut data = connection.data.clone();
        data.calls =
            self.calls.of_connection(index).filter_map(|call| self.calls.get(call)).map(|call| call.data).collect();
        Some(ConnectionRecord {
            id: connection.id,
            flow: connection.flow,
            external: connection.external,
            external_port: connection.external_port,
            data,
        })
    }

    /// After a change of configuration: `look_up` gives for a policy in use, asked once, its new text, or `None` when the
    /// rule, service or ALG is gone; then its connections end and both sides are told.
    pub fn set_policies(&mut self, look_up: &mut dyn FnMut(&Policy) -> Option<Policy>, now: Now) {
        let live: Vec<u32> = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.ended.is_none() && connection.data.leaving.is_none())
            .map(|(index, _)| index)
            .collect();
        // Connections share their policies: each is looked up once. The policy is kept beside its answer, so that its
        // place in memory is not used for another meanwhile.
        let mut answers: BTreeMap<*const Policy, (Arc<Policy>, Option<Policy>)> = BTreeMap::new();
        for index in live {
            let Some(connection) = self.connections.get(index) else { continue };
            let old = Arc::clone(&connection.data.policy);
            let answer = answers.entry(Arc::as_ptr(&old)).or_insert_with(|| (Arc::clone(&old), look_up(&old)));
            match answer.1.clone() {
                Some(new) if new == *old => {}
                Some(new) => self.replace_policy(index, new),
                None => self.shut(index, super::event::CloseReason::RuleRemoved, now),
            }
        }
        drop(answers);
        self.policies.forget_unused();
    }

    /// The gateway is being stopped: every connection ends, and both sides are told.
    pub fn shut_down(&mut self, now: Now) {
        let live: Vec<u32> = self.connections.iter().map(|(index, _)| index).collect();
        for index in live {
            self.shut(index, super::event::CloseReason::Shutdown, now);
        }
    }

    fn replace_policy(&mut self, index: u32, new: Policy) {
        let start = self.commands.len();
        let new = self.policies.intern(new);
        let Some(connection) = self.connections.get_mut(index) else { return };
        let old = std::mem::replace(&mut connection.data.policy, Arc::clone(&new));
        super::ids::one_less(&mut self.sessions, &old.service);
        *self.sessions.entry(new.service.clone()).or_default() += 1;
        let calls: Vec<u32> = self.calls.of_connection(index).collect();
        for call in calls {
            super::ids::one_less(&mut self.calls_of_alg, &old.alg);
            *self.calls_of_alg.entry(new.alg.clone()).or_default() += 1;
            self.arm_call(call);
        }
        self.arm(index);
        self.persist_before(start, index);
    }
}
