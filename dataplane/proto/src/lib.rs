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
mod optional;
pub mod pb;

pub use convert::ConvertError;
pub use optional::Optional;

/// Where an agent serves its local API unless told otherwise.
pub const DEFAULT_API_SOCKET: &str = "/run/callgate/api.sock";

/// Port on the loopback of the operator's pod where it serves the same API about all nodes.
pub const OPERATOR_API_PORT: u16 = 7443;

/// Name of the Lease whose holder is the pod of the operator that leads.
pub const OPERATOR_LEASE: &str = "callgate-operator";

/// Metadata of the refusal of an operator that does not lead: name of the pod that does.
pub const LEADER_METADATA: &str = "callgate-leader";

/// The source port an explanation assumes where none is given: the first of Linux's ephemeral ports
/// (`net.ipv4.ip_local_port_range`, default 32768-60999).
pub const ASSUMED_SOURCE_PORT: u16 = 32768;
