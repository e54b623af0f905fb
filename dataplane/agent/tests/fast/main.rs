//! The fast path against a real kernel: the program on real links, packets octet by octet, in network namespaces of its own.
//!
//! ```text
//!  client 10.0.0.2 ── cg-in  ┐                        ┌ 192.0.2.10 (router)
//!                            ├ gateway (test thread) ─┤ cg-out
//!            (no forwarding) ┘  192.0.2.1             └ 198.51.100.9  server, behind the router
//! ```
//!
//! The gateway does not forward: what comes out on the other side has taken the fast path, and what it leaves is seen by a
//! packet socket such as the ALG has. Namespaces and mounts live as long as their thread and file descriptors, so nothing
//! is left behind, also after a panic.

// Helpers of tests outside test functions: a lab that cannot be built is a failed test.
#![allow(clippy::unwrap_used)]

mod adoption;
mod lab;
mod left;
mod links;
// Tests of the kernel side use more of it.
#[allow(dead_code)]
#[path = "../common/namespace.rs"]
mod namespace;
mod packets;
mod passes;
mod uplinks;
mod xdp;
