//! What was meant by a text that a rule refuses: the same without blanks, in the other case, a network without its host bits.

use std::net::Ipv4Addr;

use serde_json::Value;

use super::{CIDR, ShapeRule};

/// The nearest text that `rule` takes, where one of the usual slips leads from it to `text`.
pub(crate) fn meant(rule: &ShapeRule, text: &str) -> Option<String> {
    let plain: String = text.chars().filter(|letter| !letter.is_whitespace()).collect();
    let network = if rule.cel == CIDR.cel { network(&plain) } else { None };
    let likely = [Some(plain.clone()), Some(plain.to_lowercase()), Some(plain.to_uppercase()), network];
    likely.into_iter().flatten().find(|likely| (rule.holds)(&Value::String(likely.clone())))
}

/// The network in which an address with a prefix is, or of an address alone.
fn network(text: &str) -> Option<String> {
    let (address, prefix) = text.split_once('/').unwrap_or((text, "32"));
    let (address, prefix): (Ipv4Addr, u32) = (address.parse().ok()?, prefix.parse().ok()?);
    let mask = u32::MAX.checked_shl(32_u32.checked_sub(prefix)?).unwrap_or(0);
    Some(format!("{}/{prefix}", Ipv4Addr::from_bits(address.to_bits() & mask)))
}

#[cfg(test)]
mod tests {
    use super::super::{DURATION, PORTS, PROTOCOL};
    use super::*;

    #[test]
    fn the_usual_slips_are_seen() {
        for (rule, written, expected) in [
            (&CIDR, "10.0.0.1/8", Some("10.0.0.0/8")),
            (&CIDR, "203.0.113.9", Some("203.0.113.9/32")),
            (&CIDR, "203.0.113.9/0", Some("0.0.0.0/0")),
            (&CIDR, "2001:db8::/32", None),
            (&CIDR, "10.0.0.0/33", None),
            (&PORTS, "80, 443", Some("80,443")),
            (&PORTS, "443-80", None),
            (&DURATION, "180S", Some("180s")),
            (&DURATION, "1 h", Some("1h")),
            (&DURATION, "1d", None),
            (&PROTOCOL, "tcp", Some("TCP")),
        ] {
            assert_eq!(meant(rule, written).as_deref(), expected, "{written}");
        }
    }
}
