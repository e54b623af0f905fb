//! Sessions, connections to servers, and the group that shares connections: one (external address, server, PptpAlg).

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::line::Line;
use super::types::{SessionId, UpstreamId};
use crate::engine::Traffic;
use crate::types::{Flow, Now, Policy};
use crate::wire::control::StartReply;

/// Number of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct GroupId(pub(super) u32);

/// What has to be equal for two calls to share a connection.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct GroupKey {
    pub(super) external: Ipv4Addr,
    pub(super) server: Ipv4Addr,
    pub(super) server_port: u16,
    pub(super) alg: String,
    /// Auto, and nothing is known against it: this session's own. `None`: of all who share.
    pub(super) own: Option<SessionId>,
}

/// Sessions and connections that belong together.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) key: GroupKey,
    /// Sessions whose first message is in.
    pub(super) sessions: BTreeSet<SessionId>,
    /// Those of them that wait for their answer.
    pub(super) pending: BTreeSet<SessionId>,
    pub(super) upstreams: BTreeSet<UpstreamId>,
    /// Those of them that are answered, and those of these that take another call.
    pub(super) open: BTreeSet<UpstreamId>,
    pub(super) free: BTreeSet<UpstreamId>,
    /// Those that would, but have much to read before.
    pub(super) crowded: BTreeSet<UpstreamId>,
    /// Calls that wait for a connection: how many the client had before, serial number, index. So nobody's second call
    /// goes before another's first.
    pub(super) waiting: BTreeSet<(u32, u64, u32)>,
    /// How the server has introduced itself.
    pub(super) server: Option<StartReply>,
    /// Calls it takes on one connection, once it has said so.
    pub(super) channels: Option<u16>,
    /// Tries that have failed in a row.
    pub(super) failures: u32,
    /// No try before this moment.
    pub(super) not_before: Option<Now>,
    /// It has refused a further connection beside those it has: none before this moment.
    pub(super) full_until: Option<Now>,
    pub(super) armed: Option<Now>,
}

impl Group {
    pub(super) fn new(key: GroupKey) -> Self {
        Self {
            key,
            sessions: BTreeSet::new(),
            pending: BTreeSet::new(),
            upstreams: BTreeSet::new(),
            open: BTreeSet::new(),
            free: BTreeSet::new(),
            crowded: BTreeSet::new(),
            waiting: BTreeSet::new(),
            server: None,
            channels: None,
            failures: 0,
            not_before: None,
            full_until: None,
            armed: None,
        }
    }

    /// Nobody will ever use its connections again.
    pub(super) fn is_abandoned(&self) -> bool {
        self.key.own.is_some() && self.sessions.is_empty()
    }
}

/// How far a client's session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum SessionState {
    /// Its first message is not whole.
    AwaitingStart,
    /// It is, and waits for a connection to the server.
    Pending(Now),
    /// Answered.
    Open,
    /// We have said goodbye.
    Leaving(Now),
}

/// A client's control connection.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) flow: Flow,
    pub(super) external: Ipv4Addr,
    pub(super) policy: Arc<Policy>,
    pub(super) group: Option<GroupId>,
    pub(super) state: SessionState,
    pub(super) created: Now,
    /// Auto: it has connections to the server of its own as long as the server takes them.
    pub(super) apart: bool,
    /// What is to be said to it behind the answer to its first message.
    pub(super) early: Vec<Vec<u8>>,
    pub(super) line: Line,
}

/// How far a connection to a server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum UpstreamState {
    /// TCP is under way.
    Connecting,
    /// Our first message is sent.
    Starting,
    /// Answered.
    Open,
    /// We have said goodbye.
    Stopping,
}

/// A connection to a server.
#[derive(Debug)]
pub(super) struct Upstream {
    pub(super) group: GroupId,
    pub(super) policy: Arc<Policy>,
    pub(super) state: UpstreamState,
    /// Since when it is in this state.
    pub(super) since: Now,
    /// Calls that fit on it.
    pub(super) channels: u16,
    /// Calls on it, also those whose end the server has not confirmed.
    pub(super) load: u32,
    /// Since when it has no call.
    pub(super) idle_since: Now,
    /// GRE of its calls that have ended, up and down.
    pub(super) carried: (Traffic, Traffic),
    pub(super) line: Line,
}

impl Upstream {
    /// Further calls that fit on it.
    pub(super) fn room(&self) -> u32 {
        u32::from(self.channels).saturating_sub(self.load)
    }
}
