//! The operator: watches objects, compiles them, gives every node its snapshot, and writes what became of it into status.
//!
//! ```text
//!   API server ──► watch ──► facts ──► compile ──► board ──► control (gRPC, TLS) ──► agents
//!        ▲                     │          │                       │
//!        │                     │          └── last good ──► ConfigMap
//!        └── status ◄──────────┴──────────────── fleet ◄──────────┘ outcomes, reports
//!
//!   people: local (loopback, by port-forward) ──► questions to agents      health, metrics: http
//! ```
//! Only the leader (lease) compiles, serves and writes. It never decides what a packet does: `callgate-compile` does, and
//! agents carry it out.
#![forbid(unsafe_code)]

pub mod args;
pub mod client;
pub mod control;
pub mod endpoint;
pub mod facts;
pub mod fleet;
pub mod http;
pub mod last_good;
pub mod lease;
pub mod local;
pub mod log;
pub mod metrics;
pub mod moment;
pub mod publish;
pub mod run;
pub mod snapshot;
pub mod status;
mod strangers;
pub mod tls;
pub mod watch;

/// Who writes: the field manager of server-side apply, and the reporter of events.
pub const FIELD_MANAGER: &str = "callgate-operator";

#[cfg(test)]
mod mock;
