//! Live sessions, tunnels and calls as people see them: plain values.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::calls::Stage;
use super::types::{SessionId, UpstreamId};
use super::{Shared, group};
use crate::engine::{CallState, CallView, CallsByObject, Traffic};
use crate::types::{Flow, Now};

/// How far a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SessionState {
    /// Its first message is not whole.
    AwaitingStart,
    /// It waits for a connection to the server.
    AwaitingServer,
    /// Answered.
    Established,
    /// Told to go.
    Closing,
}

/// How far a tunnel is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TunnelState {
    /// Ordered, connecting, or not answered yet.
    Opening,
    /// Answered.
    Established,
    /// Told to go.
    Closing,
}

/// A client's control connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionView {
    /// Its name.
    pub session: SessionId,
    /// The connection as the client knows it.
    pub flow: Flow,
    /// The gateway's address towards the server.
    pub external: Ipv4Addr,
    /// How far it is.
    pub state: SessionState,
    /// Its live calls.
    pub calls: u32,
    /// When it was accepted.
    pub created: Now,
    /// When its last message came.
    pub last_seen: Now,
    /// `namespace/name` of the rule.
    pub rule: String,
}

/// A control connection to a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunnelView {
    /// Its name.
    pub tunnel: UpstreamId,
    /// The gateway's address.
    pub external: Ipv4Addr,
    /// The server.
    pub server: Ipv4Addr,
    /// Its port.
    pub server_port: u16,
    /// `namespace/name` of the PptpAlg.
    pub alg: String,
    /// How far it is.
    pub state: TunnelState,
    /// Calls the server takes on it; 0 while that is not known.
    pub channels: u16,
    /// Calls on it, also those whose end the server has not confirmed.
    pub calls: u32,
    /// GRE of all its calls so far, client to server.
    pub up: Traffic,
    /// GRE of all its calls so far, server to client.
    pub down: Traffic,
    /// Since when it is in its state.
    pub since: Now,
    /// When its last message came.
    pub last_seen: Now,
}

impl Shared {
    /// Live sessions, sorted by flow.
    pub fn sessions(&self) -> Vec<SessionView> {
        let mut views: Vec<SessionView> = self
            .sessions
            .iter()
            .map(|(&id, session)| SessionView {
                session: id,
                flow: session.flow,
                external: session.external,
                state: match session.state {
                    group::SessionState::AwaitingStart => SessionState::AwaitingStart,
                    group::SessionState::Pending(_) => SessionState::AwaitingServer,
                    group::SessionState::Open => SessionState::Established,
                    group::SessionState::Leaving(_) => SessionState::Closing,
                },
                calls: self.calls.of_session(id).count() as u32,
                created: session.created,
                last_seen: session.line.heard,
                rule: session.policy.rule.clone(),
            })
            .collect();
        views.sort_by_key(|view| (view.flow, view.session));
        views
    }

    /// Connections to servers, by name.
    pub fn tunnels(&self) -> Vec<TunnelView> {
        let view = |(&id, upstream): (&UpstreamId, &group::Upstream)| {
            let key = &self.groups.get(&upstream.group)?.key;
            let (mut up, mut down) = upstream.carried;
            for call in self.calls.of_upstream(id).filter_map(|index| self.calls.get(index)) {
                up += call.up.traffic;
                down += call.down.traffic;
            }
            Some(TunnelView {
                tunnel: id,
                external: key.external,
                server: key.server,
                server_port: key.server_port,
                alg: key.alg.clone(),
                state: match upstream.state {
                    group::UpstreamState::Connecting | group::UpstreamState::Starting => TunnelState::Opening,
                    group::UpstreamState::Open => TunnelState::Established,
                    group::UpstreamState::Stopping => TunnelState::Closing,
                },
                channels: upstream.channels,
                calls: upstream.load,
                up,
                down,
                since: upstream.since,
                last_seen: upstream.line.heard,
            })
        };
        self.upstreams.iter().filter_map(view).collect()
    }

    /// Calls clients have, in no order; `port`: the external port of a tunnel.
    pub fn calls(&self, port: &dyn Fn(UpstreamId) -> u16) -> Vec<CallView> {
        let view = |call: &super::calls::Call| {
            let flow = self.sessions.get(&call.session()?)?.flow;
            Some(CallView {
                flow,
                external: call.external,
                external_port: call.upstream.map_or(0, port),
                pns_id: call.client_pns,
                translated_id: call.server_pns,
                pac_id: call.client_pac,
                pac_id_outside: call.server_pac,
                tunnel: call.upstream.map(|upstream| upstream.0),
                direction: call.direction,
                state: match call.stage {
                    Stage::Waiting | Stage::Requested => CallState::Requested,
                    Stage::Accepted => CallState::Accepted,
                    Stage::Up => CallState::Up,
                },
                up: call.up.traffic,
                down: call.down.traffic,
                created: call.created,
                last_seen: call.up.last_payload.max(call.down.last_payload),
                rule: call.policy.rule.clone(),
                service: call.policy.service.clone(),
                alg: call.policy.alg.clone(),
            })
        };
        self.calls.iter().filter_map(|(_, call)| view(call)).collect()
    }

    /// Adds the calls clients have to those of the in-path mode.
    pub fn count_by_object(&self, by: &mut CallsByObject) {
        for (_, call) in self.calls.iter().filter(|(_, call)| call.client.is_some()) {
            let policy = &call.policy;
            let names =
                [(&mut by.rules, &policy.rule), (&mut by.services, &policy.service), (&mut by.algs, &policy.alg)];
            for (counts, name) in names {
                *counts.entry(name.clone()).or_default() += 1;
            }
        }
    }

    /// The clients' control connections, in no order.
    pub fn flows(&self) -> impl Iterator<Item = Flow> + '_ {
        self.sessions.values().map(|session| session.flow)
    }

    /// Those of them that are closed, and go when their clients have heard it or have had their time.
    pub fn leaving_flows(&self) -> impl Iterator<Item = Flow> + '_ {
        let leaving = self.sessions.values().filter(|session| matches!(session.state, group::SessionState::Leaving(_)));
        leaving.map(|session| session.flow)
    }

    /// How many sessions there were that are gone: it changes with what `flows` lacks since.
    pub fn sessions_gone(&self) -> u64 {
        self.gone
    }

    /// How many sessions there are.
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// How many calls clients have.
    pub fn client_call_count(&self) -> usize {
        self.calls.sizes().sessions
    }

    /// How many calls there are, those included whose client is gone and whose end the server has not confirmed.
    pub fn call_count(&self) -> usize {
        self.calls.len()
    }
}
