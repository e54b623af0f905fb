//! From the journal and back: the engine as records, and records as an engine.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Engine;
use super::allocator::Pair;
use super::call::CallData;
use super::connection::Connection;
use super::limits::Limits;
use super::record::{Change, ConnectionUpdate, Opened, Unsaved};
use super::replay::{Replay, Replayed};
use crate::types::{Command, Now, Policy};

impl Engine {
    /// An engine as these changes left it: what `resume` does with all of them replayed.
    pub fn restore(limits: Limits, seed: u64, changes: impl IntoIterator<Item = Change>, now: Now) -> Self {
        let mut replay = Replay::new(now);
        changes.into_iter().for_each(|change| replay.apply(change));
        Self::resume(limits, seed, replay, now)
    }

    /// An engine as the journal left it. Nothing is sent; no time-out strikes before `Limits::restore_grace_ms`.
    pub fn resume(limits: Limits, seed: u64, replay: Replay, now: Now) -> Self {
        let mut engine = Self::new(limits, seed);
        let (connections, quarantined, next_id) = replay.into_parts();
        engine.next_id = next_id;
        for (id, replayed) in connections {
            engine.revive(id, replayed, now);
        }
        for entry in quarantined {
            engine.allocator.restore_quarantine(entry);
        }
        engine
    }

    fn revive(&mut self, id: u64, replayed: Replayed, now: Now) {
        let Replayed { opened, mut data, calls } = replayed;
        let Opened { flow, external, external_port, policy, client_isn, created } = opened;
        let pair = Pair { external, server: flow.server };
        self.allocator.take_port(pair, flow.server_port, external_port);
        self.allocator.count_port(flow.client);
        data.up.rearm(now);
        if let Some(down) = &mut data.down {
            down.rearm(now);
        }
        let finished = data.first_fin.map(|_| data.connected);
        let connection = Connection {
            id,
            flow,
            external,
            external_port,
            policy: self.policies.intern(Policy::clone(&policy)),
            client_isn,
            created,
            data,
            unsaved: Unsaved { told: true, ..Unsaved::default() },
            next_call: calls.last_key_value().map_or(0, |(number, _)| number.wrapping_add(1)),
            grace: now.after(self.limits.restore_grace_ms),
            finished,
            ended: None,
            armed: None,
            half_open: false,
        };
        let index = self.enter(connection);
        for (number, mut call) in calls {
            call.up.resume(now);
            call.down.resume(now);
            if let Some(pns) = call.pns {
                self.allocator.take_call_id(pair, pns.translated);
                self.allocator.count_call_id(flow.client);
            }
            self.enter_call(index, number, call);
        }
        self.arm(index);
    }

    /// The shortest journal that restores this engine, for compaction. Deterministic order.
    pub fn records(&self) -> Vec<Change> {
        let mut records: BTreeMap<u64, Change> = BTreeMap::new();
        for (index, connection) in self.connections.iter().filter(|(_, connection)| connection.ended.is_none()) {
            let calls = self.calls.of_connection(index).filter_map(|call| self.calls.get(call));
            let mut calls: Vec<(u32, CallData)> = calls.map(|call| (call.number, call.data)).collect();
            calls.sort_by_key(|(number, _)| *number);
            let update = ConnectionUpdate { calls, ..update(connection, Some(opened(connection))) };
            records.insert(connection.id, Change::Update(Box::new(update)));
        }
        records.into_values().chain(self.allocator.quarantined(Now(0)).map(Change::Quarantine)).collect()
    }

    /// Saves what has changed of a connection, ahead of everything queued since `start`.
    pub(super) fn persist_before(&mut self, start: usize, index: u32) {
        if let Some(update) = self.unsaved(index) {
            let at = start.min(self.commands.len());
            self.commands.insert(at, Command::Persist(Change::Update(Box::new(update))));
        }
    }

    /// What the journal does not have of a live connection; from now on it has it.
    fn unsaved(&mut self, index: u32) -> Option<ConnectionUpdate> {
        let connection = self.connections.get_mut(index).filter(|connection| connection.ended.is_none())?;
        let unsaved = &mut connection.unsaved;
        let (told, mut calls) = (std::mem::replace(&mut unsaved.told, true), std::mem::take(&mut unsaved.calls));
        if calls.is_empty() {
            // What went through calls changes without a message: with each message that is about none, one of them has its turn.
            calls.extend(self.calls.behind(index, unsaved.refreshed));
            unsaved.refreshed = calls.first().copied().unwrap_or_default();
        }
        let over = std::mem::take(&mut unsaved.over);
        let calls = calls.into_iter().filter_map(|call| self.calls.get(call)).map(|call| (call.number, call.data));
        let calls = calls.collect();
        let opened = (!told).then(|| opened(connection));
        Some(ConnectionUpdate { calls, over, ..update(connection, opened) })
    }

    /// The call has changed: the next record of its connection has it.
    pub(super) fn changed(&mut self, call: u32) {
        let Some(connection) = self.calls.get(call).map(|call| call.connection) else { return };
        if let Some(connection) = self.connections.get_mut(connection)
            && !connection.unsaved.calls.contains(&call)
        {
            connection.unsaved.calls.push(call);
        }
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
            let old = Arc::clone(&connection.policy);
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
        connection.unsaved.told = false;
        let old = std::mem::replace(&mut connection.policy, Arc::clone(&new));
        let client = connection.flow.client;
        self.sessions.take_off(&old.service, client);
        self.sessions.add(&new.service, client);
        let calls: Vec<u32> = self.calls.of_connection(index).collect();
        for call in calls {
            self.calls_of_alg.take_off(&old.alg, client);
            self.calls_of_alg.add(&new.alg, client);
            self.arm_call(call);
        }
        self.arm(index);
        self.persist_before(start, index);
    }
}

fn opened(connection: &Connection) -> Opened {
    let &Connection { flow, external, external_port, client_isn, created, .. } = connection;
    Opened { flow, external, external_port, policy: Arc::clone(&connection.policy), client_isn, created }
}

/// A connection without its calls.
fn update(connection: &Connection, opened: Option<Opened>) -> ConnectionUpdate {
    ConnectionUpdate { id: connection.id, opened, data: connection.data.clone(), calls: Vec::new(), over: Vec::new() }
}
