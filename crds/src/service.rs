//! `Service`: a passive match on protocol and ports, or a group of such.

// KubeSchema copies the struct, `pub` included, into the body of a function.
#![allow(unreachable_pub)]

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ObjectStatus;
use crate::fields::{Duration, Ports, Protocol};

/// What the service matches: either one protocol with its ports, or `members` (a group).
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "callgate.io",
    version = "v1alpha1",
    kind = "Service",
    plural = "ipservices",
    singular = "ipservice",
    shortname = "ipsvc",
    category = "callgate",
    namespaced,
    status = "ObjectStatus",
    derive = "PartialEq",
    doc = "A passive match that rules name: an IP protocol with its ports, optionally with the ALG that treats its flows; or a group of other services.",
    printcolumn = r#"{"name":"Protocol","type":"string","jsonPath":".spec.protocol"}"#,
    printcolumn = r#"{"name":"Ports","type":"string","jsonPath":".spec.destinationPorts","description":"Destination ports"}"#,
    printcolumn = r#"{"name":"ALG","type":"string","jsonPath":".spec.algRef.name"}"#,
    printcolumn = r#"{"name":"Members","type":"string","jsonPath":".spec.members[*].name","priority":1,"description":"First member of a group"}"#,
    printcolumn = r#"{"name":"Accepted","type":"string","jsonPath":".status.conditions[?(@.type==\"Accepted\")].status"}"#,
    printcolumn = r#"{"name":"Programmed","type":"string","jsonPath":".status.conditions[?(@.type==\"Programmed\")].status"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.reason","description":"The reason that matters most"}"#,
    printcolumn = r#"{"name":"Nodes","type":"string","jsonPath":".status.nodes","description":"Nodes that run this generation, of those that must"}"#,
    printcolumn = r#"{"name":"Source Ports","type":"string","jsonPath":".spec.sourcePorts","priority":1}"#,
    printcolumn = r#"{"name":"Max Sessions","type":"integer","jsonPath":".spec.maxSessions","priority":1,"description":"0 is without limit"}"#,
    printcolumn = r#"{"name":"Calls","type":"integer","jsonPath":".status.liveCalls","priority":1,"description":"Live calls through the ALG of this service"}"#,
    printcolumn = r#"{"name":"Message","type":"string","jsonPath":".status.conditions[?(@.type==\"Accepted\")].message","priority":1}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = &crate::shape::LEAF_OR_GROUP,
    validation = &crate::shape::GROUP_HAS_NO_PORTS,
    validation = &crate::shape::GROUP_HAS_NO_ALG,
    validation = &crate::shape::GROUP_HAS_NO_SESSIONS,
    validation = &crate::shape::DESTINATION_PORTS_NEED_PORTS,
    validation = &crate::shape::SOURCE_PORTS_NEED_PORTS,
    validation = &crate::shape::ALG_NEEDS_TCP,
    validation = &crate::shape::ALG_NEEDS_PORTS,
    validation = &crate::shape::CLOSING_NEEDS_TCP,
    validation = &crate::shape::TIMEOUTS_IN_REACH,
)]
pub struct ServiceSpec {
    /// TCP, UDP, TCPUDP (both, with the same ports), ICMP, ANY (every IP protocol), or an IP protocol number from 0 to 255, for
    /// example 47 for GRE. Only the names TCP, UDP and TCPUDP take ports. Left out in a group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,

    /// Source ports: ports and inclusive ranges separated by commas. Default "0-65535", every port.
    #[serde(default)]
    pub source_ports: Ports,

    /// Destination ports: ports and inclusive ranges separated by commas, for example "1723" or "80,443,8000-8100". Left out: every port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination_ports: Option<Ports>,

    /// The services of a group. A flow matches the group if it matches any of them; each keeps its own ALG and its own
    /// session limit. A member may be a group. Excludes `protocol`, ports and `algRef`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub members: Vec<ServiceRef>,

    /// The ALG that treats the flows of this service. The service must be TCP with destination ports, and only rules with action NAT may use it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alg_ref: Option<AlgRef>,

    /// Sessions at once, over all rules that use this service: control connections with an ALG, tracked connections without. A
    /// session beyond it is refused. Default 200; 0 is without limit. Each member of a group has its own.
    #[serde(default = "default_max_sessions")]
    #[schemars(range(max = 4_294_967_295_u32), extend("format" = "int64"))]
    pub max_sessions: u32,

    /// Whether ICMP errors about flows of this service reach the client. They are needed for path MTU discovery and for
    /// clear errors at once instead of time-outs. With false only fragmentation-needed still passes. Default true.
    #[serde(default = "yes")]
    pub forward_icmp_errors: bool,

    /// Connection tracking time-outs where they are to differ from the kernel's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<Timeouts>,
}

/// The name of a Service.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "camelCase")]
pub struct ServiceRef {
    /// Name of the Service, for example http.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,

    /// Namespace of the Service. Left out: the namespace of the object that names it, then the operator's namespace, where the predefined services are.
    /// Any other namespace only in the operator's namespace, and standalone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
}

/// The kind and name of an ALG, looked up as a Service is.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "camelCase")]
pub struct AlgRef {
    /// Kind of the ALG: PptpAlg.
    pub kind: AlgKind,

    /// Name of the ALG, in the namespace of the Service or else in the operator's.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// Kinds of ALG.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AlgKind {
    /// PPTP (RFC 2637).
    PptpAlg,
}

/// Connection tracking time-outs of a service. Each is rounded up to whole seconds, and at most 576h (24 days); 0s and left
/// out keep the kernel's.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Timeouts {
    /// Before the flow is established: the TCP handshake, or up to the first reply of another protocol. For example 60s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial: Option<Duration>,

    /// Established and silent. For example 72h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub established: Option<Duration>,

    /// After the first FIN; TCP only. For example 80s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closing: Option<Duration>,
}

/// Default of `maxSessions`: what cOS Core gives a service (its CLI reference, ServiceTCPUDP).
pub const DEFAULT_MAX_SESSIONS: u32 = 200;

const fn default_max_sessions() -> u32 {
    DEFAULT_MAX_SESSIONS
}

const fn yes() -> bool {
    true
}
