//! The kernel side of the agent against a real kernel, in network namespaces of its own, checked with nft, ip and conntrack.
//!
//! ```text
//!  pod A 10.244.1.2 ── cg-a ┐                      ┌ 192.0.2.10   server
//!                           ├ gateway (test thread)┤ 198.51.100.10  (same namespace)
//!  pod B 10.244.2.2 ── cg-b ┘   192.0.2.1 cg-out ──┘
//! ```
//!
//! A namespace lives as long as its file descriptor, so nothing is left behind, also after a panic.

// Helpers of tests outside test functions: a lab that cannot be built is a failed test.
#![allow(clippy::unwrap_used)]

mod agent;
mod configs;
mod edits;
mod explain;
// Tests of the protocol use more of it.
#[allow(dead_code)]
#[path = "../../src/cluster/tests/fake.rs"]
mod fake;
mod flows;
mod heirs;
mod lab;
mod lifecycle;
mod mending;
#[path = "../common/namespace.rs"]
mod namespace;
mod ordinary;
mod probes;
mod random;
mod refusals;
mod rings;
mod rollout;
mod routes;
mod scale;
mod startup;
mod steering;
mod structure;
mod succession;
mod surroundings;
mod tenants;
mod verdicts;
mod witness;
