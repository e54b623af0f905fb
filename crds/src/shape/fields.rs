//! Rules about one field's text.

use serde_json::Value;

use super::ShapeRule;
use crate::fields;

/// An IPv4 network.
pub static CIDR: ShapeRule = ShapeRule {
    cel: "isCIDR(self) && cidr(self).ip().family() == 4 && cidr(self) == cidr(self).masked()",
    message: "write an IPv4 network as address/prefix with its host bits zero, for example 203.0.113.0/24, or 203.0.113.7/32 for one address (IPv6 is not supported yet)",
    field_path: None,
    holds: |value| value.as_str().is_some_and(|text| fields::parse_cidr(text).is_some()),
};

/// A length of time (GEP-2257).
pub static DURATION: ShapeRule = ShapeRule {
    cel: "self.matches('^([0-9]{1,5}(h|m|s|ms)){1,4}$')",
    message: "write a duration as numbers of at most five digits with the units h, m, s or ms, for example 180s, 1h30m or 500ms",
    field_path: None,
    holds: |value| value.as_str().is_some_and(|text| fields::parse_duration(text).is_some()),
};

/// A list of ports.
pub static PORTS: ShapeRule = ShapeRule {
    cel: "self.matches('^[0-9]{1,5}(-[0-9]{1,5})?(,[0-9]{1,5}(-[0-9]{1,5})?)*$') && self.split(',').all(range, \
          int(range.split('-')[0]) <= int(range.split('-')[size(range.split('-')) - 1]) && \
          int(range.split('-')[size(range.split('-')) - 1]) <= 65535)",
    message: "write ports from 0 to 65535 and ranges with the lower port first, separated by commas without blanks, for example \"1723\" or \"80,443,8000-8100\"",
    field_path: None,
    holds: |value| value.as_str().is_some_and(|text| fields::parse_ports(text).is_some()),
};

/// An IP protocol.
pub static PROTOCOL: ShapeRule = ShapeRule {
    cel: "string(self) in ['TCP', 'UDP', 'TCPUDP', 'ICMP', 'ANY'] || \
          (string(self).matches('^[0-9]{1,3}$') && int(string(self)) <= 255)",
    message: "write TCP, UDP, TCPUDP, ICMP or ANY in capitals, or an IP protocol number from 0 to 255, for example 47 for GRE",
    field_path: None,
    holds: |value| match value {
        Value::Number(number) => number.as_u64().is_some_and(|number| number <= 255),
        Value::String(text) => fields::parse_protocol(text).is_some(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => false,
    },
};

/// An expression of a label selector has values exactly where its operator compares with some.
pub static SELECTOR_VALUES: ShapeRule = ShapeRule {
    cel: "(self.operator == 'In' || self.operator == 'NotIn') == (has(self.values) && size(self.values) > 0)",
    message: "give values with the operators In and NotIn, and none with Exists and DoesNotExist",
    field_path: Some(".values"),
    holds: |value| {
        let compares = matches!(value["operator"].as_str(), Some("In" | "NotIn"));
        compares == value["values"].as_array().is_some_and(|values| !values.is_empty())
    },
};
