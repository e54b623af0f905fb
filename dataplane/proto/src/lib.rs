//! The contract between what is wanted and the agent that does it.
//!
//! ```text
//!   compile ──► model::NodeConfig ──► pb::NodeConfig (protobuf, gRPC) ──► model::NodeConfig ──► agent
//! ```
//! `model` is typed and pure. `pb` is what goes over a wire. Feature `grpc` adds the services.
#![forbid(unsafe_code)]

pub mod model;
