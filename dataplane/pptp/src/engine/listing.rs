//! Live connections and calls as sorted lists for people.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use super::Engine;
use super::connection::Connection;
use super::view::{CallView, CallsByObject, ConnectionView};
use crate::types::Flow;

impl Engine {
    /// Live control connections, sorted by flow.
    pub fn connections(&self) -> Vec<ConnectionView> {
        let mut views: Vec<ConnectionView> = self
            .live()
            .map(|(index, connection)| ConnectionView {
                id: connection.id,
                flow: connection.flow,
                external: connection.external,
                external_port: connection.external_port,
                state: connection.data.state,
                calls: self.calls.of_connection(index).count() as u32,
                created: connection.created,
                last_seen: connection.silence().0,
                rule: connection.policy.rule.clone(),
                service: connection.policy.service.clone(),
                alg: connection.policy.alg.clone(),
            })
            .collect();
        views.sort_by_key(|view| view.flow);
        views
    }

    /// Live calls, sorted by flow and PNS Call ID.
    pub fn calls(&self) -> Vec<CallView> {
        let mut views: Vec<CallView> = self
            .calls
            .iter()
            .filter_map(|(_, call)| {
                let connection = self.connections.get(call.connection)?;
                let policy = &connection.policy;
                Some(CallView {
                    flow: connection.flow,
                    external: call.external,
                    external_port: connection.external_port,
                    pns_id: call.data.pns.map(|pns| pns.client),
                    translated_id: call.data.pns.map(|pns| pns.translated),
                    pac_id: call.data.pac,
                    pac_id_outside: call.data.pac,
                    tunnel: None,
                    direction: call.data.direction,
                    state: call.data.state,
                    up: call.data.up.traffic,
                    down: call.data.down.traffic,
                    created: call.data.created,
                    last_seen: call.data.last_seen,
                    rule: policy.rule.clone(),
                    service: policy.service.clone(),
                    alg: policy.alg.clone(),
                })
            })
            .collect();
        views.sort_by_key(|view| (view.flow, view.pns_id, view.pac_id));
        views
    }

    /// How many live calls each rule, service and ALG has; those without calls are left out.
    pub fn calls_by_object(&self) -> CallsByObject {
        // Connections share their policies: counted by place first, by name afterwards.
        let mut counted: BTreeMap<*const crate::Policy, (&crate::Policy, u64)> = BTreeMap::new();
        for (_, call) in self.calls.iter() {
            if let Some(connection) = self.connections.get(call.connection) {
                let policy = &connection.policy;
                counted.entry(Arc::as_ptr(policy)).or_insert((policy, 0)).1 += 1;
            }
        }
        let mut by = CallsByObject::default();
        for (policy, count) in counted.into_values() {
            let names =
                [(&mut by.rules, &policy.rule), (&mut by.services, &policy.service), (&mut by.algs, &policy.alg)];
            for (counts, name) in names {
                *counts.entry(name.clone()).or_default() += count;
            }
        }
        by
    }

    fn live(&self) -> impl Iterator<Item = (u32, &Connection)> {
        self.connections.iter().filter(|(_, connection)| connection.ended.is_none())
    }

    /// How many control connections are live.
    pub fn connection_count(&self) -> usize {
        self.live_connections as usize
    }

    /// Whether there is no control connection, not even one that is over and whose ends may still say something.
    pub fn is_idle(&self) -> bool {
        self.connections.len() == 0
    }

    /// External address and flow of each live control connection, in no order.
    pub fn connection_ends(&self) -> impl Iterator<Item = (Ipv4Addr, Flow)> {
        self.live().map(|(_, connection)| (connection.external, connection.flow))
    }

    /// How many calls are live.
    pub fn call_count(&self) -> usize {
        self.calls.len()
    }

    /// External addresses in use: the shell has to tap them, also after a restart.
    pub fn external_addresses(&self) -> BTreeSet<Ipv4Addr> {
        self.connections.iter().map(|(_, connection)| connection.external).collect()
    }
}
