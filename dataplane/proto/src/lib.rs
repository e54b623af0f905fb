//! The contract between what is wanted and the agent that does it.
//!
//! ```text
//!   compile ──► model::NodeConfig ──► pb::NodeConfig (protobuf, gRPC) ──► model::NodeConfig ──► agent
//!                                                                                                │
//!   kubectl-callgate ◄── pb::{StatusReply, CallList, ExplainReply} ◄── service Local (unix socket) ┘
//! ```
//! `model` is typed and pure. `pb` is what goes over a wire. Feature `grpc` adds the services.
#![forbid(unsafe_code)]

mod convert;
pub mod model;
pub mod pb;

pub use convert::ConvertError;

/// Where an agent serves its local API unless told otherwise.
pub const DEFAULT_API_SOCKET: &str = "/run/callgate/api.sock";

/// The source port an explanation assumes where none is given: the first of Linux's ephemeral ports
/// (`net.ipv4.ip_local_port_range`, default 32768-60999).
pub const ASSUMED_SOURCE_PORT: u16 = 32768;
