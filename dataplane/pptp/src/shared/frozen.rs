//! The whole state of the shared mode as plain values, for the process that goes on with it. Written and read as it is; what reads
//! it checks it (`thaw`).
//!
//! Not in it: GRE that is held for a moment, ways of fragments, counters. Whatever follows from the rest is found again.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::calls::Stage;
use super::group::{SessionState, UpstreamState};
use super::learner::Learned;
use super::types::{SessionId, UpstreamId};
use crate::engine::call::Meter;
use crate::engine::{CallDirection, Traffic};
use crate::types::{Flow, Now, Policy};

/// The form of what follows. Whoever changes a field's meaning counts it up: another one is refused, not guessed at.
pub(super) const VERSION: u32 = 1;

/// Sessions, connections to servers, calls, their ids and deadlines at one moment, between two inputs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frozen {
    pub(super) version: u32,
    /// When it was so.
    pub(super) at: Now,
    pub(super) random: u64,
    pub(super) last_fragment: u16,
    /// The next session or connection, group, call.
    pub(super) next: (u64, u32, u64),
    /// Others refer to these by their places.
    pub(super) policies: Vec<Policy>,
    pub(super) groups: Vec<FrozenGroup>,
    pub(super) sessions: Vec<FrozenSession>,
    pub(super) upstreams: Vec<FrozenUpstream>,
    pub(super) calls: Vec<FrozenCall>,
    /// Places between those of the calls, the one that is taken next last.
    pub(super) free: Vec<u32>,
    pub(super) resting: Vec<FrozenRest>,
    pub(super) learned: Vec<Learned>,
}

/// One external address, server and PptpAlg.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FrozenGroup {
    pub(super) id: u32,
    pub(super) external: Ipv4Addr,
    pub(super) server: Ipv4Addr,
    pub(super) server_port: u16,
    pub(super) alg: String,
    pub(super) own: Option<SessionId>,
    /// Start-Control-Connection-Reply of the server.
    pub(super) answer: Option<Vec<u8>>,
    pub(super) channels: Option<u16>,
    pub(super) failures: u32,
    pub(super) not_before: Option<Now>,
    pub(super) full_until: Option<Now>,
}

/// What both legs have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FrozenLine {
    /// What is in of a message that is not whole.
    pub(super) input: Vec<u8>,
    pub(super) unwritten: usize,
    pub(super) progress: Now,
    pub(super) heard: Now,
    pub(super) probed: Option<Now>,
}

/// A client's control connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FrozenSession {
    pub(super) id: SessionId,
    pub(super) flow: Flow,
    pub(super) external: Ipv4Addr,
    pub(super) policy: usize,
    pub(super) group: Option<u32>,
    pub(super) state: SessionState,
    pub(super) created: Now,
    pub(super) apart: bool,
    pub(super) early: Vec<Vec<u8>>,
    pub(super) line: FrozenLine,
}

/// A connection to a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FrozenUpstream {
    pub(super) id: UpstreamId,
    pub(super) group: u32,
    pub(super) policy: usize,
    pub(super) state: UpstreamState,
    pub(super) since: Now,
    pub(super) channels: u16,
    pub(super) idle_since: Now,
    pub(super) carried: (Traffic, Traffic),
    pub(super) line: FrozenLine,
}

/// One call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FrozenCall {
    /// Its place.
    pub(super) index: u32,
    pub(super) serial: u64,
    pub(super) group: u32,
    pub(super) policy: usize,
    pub(super) session: Option<SessionId>,
    pub(super) upstream: Option<UpstreamId>,
    pub(super) direction: CallDirection,
    pub(super) stage: Stage,
    /// The PNS's Call ID: what the client knows, what the server knows.
    pub(super) pns: (Option<u16>, Option<u16>),
    /// The PAC's.
    pub(super) pac: (Option<u16>, Option<u16>),
    /// The client to which the Call ID towards the server is counted.
    #[serde(default)]
    pub(super) lent_to: Option<Ipv4Addr>,
    /// Outgoing-Call-Request of the client, or Incoming-Call-Request of the server.
    pub(super) asked_by: Option<Vec<u8>>,
    pub(super) rank: u32,
    pub(super) retried: bool,
    pub(super) asked: Vec<SessionId>,
    /// Since when its end is wanted, and whether the server has been told.
    pub(super) clearing: Option<(Now, bool)>,
    pub(super) created: Now,
    pub(super) up: Meter,
    pub(super) down: Meter,
}

/// A PAC's Call ID that a client knew until a moment ago.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FrozenRest {
    pub(super) client: Ipv4Addr,
    pub(super) server: Ipv4Addr,
    pub(super) id: u16,
    pub(super) until: Now,
}

/// Why one cannot go on from a frozen state.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ThawError {
    /// Another version of the gateway has written it.
    #[error("it has version {0}, and this gateway reads version {VERSION}")]
    Version(u32),
    /// Something refers to what is not there, or is there twice, or is not what a message has to be.
    #[error("{0} does not fit the rest")]
    Contradiction(String),
    /// Somebody else has what it needs.
    #[error("{0} is in use by something else")]
    Taken(String),
    /// It was taken at a time that is yet to come.
    #[error("it was taken {0} ms after now: the clock is another")]
    Future(u64),
}

impl Frozen {
    /// When it was taken.
    pub fn at(&self) -> Now {
        self.at
    }
}
