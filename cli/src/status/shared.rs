//! Tunnels of the shared mode, and the servers that Auto knows to take one control connection only.

use callgate_proto::pb;
use serde::Serialize;

use crate::calls::view::{End, Traffic};
use crate::human;
use crate::table::{Align, Table};

/// A control connection that carries calls of many clients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TunnelView {
    tunnel: u64,
    external: End,
    server: End,
    alg: String,
    state: String,
    channels: u32,
    calls: u32,
    tx: Traffic,
    rx: Traffic,
    age_ms: u64,
    idle_ms: u64,
}

/// A server that takes one control connection of an address only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LearnedView {
    server: End,
    reason: String,
    message: String,
    since: Option<String>,
    seen: Option<String>,
    until: Option<String>,
}

impl From<pb::Tunnel> for TunnelView {
    fn from(tunnel: pb::Tunnel) -> Self {
        Self {
            tunnel: tunnel.tunnel,
            external: End { address: tunnel.external_address, port: tunnel.external_port },
            server: End { address: tunnel.server_address, port: tunnel.server_port },
            alg: tunnel.alg,
            state: tunnel.state,
            channels: tunnel.channels,
            calls: tunnel.calls,
            tx: tunnel.tx.unwrap_or_default().into(),
            rx: tunnel.rx.unwrap_or_default().into(),
            age_ms: tunnel.age_ms,
            idle_ms: tunnel.idle_ms,
        }
    }
}

impl From<pb::LearnedServer> for LearnedView {
    fn from(server: pb::LearnedServer) -> Self {
        Self {
            server: End { address: server.server_address, port: server.server_port },
            reason: server.reason,
            message: server.message,
            since: human::time(server.since_unix_ms),
            seen: human::time(server.seen_unix_ms),
            until: human::time(server.until_unix_ms),
        }
    }
}

/// One row a tunnel.
pub(super) fn tunnels(reply: &pb::StatusReply) -> Table {
    let mut table = Table::new(&[
        ("TUNNEL", Align::Right),
        ("EXTERNAL", Align::Left),
        ("SERVER", Align::Left),
        ("STATE", Align::Left),
        ("CALLS", Align::Right),
        ("CHANNELS", Align::Right),
        ("TX", Align::Right),
        ("RX", Align::Right),
        ("AGE", Align::Right),
        ("PPTPALG", Align::Left),
    ]);
    for tunnel in &reply.tunnels {
        let traffic = |of: &Option<pb::Traffic>| {
            let of = of.unwrap_or_default();
            format!("{}/{}", of.packets, human::bytes(of.bytes))
        };
        table.row([
            tunnel.tunnel.to_string(),
            format!("{}:{}", tunnel.external_address, tunnel.external_port),
            format!("{}:{}", tunnel.server_address, tunnel.server_port),
            tunnel.state.clone(),
            tunnel.calls.to_string(),
            if tunnel.channels == 0 { "-".into() } else { tunnel.channels.to_string() },
            traffic(&tunnel.tx),
            traffic(&tunnel.rx),
            human::duration(tunnel.age_ms),
            tunnel.alg.clone(),
        ]);
    }
    table
}

/// One row a server.
pub(super) fn learned(reply: &pb::StatusReply, now_unix_ms: i64) -> Table {
    let columns = ["SERVER", "KNOWN SINCE", "LAST SEEN", "FORGOTTEN AT", "WHY"];
    let mut table = Table::new(&columns.map(|column| (column, Align::Left)));
    for server in &reply.learned {
        table.row([
            format!("{}:{}", server.server_address, server.server_port),
            human::since(now_unix_ms, server.since_unix_ms),
            human::since(now_unix_ms, server.seen_unix_ms),
            human::time(server.until_unix_ms).unwrap_or_else(|| "-".into()),
            server.message.clone(),
        ]);
    }
    table
}
