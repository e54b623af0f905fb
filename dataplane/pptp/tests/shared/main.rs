//! The shared mode against scripted clients and servers that speak messages and GRE, with a virtual clock.
//!
//! ```text
//!  clients ── bytes ─► Shared ── one message a write ─► Server (Max Channels k, moods)     Lab drives all of them
//! ```

// A test program: a panic is its way to fail.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[allow(dead_code)]
#[path = "../engine/ends.rs"]
mod ends;
mod lab;
#[path = "../engine/messages.rs"]
mod messages;
#[allow(dead_code)]
#[path = "../engine/pair.rs"]
mod pair;
mod peer;

mod auto;
mod beside;
mod calls;
mod churn;
mod connections;
mod crowds;
mod cuts;
mod fairness;
mod farewells;
mod freeze;
mod gre;
mod incoming;
mod model;
mod portions;
mod repeated;
mod times;
