//! Calls as JSON writes them (docs/cli.md has the shape), sorted by client, then server.

use std::net::Ipv4Addr;

use callgate_proto::pb;
use serde::Serialize;

use crate::human;
use crate::output::there;

/// All live calls at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CallsView {
    /// RFC 3339, UTC.
    pub taken: Option<String>,
    /// Sorted by client, server, Call IDs.
    pub calls: Vec<CallView>,
    /// Of a cluster: nodes whose calls are not among them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<MissingView>,
}

/// A node that did not answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MissingView {
    /// Its name.
    pub node: String,
    /// RFC 3339, UTC: since when its agent is away, where that is known.
    pub since: Option<String>,
    /// Why, for people.
    pub message: String,
}

/// One end of a control connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct End {
    /// IPv4 address.
    pub address: String,
    /// TCP port.
    pub port: u32,
}

/// GRE of one direction of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Traffic {
    /// Packets.
    pub packets: u64,
    /// Bytes, IPv4 headers included.
    pub bytes: u64,
    /// Packets that never came by, by gaps in the sequence numbers.
    pub lost: u64,
}

/// One call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CallView {
    /// The PNS.
    pub client: End,
    /// The node that carries it; of a cluster only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// `namespace/name` of the client's pod, where it is known.
    pub pod: Option<String>,
    /// The PAC.
    pub server: End,
    /// The gateway as the server sees it.
    pub external: End,
    /// PNS's Call ID as the client knows it.
    pub pns_call_id: Option<u32>,
    /// PNS's Call ID between gateway and server.
    pub pns_call_id_outside: Option<u32>,
    /// PAC's Call ID as the client knows it.
    pub pac_call_id: Option<u32>,
    /// PAC's Call ID as the server knows it; only of calls in a tunnel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pac_call_id_outside: Option<u32>,
    /// The tunnel that carries it; only in `Shared`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<u64>,
    /// `Outgoing`, `Incoming`.
    pub direction: &'static str,
    /// `Requested`, `Accepted`, `Up`.
    pub state: &'static str,
    /// Client to server.
    pub tx: Traffic,
    /// Server to client.
    pub rx: Traffic,
    /// Milliseconds since the request.
    pub age_ms: u64,
    /// Milliseconds since the last GRE packet.
    pub idle_ms: u64,
    /// `namespace/name` of the IpRule.
    pub rule: String,
    /// `namespace/name` of the Service.
    pub service: String,
    /// `namespace/name` of the PptpAlg.
    pub alg: String,
}

impl From<pb::CallList> for CallsView {
    fn from(list: pb::CallList) -> Self {
        let mut calls: Vec<CallView> = list.calls.into_iter().map(CallView::from).collect();
        calls.sort_by(|a, b| a.order().cmp(&b.order()));
        let missing = list.missing.into_iter().map(|node| MissingView {
            node: node.node,
            since: human::time(node.since_unix_ms),
            message: node.message,
        });
        Self { taken: human::time(list.taken_unix_ms), calls, missing: missing.collect() }
    }
}

impl CallView {
    #[allow(clippy::type_complexity)]
    fn order(&self) -> (EndOrder<'_>, EndOrder<'_>, Option<u32>, Option<u32>) {
        (self.client.order(), self.server.order(), self.pns_call_id_outside, self.pac_call_id)
    }
}

/// Addresses by number; what is no address comes first, by its text.
type EndOrder<'a> = (Option<Ipv4Addr>, &'a str, u32);

impl End {
    fn order(&self) -> EndOrder<'_> {
        (self.address.parse().ok(), &self.address, self.port)
    }
}

impl From<pb::Call> for CallView {
    fn from(call: pb::Call) -> Self {
        let direction = match call.direction() {
            pb::Direction::Unspecified => "Unknown",
            pb::Direction::Outgoing => "Outgoing",
            pb::Direction::Incoming => "Incoming",
        };
        let state = match call.state() {
            pb::CallState::Unspecified => "Unknown",
            pb::CallState::Requested => "Requested",
            pb::CallState::Accepted => "Accepted",
            pb::CallState::Up => "Up",
        };
        Self {
            client: End { address: call.client_address, port: call.client_port },
            node: there(call.node),
            pod: there(call.pod),
            server: End { address: call.server_address, port: call.server_port },
            external: End { address: call.external_address, port: call.external_port },
            pns_call_id: call.pns_call_id,
            pns_call_id_outside: call.pns_call_id_outside,
            pac_call_id: call.pac_call_id,
            pac_call_id_outside: call.pac_call_id_outside,
            tunnel: call.tunnel,
            direction,
            state,
            tx: call.tx.unwrap_or_default().into(),
            rx: call.rx.unwrap_or_default().into(),
            age_ms: call.age_ms,
            idle_ms: call.idle_ms,
            rule: call.rule,
            service: call.service,
            alg: call.alg,
        }
    }
}

impl From<pb::Traffic> for Traffic {
    fn from(traffic: pb::Traffic) -> Self {
        let pb::Traffic { packets, bytes, lost } = traffic;
        Self { packets, bytes, lost }
    }
}
