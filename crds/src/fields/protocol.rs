//! An IP protocol: by name where ports or types matter, else by number.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::FieldError;
use crate::shape;

/// `TCP`, `UDP`, `TCPUDP`, `ICMP`, `ANY`, or an IP protocol number 0 to 255 written as a number or as text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Protocol {
    /// Written as a YAML number.
    Number(i64),
    /// Written as text: a name, or a number in quotes.
    Text(String),
}

/// What a [`Protocol`] means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProtocolMatch {
    /// TCP (6), with ports.
    Tcp,
    /// UDP (17), with ports.
    Udp,
    /// TCP and UDP, with the same ports.
    TcpUdp,
    /// ICMP (1).
    Icmp,
    /// Every IP protocol.
    Any,
    /// One IP protocol by its number, without ports.
    Number(u8),
}

impl Protocol {
    /// The meaning. Fails on an unknown name or a number above 255.
    pub fn resolve(&self) -> Result<ProtocolMatch, FieldError> {
        let (parsed, written) = match self {
            Self::Number(number) => (u8::try_from(*number).ok().map(ProtocolMatch::Number), number.to_string()),
            Self::Text(text) => (parse(text), text.clone()),
        };
        parsed.ok_or(FieldError { written, remedy: shape::PROTOCOL.message })
    }
}

impl From<&str> for Protocol {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl ProtocolMatch {
    /// Whether it is a name that takes ports. A number never does: `6` is every TCP packet.
    pub const fn has_ports(self) -> bool {
        match self {
            Self::Tcp | Self::Udp | Self::TcpUdp => true,
            Self::Icmp | Self::Any | Self::Number(_) => false,
        }
    }
}

/// The meaning of a protocol written as text; `None` where it has none.
pub(crate) fn parse(text: &str) -> Option<ProtocolMatch> {
    match text {
        "TCP" => Some(ProtocolMatch::Tcp),
        "UDP" => Some(ProtocolMatch::Udp),
        "TCPUDP" => Some(ProtocolMatch::TcpUdp),
        "ICMP" => Some(ProtocolMatch::Icmp),
        "ANY" => Some(ProtocolMatch::Any),
        number if (1..=3).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit()) => {
            number.parse().ok().map(ProtocolMatch::Number)
        }
        _ => None,
    }
}

impl JsonSchema for Protocol {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Protocol".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "description": "TCP, UDP, TCPUDP, ICMP, ANY, or an IP protocol number 0-255.",
            "x-kubernetes-validations": [{ "rule": shape::PROTOCOL.cel, "message": shape::PROTOCOL.message }],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_understood() {
        assert_eq!(Protocol::from("TCP").resolve(), Ok(ProtocolMatch::Tcp));
        assert_eq!(Protocol::from("UDP").resolve(), Ok(ProtocolMatch::Udp));
        assert_eq!(Protocol::from("TCPUDP").resolve(), Ok(ProtocolMatch::TcpUdp));
        assert_eq!(Protocol::from("ICMP").resolve(), Ok(ProtocolMatch::Icmp));
        assert_eq!(Protocol::from("ANY").resolve(), Ok(ProtocolMatch::Any));
        assert_eq!(Protocol::from("47").resolve(), Ok(ProtocolMatch::Number(47)));
        assert_eq!(Protocol::Number(255).resolve(), Ok(ProtocolMatch::Number(255)));
    }

    #[test]
    fn anything_else_is_refused_with_a_remedy() {
        for written in ["", "tcp", "GRE", "256", "-1", "0047", " 47"] {
            let expected = FieldError { written: written.into(), remedy: shape::PROTOCOL.message };
            assert_eq!(Protocol::from(written).resolve(), Err(expected));
        }
        let expected = FieldError { written: "256".into(), remedy: shape::PROTOCOL.message };
        assert_eq!(Protocol::Number(256).resolve(), Err(expected));
    }
}
