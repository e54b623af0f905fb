//! Ordinary traffic: small servers that say as whom they see a client, probes, and what a host looks like to the tools.
//!
//! ```text
//!  client node ── probe::{tcp, udp, ping, Flow} ──► gateway ──► servers::Servers in a server node
//!                                                     └── surface::of(gw): everything the agent may change
//! ```

pub mod manifests;
pub mod probe;
pub mod servers;
pub mod surface;
