//! What is told about each object: decided by pure functions, written in one place.
//!
//! ```text
//!   Statuses (compile) ─┐
//!   latest snapshots ───┼─► object: conditions, counters ─┐
//!   fleet (answers) ────┤                                 ├─► verdict: a difference? ─► due ─► requests
//!   what stands there ──┴─► node: EgressNode ─────────────┘                              └──► events, tell
//! ```
//! Programmed follows from what agents have answered, never from what they were sent.

pub mod apply;
pub mod complaints;
pub mod dirty;
pub mod due;
pub mod events;
pub mod leaving;
pub mod node;
pub mod object;
mod programmed;
pub mod requests;
pub mod tell;
pub mod verdict;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::fleet::Fleet;
use crate::moment::Moment;
use crate::snapshot::Snapshot;

pub use programmed::{Progress, programmed};

/// Everything that is known at one moment.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// What every node should run.
    pub wanted: &'a BTreeMap<String, Arc<Snapshot>>,
    /// What agents have said.
    pub fleet: &'a Fleet,
    /// When this operator began to serve agents.
    pub serving_since: Moment,
    /// Now.
    pub now: Moment,
}

/// How long an agent may be away (a rolled DaemonSet, a broken connection) before what it answered is not relied on any more.
pub const GRACE: Duration = Duration::from_secs(30);

/// How long after its start an operator waits for agents before it writes that they are missing: they come back within a
/// few seconds, and every condition would move twice for nothing.
pub const START_HOLD: Duration = Duration::from_secs(10);

impl View<'_> {
    /// Whether this operator serves for so short a time that agents which are not there may be on their way.
    pub fn is_new(&self) -> bool {
        self.now.since(self.serving_since) < START_HOLD
    }

    /// Whether the agent of a node on which none has been yet may be on its way: this operator serves since a short time, or the node
    /// has come a short time ago, and its agent's image is still being pulled.
    pub fn may_come(&self, node: &str) -> bool {
        let awaited = self.fleet.awaited_since(node).is_some_and(|since| self.now.since(since) < GRACE);
        self.fleet.get(node).is_none() && (awaited || self.now.since(self.serving_since) < GRACE)
    }

    /// Whether a node has come to have something to do since this operator has its agents, and its own may be on its way.
    pub fn has_just_come(&self, node: &str) -> bool {
        let since = self.fleet.awaited_since(node).filter(|since| since.since(self.serving_since) >= START_HOLD);
        since.is_some() && self.may_come(node)
    }

    /// Whether there is nothing to wait for any more: every node that has something to do has its agent, or has had time.
    pub fn is_settled(&self) -> bool {
        let waiting = |node: &String, snapshot: &Snapshot| {
            !snapshot.config.sources.is_empty() && self.fleet.get(node).is_none_or(|agent| agent.stream.is_none())
        };
        !self.is_new() || !self.wanted.iter().any(|(node, snapshot)| waiting(node, snapshot))
    }
}
