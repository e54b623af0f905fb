//! What edits do on a cluster: to conditions, to packets, to tunnels.
//!
//! ```text
//!   edit ──► API server ──► operator ──► agents ──► kernel
//!               │ status ◄─────┘ (acknowledged)        │
//!   test: conditions, whole ◄──┘      pod ── packet ───┴──► router: under whose address does it leave?
//! ```
//! Callgate is installed by the first of these tests and stays for the others.

mod await_edit;
mod conflict;
mod dice;
mod many;
mod model;
mod objects;
mod random;
mod refused;
mod removal;
