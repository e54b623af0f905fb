//! What a cluster's status has beyond an agent's: its nodes, and the networks that are taken as its own.

use callgate_proto::pb;
use serde::Serialize;

use super::text::because;
use crate::human;
use crate::output::there;
use crate::table::{Align, Table};

/// A node as JSON writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NodeView {
    node: String,
    attached: bool,
    /// RFC 3339, UTC: since when it is attached or not.
    since: Option<String>,
    version: Option<String>,
    config_hash: Option<String>,
    wanted_hash: Option<String>,
    programmed: bool,
    reason: String,
    message: String,
    connections: u64,
    calls: u64,
}

/// A network of the cluster's own, and where it was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct NetView {
    net: String,
    found: String,
}

impl From<pb::NodeStatus> for NodeView {
    fn from(node: pb::NodeStatus) -> Self {
        let programmed = node.programmed.unwrap_or_default();
        Self {
            node: node.node,
            attached: node.attached,
            since: human::time(node.since_unix_ms),
            version: there(node.version),
            config_hash: there(node.config_hash),
            wanted_hash: there(node.wanted_hash),
            programmed: programmed.value,
            reason: programmed.reason,
            message: programmed.message,
            connections: node.connections,
            calls: node.calls,
        }
    }
}

impl From<pb::ClusterNet> for NetView {
    fn from(net: pb::ClusterNet) -> Self {
        Self { net: net.net, found: net.found }
    }
}

/// One row a node.
pub(super) fn nodes(reply: &pb::StatusReply, now_unix_ms: i64) -> Table {
    let mut table = Table::new(&[
        ("NODE", Align::Left),
        ("AGENT", Align::Left),
        ("VERSION", Align::Left),
        ("PROGRAMMED", Align::Left),
        ("CONNECTIONS", Align::Right),
        ("CALLS", Align::Right),
        ("MESSAGE", Align::Left),
    ]);
    for node in &reply.nodes {
        let programmed = node.programmed.clone().unwrap_or_default();
        let attached = if node.attached { "attached" } else { "AWAY" };
        let agent = match node.since_unix_ms {
            0 => attached.to_owned(),
            since => format!("{attached}, {}", human::since(now_unix_ms, since)),
        };
        let message = if programmed.value { String::new() } else { because(&programmed.reason, &programmed.message) };
        table.row([
            node.node.clone(),
            agent,
            there(node.version.clone()).unwrap_or_else(|| "-".into()),
            if programmed.value { "yes" } else { "NO" }.into(),
            node.connections.to_string(),
            node.calls.to_string(),
            message.trim().to_owned(),
        ]);
    }
    table
}

/// One row a network.
pub(super) fn nets(reply: &pb::StatusReply) -> Table {
    let mut table = Table::new(&[("NETWORK", Align::Left), ("FOUND", Align::Left)]);
    for net in &reply.cluster_nets {
        table.row([net.net.clone(), net.found.clone()]);
    }
    table
}
