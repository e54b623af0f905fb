//! Shape: what one object's own fields must have to do with each other, each rule once as CEL and once as Rust.
//!
//! ```text
//!  ShapeRule { cel, message, holds } ─┬─ derive / field schema ──► x-kubernetes-validations ──► API server
//!                                     └─ schema::validate ───────► the same path and message offline
//! ```
//!
//! A test runs every manifest of `tests/bad` and `tests/good` through both and compares paths and messages.

mod fields;
mod meant;
mod rules;

pub use fields::{CIDR, DURATION, PORTS, PROTOCOL, SELECTOR_VALUES};
pub(crate) use meant::meant;
pub use rules::{
    ALG_NEEDS_PORTS, ALG_NEEDS_TCP, CLOSING_NEEDS_TCP, DESTINATION_PORTS_NEED_PORTS, GATEWAY_NEEDS_NAT,
    GROUP_HAS_NO_ALG, GROUP_HAS_NO_PORTS, GROUP_HAS_NO_SESSIONS, LEAF_OR_GROUP, SOURCE_NOT_EMPTY,
    SOURCE_PORTS_NEED_PORTS, TIMEOUTS_IN_REACH,
};

use kube::core::{Message, Rule};
use serde_json::Value;

/// One rule about a value and what is inside it.
#[derive(Debug)]
pub struct ShapeRule {
    /// The rule as the API server evaluates it; `self` is the value, defaults filled in.
    pub cel: &'static str,
    /// What to do where it does not hold.
    pub message: &'static str,
    /// The field it is about, relative to the value, as `.name`; `None` is the value itself.
    pub field_path: Option<&'static str>,
    /// The rule as Rust: whether it holds for a value that its schema accepts, defaults filled in.
    pub holds: fn(&Value) -> bool,
}

/// Every rule there is.
pub const RULES: [&ShapeRule; 17] = [
    &CIDR,
    &DURATION,
    &PORTS,
    &PROTOCOL,
    &SELECTOR_VALUES,
    &LEAF_OR_GROUP,
    &GROUP_HAS_NO_PORTS,
    &GROUP_HAS_NO_ALG,
    &GROUP_HAS_NO_SESSIONS,
    &DESTINATION_PORTS_NEED_PORTS,
    &SOURCE_PORTS_NEED_PORTS,
    &ALG_NEEDS_TCP,
    &ALG_NEEDS_PORTS,
    &CLOSING_NEEDS_TCP,
    &TIMEOUTS_IN_REACH,
    &GATEWAY_NEEDS_NAT,
    &SOURCE_NOT_EMPTY,
];

/// The rule with this CEL text; `None` where the table has none.
pub fn by_cel(cel: &str) -> Option<&'static ShapeRule> {
    RULES.into_iter().find(|rule| rule.cel == cel)
}

/// For `#[x_kube(validation = ...)]`.
impl From<&ShapeRule> for Rule {
    fn from(rule: &ShapeRule) -> Self {
        Self {
            rule: rule.cel.to_owned(),
            message: Some(Message::Message(rule.message.to_owned())),
            field_path: rule.field_path.map(str::to_owned),
            ..Self::default()
        }
    }
}
