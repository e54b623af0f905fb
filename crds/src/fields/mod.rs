//! Fields that are text in a manifest and mean more: each keeps what was written and parses it on demand.
//!
//! ```text
//!  "1h30m" ──► Duration ─ millis() ──────► 5 400 000      a watch never breaks on one stored object that an older
//!  "80,443"──► Ports ──── ranges() ──────► [80-80, 443-443]   schema let through: it parses, or tells why not
//!  TCP, 47 ──► Protocol ─ resolve() ─────► Transport(..)
//!  "a/n" ────► Cidr ───── parse() ───────► (address, prefix)
//! ```

mod cidr;
mod duration;
mod ports;
mod protocol;
mod selector;

pub(crate) use cidr::parse as parse_cidr;
pub use cidr::{Cidr, Ipv4Block};
pub use duration::Duration;
pub(crate) use duration::parse as parse_duration;
pub(crate) use ports::parse as parse_ports;
pub use ports::{PortRange, Ports};
pub(crate) use protocol::parse as parse_protocol;
pub use protocol::{Protocol, ProtocolMatch};
pub(crate) use selector::schema as selector_schema;
pub use selector::selects;

/// A field's text does not mean anything: what was written, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{written:?}: {remedy}")]
pub struct FieldError {
    /// The text as it stands in the manifest.
    pub written: String,
    /// What to write instead, with an example.
    pub remedy: &'static str,
}

/// A JSON schema for text with one shape rule and a maximum length in bytes.
///
/// The rule is CEL and not `pattern`, because a pattern's error repeats the regular expression and a rule's error can say what to do.
fn text_schema(max_length: u32, description: &str, rule: &crate::shape::ShapeRule) -> schemars::Schema {
    schemars::json_schema!({
        "type": "string",
        "maxLength": max_length,
        "description": description,
        "x-kubernetes-validations": [{ "rule": rule.cel, "message": rule.message }],
    })
}
