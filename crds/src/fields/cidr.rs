//! An IPv4 network as text: `203.0.113.0/24`.

use std::borrow::Cow;
use std::net::Ipv4Addr;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use super::{FieldError, text_schema};
use crate::shape;

/// Room for any network, IPv6 included, so that the error is about the address and not about its length.
const MAX_LENGTH: u32 = 49;

/// A network as `address/prefix`, host bits zero.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cidr(pub String);

/// An IPv4 network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ipv4Block {
    /// Network address, host bits zero.
    pub address: Ipv4Addr,
    /// Prefix length, 0 to 32.
    pub prefix: u8,
}

impl Cidr {
    /// Every IPv4 address, as text: the default of `destination.cidrs`.
    pub const ANY: &'static str = "0.0.0.0/0";

    /// The network. Fails on anything but an IPv4 network with its host bits zero.
    pub fn parse(&self) -> Result<Ipv4Block, FieldError> {
        parse(&self.0).ok_or_else(|| FieldError { written: self.0.clone(), remedy: shape::CIDR.message })
    }
}

impl From<&str> for Cidr {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// The network; `None` where `text` is none.
pub(crate) fn parse(text: &str) -> Option<Ipv4Block> {
    let (address, prefix) = text.split_once('/')?;
    let address: Ipv4Addr = address.parse().ok()?;
    let digits = prefix.bytes().all(|byte| byte.is_ascii_digit()) && (prefix == "0" || !prefix.starts_with('0'));
    let prefix: u8 = if digits { prefix.parse().ok().filter(|prefix| *prefix <= 32)? } else { return None };
    let host_bits = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
    (address.to_bits() & host_bits == 0).then_some(Ipv4Block { address, prefix })
}

impl JsonSchema for Cidr {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Cidr".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        text_schema(MAX_LENGTH, "An IPv4 network, for example 203.0.113.0/24.", &shape::CIDR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv4_networks_are_read() {
        let block = |a, b, c, d, prefix| Ok(Ipv4Block { address: Ipv4Addr::new(a, b, c, d), prefix });
        assert_eq!(Cidr::from("0.0.0.0/0").parse(), block(0, 0, 0, 0, 0));
        assert_eq!(Cidr::from("203.0.113.0/24").parse(), block(203, 0, 113, 0, 24));
        assert_eq!(Cidr::from("203.0.113.7/32").parse(), block(203, 0, 113, 7, 32));
    }

    #[test]
    fn anything_else_is_refused_with_a_remedy() {
        for written in [
            "",
            "203.0.113.7",
            "203.0.113.7/24",
            "203.0.113.0/33",
            "10.0.0.0/08",
            "2001:db8::/32",
            "10.0.0.0/",
            "1.0.0.0/0",
        ] {
            let expected = FieldError { written: written.into(), remedy: shape::CIDR.message };
            assert_eq!(Cidr::from(written).parse(), Err(expected));
        }
    }
}
