//! Durable state: what the shell writes down before its effect, and reads back at a start.
//!
//! ```text
//!  a change ─► Update { what changed } ─► journal, a line each ─► Replay (replay.rs) ─► engine (restore.rs)
//! ```

use std::net::Ipv4Addr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::call::CallData;
use super::connection::ConnectionData;
use crate::types::{Flow, Now, Policy, is_default};
use crate::wire::Seq;

/// One step of durable state. A journal of them in order is the state; `Engine::records` gives the shortest one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// What has changed of a connection and its calls.
    Update(Box<ConnectionUpdate>),
    /// A connection is, from now on, this, with these calls. Earlier versions wrote these; they are only read.
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

/// What has changed of a control connection, in one line: a torn one is wholly without effect. However many calls a connection
/// has, only those that changed are in it. Opaque to the shell except for its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionUpdate {
    /// Number of the connection.
    pub id: u64,
    /// In its first update, and when it has another policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) opened: Option<Opened>,
    pub(crate) data: ConnectionData,
    /// Calls that are new or have changed, by their numbers.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) calls: Vec<(u32, CallData)>,
    /// Numbers of calls that are over.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) over: Vec<u32>,
}

/// What is so for as long as a connection lives, but for the policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Opened {
    pub(crate) flow: Flow,
    pub(crate) external: Ipv4Addr,
    pub(crate) external_port: u16,
    #[serde(with = "shared")]
    pub(crate) policy: Arc<Policy>,
    pub(crate) client_isn: Seq,
    pub(crate) created: Now,
}

/// A control connection with all its calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionRecord {
    /// Number of the connection.
    pub id: u64,
    pub(crate) flow: Flow,
    pub(crate) external: Ipv4Addr,
    pub(crate) external_port: u16,
    pub(crate) data: RecordData,
}

/// The rest of such a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RecordData {
    #[serde(with = "shared")]
    pub(crate) policy: Arc<Policy>,
    pub(crate) client_isn: Seq,
    pub(crate) created: Now,
    #[serde(flatten)]
    pub(crate) data: ConnectionData,
    #[serde(default)]
    pub(crate) calls: Vec<CallData>,
}

/// What the journal does not have of a live connection.
#[derive(Debug, Default)]
pub(crate) struct Unsaved {
    /// It has been told what is in `Opened`.
    pub(crate) told: bool,
    /// Indices of calls.
    pub(crate) calls: Vec<u32>,
    /// Numbers of calls that are over.
    pub(crate) over: Vec<u32>,
    /// The call that was saved last though it had not changed.
    pub(crate) refreshed: u32,
}

/// A policy is saved with each connection that has it, and shared again when it is read back.
mod shared {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::types::Policy;

    pub(super) fn serialize<S: Serializer>(policy: &Arc<Policy>, serializer: S) -> Result<S::Ok, S::Error> {
        policy.as_ref().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<Policy>, D::Error> {
        Policy::deserialize(deserializer).map(Arc::new)
    }
}
