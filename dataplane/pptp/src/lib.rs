//! The PPTP application-level gateway as a pure state machine: packets and `now` in, commands out.
//!
//! ```text
//!  IPv4 packet ─► engine ─► Verdict (rewritten in place, or consumed)
//!                  │  └───► Command: Persist(Change) │ Send(packet) │ Note(Event)
//!   wire: views and codecs         stream: one direction of a control connection
//!
//!  bytes of TCP connections ─► shared ─► Command: Write one message │ Open │ Close │ Reset │ Send(packet) │ Note …
//! ```
//!
//! No sockets, no clock, no files, no randomness of its own: the shell (the agent) brings them.
#![forbid(unsafe_code)]

pub mod engine;
pub mod shared;
pub mod stream;
pub mod types;
pub mod wire;

pub use engine::{
    CallDirection, CallEnd, CallIds, CallRefusal, CallState, CallView, CallsByObject, Change, CloseReason,
    ConnectionRecord, ConnectionState, ConnectionUpdate, ConnectionView, Counters, Engine, Event, Limits, OpenRefusal,
    Quarantined, QuarantinedWhat, Replay, Seen, Severity, Traffic,
};
pub use types::*;
