//! Callgate's API types and everything that can be said about one object alone.
//!
//! ```text
//!  YAML ──► schema (types, ranges, defaults) ──► shape (one object's own rules) ──► PptpAlg | Service | IpRule
//!                ▲                                   ▲                                  │ fields: text parsed on demand
//!                └────── generated/*.yaml ◄──────────┴── one table, as CEL and as Rust  ▼
//!                        (what an API server runs)                                   compile (other objects, conditions)
//! ```
//!
//! The crate owns the object kinds, their schema, the condition reasons and the predefined objects. It never looks
//! at two objects at once, has no I/O and no clock, and does not talk to Kubernetes.
#![forbid(unsafe_code)]

pub mod conditions;
mod egress_node;
pub mod fields;
pub mod generate;
mod ip_rule;
mod kind;
mod pptp_alg;
mod predefined;
pub mod schema;
mod service;
pub mod shape;
mod status;

pub use egress_node::{EgressNode, EgressNodeSpec, EgressNodeStatus, NodeCounter, NodeFeature};
pub use ip_rule::{Action, Destination, GatewayRef, IpRule, IpRuleSpec, Source};
pub use kind::{Kind, definitions};
pub use pptp_alg::{ControlConnection, PptpAlg, PptpAlgSpec, Validation};
pub use predefined::predefined;
pub use service::{AlgKind, AlgRef, DEFAULT_MAX_SESSIONS, Service, ServiceRef, ServiceSpec, Timeouts};
pub use status::{ObjectStatus, SharedServer, set_condition};

/// API group of every kind.
pub const GROUP: &str = "callgate.io";

/// Served and stored version of every kind.
pub const VERSION: &str = "v1alpha1";

/// `apiVersion` of every object: group and version.
pub const API_VERSION: &str = "callgate.io/v1alpha1";

/// Namespace of the operator and of the predefined objects where nothing else is configured.
pub const SYSTEM_NAMESPACE: &str = "callgate-system";

/// Namespace of an object whose manifest names none, as `kubectl` has it.
pub const DEFAULT_NAMESPACE: &str = "default";
