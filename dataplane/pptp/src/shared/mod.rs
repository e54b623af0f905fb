//! `controlConnection: Shared`: ends control connections on both legs and carries the calls of all clients over as few
//! connections to each server as its Max Channels allows. Bytes and `now` in, commands out.
//!
//! ```text
//!  client A ── session ─┐                               ┌─ upstream ── server, Max Channels k
//!  client B ── session ─┼─ group (external, server, ────┼─ upstream ── (only when k calls are on the first)
//!  client C ── session ─┘   PptpAlg): who waits, who    └─ …
//!                           is next, back-off, linger
//!
//!  client_*   ─► line ─► client    ─► requests ─┐                     ┌─► Write, Close, Reset (legs)
//!  upstream_* ─► line ─► server    ─► replies  ─┼─► calls ─► ends ────┼─► Open (a connection to a server)
//!  handle_timeout ─► time                       │     │               └─► Persist, Note
//!                            dispatch ◄─────────┘     └─ gre, icmp: packets rewritten in place, both ways
//! ```
//!
//! Call IDs, quarantine, `maxCalls`, `maxSessions` and what one client may have come from the in-path [`Engine`], which is lent to each input; so both
//! modes may serve the same server at once. After every call the shell drains `poll_command`. `freeze` and `thaw` carry everything
//! over to another process.

mod auto;
mod calls;
mod client;
mod config;
mod counters;
mod dispatch;
mod display;
mod ends;
mod event;
mod freeze;
mod frozen;
mod gre;
mod group;
mod icmp;
mod learner;
mod line;
mod open;
mod policy;
mod repeated;
mod replies;
mod requests;
mod server;
mod thaw;
mod time;
mod types;
mod view;

#[doc(hidden)]
pub use calls::CallSizes;
pub use config::{Config, Identity};
pub use counters::Counters;
pub use event::{CallEnd, CallNames, Event, Refusal, SessionEnd, StartFailure, UpstreamEnd};
pub use frozen::{Frozen, ThawError};
pub use learner::{Learned, Why};
pub use types::{Command, ConnectError, Gone, Leg, SessionId, UpstreamId};
pub use view::{SessionState, SessionView, TunnelState, TunnelView};

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::Ipv4Addr;

use calls::Calls;
use gre::Fragments;
use group::{Group, GroupId, GroupKey, Session, Upstream};
use learner::Learner;
use time::Owner;

use crate::engine::policies::Policies;
use crate::engine::random::Random;
use crate::engine::timers::Timers;
use crate::engine::{Engine, Limits};
use crate::types::Now;
use crate::wire::control::{ControlType, Header};

/// What an input brings along besides itself.
struct Cx<'a> {
    engine: &'a mut Engine,
    now: Now,
}

/// Entries in each table.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Sizes {
    pub calls: CallSizes,
    pub sessions: usize,
    pub upstreams: usize,
    pub groups: usize,
    pub half_open: usize,
}

/// The shared mode of one node.
#[derive(Debug)]
pub struct Shared {
    config: Config,
    limits: Limits,
    counters: Counters,
    commands: VecDeque<Command>,
    sessions: BTreeMap<SessionId, Session>,
    /// Sessions that are gone.
    gone: u64,
    upstreams: BTreeMap<UpstreamId, Upstream>,
    groups: BTreeMap<GroupId, Group>,
    by_key: BTreeMap<GroupKey, GroupId>,
    calls: Calls,
    /// Sessions of a client whose first message is not in.
    half_open: BTreeMap<Ipv4Addr, u32>,
    /// One copy of each policy in use, by rule, service and ALG.
    policies: Policies,
    /// Groups in which something may be done now.
    dirty: BTreeSet<GroupId>,
    timers: Timers<Owner>,
    fragments: Fragments,
    random: Random,
    learner: Learner,
    next_id: u64,
    next_group: u32,
}

impl Shared {
    /// Without any session. `limits` are those of the in-path engine; `seed` decides ids of our choice, jitter and how
    /// tables are hashed.
    pub fn new(config: Config, limits: Limits, seed: u64) -> Self {
        Self {
            learner: Learner::new(config.learned_ms),
            config,
            limits,
            counters: Counters::default(),
            commands: VecDeque::new(),
            sessions: BTreeMap::new(),
            gone: 0,
            upstreams: BTreeMap::new(),
            groups: BTreeMap::new(),
            by_key: BTreeMap::new(),
            calls: Calls::new(seed),
            half_open: BTreeMap::new(),
            policies: Policies::default(),
            dirty: BTreeSet::new(),
            timers: Timers::default(),
            fragments: Fragments::default(),
            random: Random::new(seed),
            next_id: 1,
            next_group: 1,
        }
    }

    /// The next effect, in order; `None` when there is nothing (more) to do.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// When `handle_timeout` has to be called next; may change with every call of another method.
    pub fn poll_timeout(&self) -> Option<Now> {
        self.timers.next()
    }

    /// Totals since it was made.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// The configuration it was made with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The kernel has taken so many octets of what was to be written to this leg.
    pub fn written(&mut self, leg: Leg, octets: usize, engine: &mut Engine, now: Now) {
        match leg {
            Leg::Client(id) => {
                if let Some(session) = self.sessions.get_mut(&id) {
                    session.line.written(octets, now);
                }
            }
            Leg::Upstream(id) => {
                let was_crowded = self.is_crowded(id);
                let Some(upstream) = self.upstreams.get_mut(&id) else { return };
                upstream.line.written(octets, now);
                let group = upstream.group;
                if was_crowded && !self.is_crowded(id) {
                    self.refresh_free(id);
                    self.dirty.insert(group);
                    self.settle(&mut Cx { engine, now });
                }
            }
        }
    }

    fn note(&mut self, event: Event) {
        self.commands.push_back(Command::Note(event));
    }

    /// One message to a client. What does not answer its first message or its last waits for the answer to the first.
    fn say_to_client(&mut self, id: SessionId, message: Vec<u8>, now: Now) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let kind = Header::parse(&message).map(|header| header.control_type);
        let answers = [Ok(ControlType::StartReply as u16), Ok(ControlType::StopReply as u16)].contains(&kind);
        if matches!(session.state, group::SessionState::Pending(_)) && !answers {
            session.early.push(message);
            return;
        }
        session.line.write(message.len(), now);
        self.counters.messages_to_clients += 1;
        self.commands.push_back(Command::Write { leg: Leg::Client(id), message });
        self.arm_session(id);
    }

    /// One message to a server.
    fn say_to_server(&mut self, id: UpstreamId, message: Vec<u8>, now: Now) {
        let Some(upstream) = self.upstreams.get_mut(&id) else { return };
        upstream.line.write(message.len(), now);
        self.counters.messages_to_servers += 1;
        self.commands.push_back(Command::Write { leg: Leg::Upstream(id), message });
        if self.is_crowded(id) {
            self.refresh_free(id);
        }
        self.arm_upstream(id);
    }

    fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id - 1
    }

    /// Entries in each table, for tests that look for leaks.
    #[doc(hidden)]
    pub fn sizes(&self) -> Sizes {
        Sizes {
            calls: self.calls.sizes(),
            sessions: self.sessions.len(),
            upstreams: self.upstreams.len(),
            groups: self.groups.len(),
            half_open: self.half_open.len(),
        }
    }
}
