//! Rules about the fields of one object among each other.

use serde_json::Value;

use super::ShapeRule;
use crate::fields::{self, Ports};

/// A service is a leaf or a group.
pub static LEAF_OR_GROUP: ShapeRule = ShapeRule {
    cel: "has(self.protocol) != (has(self.members) && size(self.members) > 0)",
    message: "give either protocol or, for a group of services, members: one of the two, not both",
    field_path: None,
    holds: |spec| has(spec, "protocol") != is_group(spec),
};

/// A group has no ports of its own.
pub static GROUP_HAS_NO_PORTS: ShapeRule = ShapeRule {
    cel: "!has(self.members) || size(self.members) == 0 || (!has(self.destinationPorts) && self.sourcePorts == '0-65535')",
    message: "a group has the ports of its members: remove sourcePorts and destinationPorts, or put them into a service of their own and name it in members",
    field_path: None,
    holds: |spec| !is_group(spec) || (!has(spec, "destinationPorts") && any_source_port(spec)),
};

/// A group has no ALG of its own.
pub static GROUP_HAS_NO_ALG: ShapeRule = ShapeRule {
    cel: "!has(self.members) || size(self.members) == 0 || !has(self.algRef)",
    message: "a group has the ALGs of its members: remove algRef here and set it on the member that needs it",
    field_path: Some(".algRef"),
    holds: |spec| !is_group(spec) || !has(spec, "algRef"),
};

/// A group has no limits of its own.
pub static GROUP_HAS_NO_SESSIONS: ShapeRule = ShapeRule {
    cel: "!has(self.members) || size(self.members) == 0 || (self.maxSessions == 200 && self.forwardIcmpErrors && !has(self.timeouts))",
    message: "each member of a group keeps its own maxSessions, forwardIcmpErrors and timeouts: remove them here and set them on the members",
    field_path: None,
    holds: |spec| {
        let defaults = spec["maxSessions"] == crate::DEFAULT_MAX_SESSIONS && spec["forwardIcmpErrors"] == true;
        !is_group(spec) || (defaults && !has(spec, "timeouts"))
    },
};

/// Destination ports need a protocol that has ports.
pub static DESTINATION_PORTS_NEED_PORTS: ShapeRule = ShapeRule {
    cel: "!has(self.destinationPorts) || !has(self.protocol) || self.protocol in ['TCP', 'UDP', 'TCPUDP']",
    message: "only the protocols TCP, UDP and TCPUDP, written by name, have ports: remove destinationPorts or change protocol",
    field_path: Some(".destinationPorts"),
    holds: |spec| {
        !has(spec, "destinationPorts") || !has(spec, "protocol") || protocol_in(spec, &["TCP", "UDP", "TCPUDP"])
    },
};

/// Source ports need a protocol that has ports.
pub static SOURCE_PORTS_NEED_PORTS: ShapeRule = ShapeRule {
    cel: "self.sourcePorts == '0-65535' || !has(self.protocol) || self.protocol in ['TCP', 'UDP', 'TCPUDP']",
    message: "only the protocols TCP, UDP and TCPUDP, written by name, have ports: remove sourcePorts or change protocol",
    field_path: Some(".sourcePorts"),
    holds: |spec| any_source_port(spec) || !has(spec, "protocol") || protocol_in(spec, &["TCP", "UDP", "TCPUDP"]),
};

/// The PPTP ALG treats TCP.
pub static ALG_NEEDS_TCP: ShapeRule = ShapeRule {
    cel: "!has(self.algRef) || !has(self.protocol) || self.protocol == 'TCP'",
    message: "the PPTP ALG treats TCP only: write protocol: TCP, or remove algRef (GRE needs no service of its own, it belongs to its call)",
    field_path: Some(".algRef"),
    holds: |spec| !has(spec, "algRef") || !has(spec, "protocol") || protocol_in(spec, &["TCP"]),
};

/// The ALG takes over every flow of its service, so the service must say which.
pub static ALG_NEEDS_PORTS: ShapeRule = ShapeRule {
    cel: "!has(self.algRef) || !has(self.protocol) || self.protocol != 'TCP' || has(self.destinationPorts)",
    message: "an ALG takes over every flow of its service: write destinationPorts, \"1723\" for PPTP, or remove algRef",
    field_path: Some(".algRef"),
    holds: |spec| !has(spec, "algRef") || !protocol_in(spec, &["TCP"]) || has(spec, "destinationPorts"),
};

/// Only TCP has a FIN.
pub static CLOSING_NEEDS_TCP: ShapeRule = ShapeRule {
    cel: "!has(self.timeouts) || !has(self.timeouts.closing) || !has(self.protocol) || self.protocol in ['TCP', 'TCPUDP']",
    message: "only TCP has a closing time-out: remove timeouts.closing or write protocol: TCP",
    field_path: Some(".timeouts"),
    holds: |spec| !has(&spec["timeouts"], "closing") || !has(spec, "protocol") || protocol_in(spec, &["TCP", "TCPUDP"]),
};

/// The kernel's clock ticks up to a thousand times a second in 32 bits, and takes what is half of that ahead for past.
pub static TIMEOUTS_IN_REACH: ShapeRule = ShapeRule {
    cel: "!has(self.timeouts) || [has(self.timeouts.initial) ? self.timeouts.initial : '0s', \
          has(self.timeouts.established) ? self.timeouts.established : '0s', \
          has(self.timeouts.closing) ? self.timeouts.closing : '0s']\
          .all(time, !time.matches('^([0-9]{1,5}(h|m|s|ms)){1,4}$') || duration(time) <= duration('576h'))",
    message: "no time-out may be above 576h (24 days), where the clock of the kernel wraps: write less, or 0s for what the kernel has",
    field_path: Some(".timeouts"),
    holds: |spec| {
        let times =
            ["initial", "established", "closing"].into_iter().filter_map(|time| spec["timeouts"][time].as_str());
        times.filter_map(fields::parse_duration).all(|millis| millis <= LONGEST_TIMEOUT_MS)
    },
};

/// 24 days in milliseconds.
const LONGEST_TIMEOUT_MS: u64 = 576 * 3_600_000;

/// A gateway lends its address, which only NAT needs.
pub static GATEWAY_NEEDS_NAT: ShapeRule = ShapeRule {
    cel: "!has(self.gatewayRef) || self.action == 'NAT'",
    message: "a gateway gives its address to NAT only: remove gatewayRef or write action: NAT",
    field_path: Some(".gatewayRef"),
    holds: |spec| !has(spec, "gatewayRef") || spec["action"] == "NAT",
};

/// A rule is about somebody's traffic.
pub static SOURCE_NOT_EMPTY: ShapeRule = ShapeRule {
    cel: "has(self.podSelector) || has(self.namespaceSelector) || (has(self.cidrs) && size(self.cidrs) > 0)",
    message: "say whose traffic: podSelector ({} is every pod of the rule's namespace), namespaceSelector, or cidrs",
    field_path: None,
    holds: |source| has(source, "podSelector") || has(source, "namespaceSelector") || has_items(source, "cidrs"),
};

/// Whether the field is there (null is not).
fn has(value: &Value, field: &str) -> bool {
    value.get(field).is_some_and(|value| !value.is_null())
}

fn has_items(value: &Value, field: &str) -> bool {
    value[field].as_array().is_some_and(|items| !items.is_empty())
}

fn is_group(spec: &Value) -> bool {
    has_items(spec, "members")
}

fn any_source_port(spec: &Value) -> bool {
    spec["sourcePorts"] == Ports::ANY
}

fn protocol_in(spec: &Value, names: &[&str]) -> bool {
    spec["protocol"].as_str().is_some_and(|protocol| names.contains(&protocol))
}
