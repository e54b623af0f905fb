//! Durable state: what the shell writes down before its effect, and reads back at a start.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::connection::ConnectionData;
use crate::types::{Flow, Now};

/// One step of durable state. A journal of them in order is the state; `Engine::records` gives the shortest one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// A connection is, from now on, this (whole record; replaces an earlier one of the same `id`).
    Put(Box<ConnectionRecord>),
    /// The connection with this `id` is over.
    Remove(u64),
    /// A port or Call ID must not be given out for a while.
    Quarantine(Quarantined),
}

/// A port or Call ID in quarantine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Quarantined {
    /// External address.
    pub external: Ipv4Addr,
    /// Server address.
    pub server: Ipv4Addr,
    /// What is in quarantine.
    pub what: QuarantinedWhat,
    /// When it may be given out again.
    pub until: Now,
}

/// What is in quarantine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QuarantinedWhat {
    /// An external TCP port towards `server_port`.
    Port {
        /// The server's TCP port.
        server_port: u16,
        /// The external port.
        port: u16,
    },
    /// A translated Call ID.
    CallId(u16),
}

/// A control connection with its calls. Opaque to the shell except for its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionRecord {
    /// Number of the connection.
    pub id: u64,
    /// The connection as the client knows it.
    pub flow: Flow,
    /// External address.
    pub external: Ipv4Addr,
    /// External TCP port.
    pub external_port: u16,
    /// Everything else.
    pub(crate) data: ConnectionData,
}
