//! The PPTP application-level gateway as a pure state machine.
#![forbid(unsafe_code)]

pub mod types;
pub use types::*;

/// A change of durable state (to be defined by the engine).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change;
/// An event (to be defined by the engine).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event;
