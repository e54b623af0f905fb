//! The pure compiler: the world of objects in, node configurations and statuses out.
//!
//! ```text
//!   manifests::parse ─► World ─► compile ─► Compiled { nodes: NodeConfig each, statuses, last_good }
//!   (files as text)       ▲         ▲                          │
//!   operator's reflectors ┘         └── last_good of before ◄──┘        explain(NodeConfig, Packet) ─► Explanation
//! ```
//! No sockets, no clock, no files, no randomness: equal input gives equal bytes.
#![forbid(unsafe_code)]

mod address;
mod compile;
pub mod explain;
pub mod manifests;
pub mod objects;
mod resolve;
mod selector;
pub mod status;
mod steps;
pub mod world;

pub use compile::{Compiled, Compiler, LastGood, Limits, Since, compile};
