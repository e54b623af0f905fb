//! The whole ALG of a node: packets and `now` in, verdicts and commands out.
//!
//! ```text
//!  from_client / from_server ─► TCP  ─► connection ─► streams ─► control messages ─► calls
//!                            ├► GRE  ─► call table (flat) ─► rewritten in place
//!                            └► ICMP ─► inner header translated, or dropped
//!  handle_timeout ─► one deadline a connection ─► retransmit, time out, tell both sides
//!  poll_command  ◄─ Persist before Send, Note when somebody wants to know
//! ```
//!
//! After every call the shell drains `poll_command` and only then carries out the `Verdict`.

mod allocator;
mod call;
mod calls;
mod counters;
mod event;
mod hash;
mod limits;
mod pool;
mod random;
mod record;
mod slab;
mod timers;
mod view;

pub use counters::Counters;
pub use event::{CallEnd, CallIds, CallRefusal, CloseReason, Event, OpenRefusal, Severity};
pub use limits::Limits;
pub use record::{Change, ConnectionRecord, Quarantined, QuarantinedWhat};
pub use view::{CallDirection, CallState, CallView, ConnectionState, ConnectionView, Traffic};

use std::collections::{BTreeSet, VecDeque};
use std::net::Ipv4Addr;

use crate::types::{Admit, Command, Now, Policy, Side, Verdict};

/// The PPTP ALG of one node.
#[derive(Debug)]
pub struct Engine {
    limits: Limits,
    counters: Counters,
    commands: VecDeque<Command>,
}

impl Engine {
    /// An engine without any connection. `seed` decides where allocation starts and how tables are hashed.
    pub fn new(limits: Limits, _seed: u64) -> Self {
        Self { limits, counters: Counters::default(), commands: VecDeque::new() }
    }

    /// An engine as the journal left it. Nothing is sent; no time-out strikes before `Limits::restore_grace_ms`.
    pub fn restore(limits: Limits, seed: u64, _changes: impl IntoIterator<Item = Change>, _now: Now) -> Self {
        Self::new(limits, seed)
    }

    /// The shortest journal that restores this engine, for compaction. Deterministic order.
    pub fn records(&self) -> Vec<Change> {
        Vec::new()
    }

    /// An IPv4 packet from the pods' side (TCP to a service with an ALG, GRE, ICMP errors). Rewritten in place when
    /// the verdict is `Forward(Side::Server)`. `packet` is exactly one packet, from its IPv4 header on.
    pub fn from_client(&mut self, _packet: &mut [u8], _admit: &mut dyn Admit, _now: Now) -> Verdict {
        Verdict::Consumed
    }

    /// An IPv4 packet from outside, addressed to an external address. Rewritten in place when the verdict is
    /// `Forward(Side::Client)`.
    pub fn from_server(&mut self, _packet: &mut [u8], _now: Now) -> Verdict {
        Verdict::Consumed
    }

    /// The shell could not send `packet` (as rewritten) to `to` because it exceeds `mtu`: with DF set the sender is
    /// told by ICMP fragmentation-needed, without it fragments are queued as commands.
    pub fn too_big(&mut self, _packet: &[u8], _to: Side, _mtu: u16, _now: Now) {}

    /// The next effect, in order; `None` when there is nothing (more) to do.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// When `handle_timeout` has to be called next; may change with every call of another method.
    pub fn poll_timeout(&self) -> Option<Now> {
        None
    }

    /// Does what is due at `now`. Calling it early does nothing.
    pub fn handle_timeout(&mut self, _now: Now) {}

    /// After a change of configuration: `look_up` gives for a policy in use its new text, or `None` when the rule,
    /// service or ALG is gone; then its connections end and both sides are told.
    pub fn set_policies(&mut self, _look_up: &mut dyn FnMut(&Policy) -> Option<Policy>, _now: Now) {}

    /// Live control connections, sorted by flow.
    pub fn connections(&self) -> Vec<ConnectionView> {
        Vec::new()
    }

    /// Live calls, sorted by flow and PNS Call ID.
    pub fn calls(&self) -> Vec<CallView> {
        Vec::new()
    }

    /// External addresses in use: the shell has to tap them, also after a restart.
    pub fn external_addresses(&self) -> BTreeSet<Ipv4Addr> {
        BTreeSet::new()
    }

    /// Totals since the engine was made.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// The bounds it was made with.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }
}
