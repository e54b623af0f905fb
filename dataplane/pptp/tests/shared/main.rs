//! The shared mode against scripted clients and servers that speak messages and GRE, with a virtual clock.
//!
//! ```text
//!  clients ── bytes ─► Shared ── one message a write ─► Server (Max Channels k, moods)     Lab drives all of them
//! ```

// A test program: a panic is its way to fail.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod lab;
#[path = "../engine/messages.rs"]
mod messages;
mod peer;

mod auto;
mod calls;
mod churn;
mod connections;
mod cuts;
mod ends;
mod fairness;
mod gre;
mod incoming;
mod model;
mod times;
