//! A list of ports and port ranges as text: `1723`, `80,443,8000-8100`.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use super::{FieldError, text_schema};
use crate::shape;

/// Room for about 40 ports or 20 ranges; it also bounds what the CEL rule can cost.
const MAX_LENGTH: u32 = 240;

/// Ports and inclusive ranges, separated by commas, without blanks.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ports(pub String);

/// An inclusive range of ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortRange {
    /// First port.
    pub first: u16,
    /// Last port, not below `first`.
    pub last: u16,
}

impl Ports {
    /// Every port, as text: the default of `sourcePorts`.
    pub const ANY: &'static str = "0-65535";

    /// Ranges, sorted and disjoint, neighbours merged. Fails where the text is no list of ports.
    pub fn ranges(&self) -> Result<Vec<PortRange>, FieldError> {
        parse(&self.0).map(merge).ok_or_else(|| FieldError { written: self.0.clone(), remedy: shape::PORTS.message })
    }

    /// Whether the text is the default of `sourcePorts`.
    pub fn is_any(&self) -> bool {
        self.0 == Self::ANY
    }
}

impl Default for Ports {
    fn default() -> Self {
        Self(Self::ANY.to_owned())
    }
}

impl From<&str> for Ports {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// Ranges as written; `None` where `text` is no list of ports.
pub(crate) fn parse(text: &str) -> Option<Vec<PortRange>> {
    text.split(',')
        .map(|item| {
            let (first, last) = item.split_once('-').unwrap_or((item, item));
            let range = PortRange { first: port(first)?, last: port(last)? };
            (range.first <= range.last).then_some(range)
        })
        .collect()
}

/// A decimal port of one to five digits.
fn port(text: &str) -> Option<u16> {
    // `parse` alone takes a leading '+' and any number of zeros.
    ((1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

/// Sorts, and joins ranges that overlap or touch.
fn merge(mut ranges: Vec<PortRange>) -> Vec<PortRange> {
    ranges.sort();
    let mut merged: Vec<PortRange> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match merged.last_mut() {
            Some(before) if u32::from(range.first) <= u32::from(before.last) + 1 => {
                before.last = before.last.max(range.last);
            }
            Some(_) | None => merged.push(range),
        }
    }
    merged
}

impl JsonSchema for Ports {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Ports".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        text_schema(MAX_LENGTH, "Ports and ranges, for example 1723 or 80,443,8000-8100.", &shape::PORTS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(text: &str) -> Result<Vec<(u16, u16)>, FieldError> {
        Ports::from(text).ranges().map(|ranges| ranges.iter().map(|range| (range.first, range.last)).collect())
    }

    #[test]
    fn ports_and_ranges_are_read_sorted_and_merged() {
        assert_eq!(ranges("1723"), Ok(vec![(1723, 1723)]));
        assert_eq!(ranges("443,80,8000-8100"), Ok(vec![(80, 80), (443, 443), (8000, 8100)]));
        assert_eq!(ranges("1-5,6,4-9,65535"), Ok(vec![(1, 9), (65535, 65535)]));
        assert_eq!(ranges(Ports::ANY), Ok(vec![(0, 65535)]));
        assert_eq!(ranges("00080"), Ok(vec![(80, 80)]));
    }

    #[test]
    fn text_that_is_no_list_of_ports_is_refused_with_a_remedy() {
        for written in ["", "80,", ",80", "80, 443", "65536", "100-50", "-80", "80-", "http", "+80", "000080", "1-2-3"]
        {
            let expected = FieldError { written: written.into(), remedy: shape::PORTS.message };
            assert_eq!(ranges(written), Err(expected));
        }
    }
}
