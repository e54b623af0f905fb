//! `IpRule`: what happens to whose traffic on its way out.

// KubeSchema copies the struct, `pub` included, into the body of a function.
#![allow(unreachable_pub)]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::fields::{Cidr, selector_schema};
use crate::{ObjectStatus, ServiceRef};

/// Whose traffic, where to, of which services, and what happens to it.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "callgate.io",
    version = "v1alpha1",
    kind = "IpRule",
    plural = "iprules",
    singular = "iprule",
    shortname = "ipr",
    category = "callgate",
    namespaced,
    status = "ObjectStatus",
    derive = "PartialEq",
    doc = "What happens to traffic that leaves the cluster. Rules are taken by (order, creationTimestamp, namespace/name); the first that matches the opening packet decides for the whole flow.",
    printcolumn = r#"{"name":"Order","type":"integer","jsonPath":".spec.order"}"#,
    printcolumn = r#"{"name":"Action","type":"string","jsonPath":".spec.action"}"#,
    printcolumn = r#"{"name":"Service","type":"string","jsonPath":".spec.services[*].name","description":"First service"}"#,
    printcolumn = r#"{"name":"Accepted","type":"string","jsonPath":".status.conditions[?(@.type==\"Accepted\")].status"}"#,
    printcolumn = r#"{"name":"Programmed","type":"string","jsonPath":".status.conditions[?(@.type==\"Programmed\")].status"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.reason","description":"The reason that matters most"}"#,
    printcolumn = r#"{"name":"Nodes","type":"string","jsonPath":".status.nodes","description":"Nodes that run this generation, of those that must"}"#,
    printcolumn = r#"{"name":"Calls","type":"integer","jsonPath":".status.liveCalls","description":"Live PPTP calls that this rule let through"}"#,
    printcolumn = r#"{"name":"Source","type":"string","jsonPath":".spec.source","priority":1}"#,
    printcolumn = r#"{"name":"Destination","type":"string","jsonPath":".spec.destination.cidrs","priority":1}"#,
    printcolumn = r#"{"name":"Gateway","type":"string","jsonPath":".spec.gatewayRef.name","priority":1}"#,
    printcolumn = r#"{"name":"Clients","type":"integer","jsonPath":".status.clients","description":"Source addresses the rule applies to"}"#,
    printcolumn = r#"{"name":"Message","type":"string","jsonPath":".status.conditions[?(@.type==\"Accepted\")].message","priority":1}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = &crate::shape::GATEWAY_NEEDS_NAT)]
pub struct IpRuleSpec {
    /// Place in the order of rules, 0 to 65535; lower is taken first. Equal orders: the older object, then namespace/name. Leave gaps, for example 100, 200, 300.
    #[schemars(range(max = 65_535), extend("format" = "int32"))]
    pub order: u32,

    /// What happens to the flow. NAT: it passes with a source address of the gateway. Allow: it passes as it is. Drop: it is discarded in silence.
    /// Reject: it is answered by TCP RST or ICMP unreachable.
    pub action: Action,

    /// Whose traffic.
    pub source: Source,

    /// Where to. Left out: everywhere outside the cluster.
    #[serde(default)]
    pub destination: Destination,

    /// Which services; a flow matches if it matches any of them.
    #[schemars(length(min = 1, max = 64))]
    pub services: Vec<ServiceRef>,

    /// Gateway whose address the traffic gets; only with action NAT. Left out: the pod's own node and its address. Gateways are not there yet, and a rule that names one is not accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway_ref: Option<GatewayRef>,

    /// Log the opening packet of each flow. Default false.
    #[serde(default)]
    pub log: bool,
}

/// What a rule does with a flow.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// It passes with a source address of the gateway.
    #[serde(rename = "NAT")]
    Nat,
    /// It passes as it is.
    Allow,
    /// It is discarded in silence.
    Drop,
    /// It is answered by TCP RST or ICMP unreachable.
    Reject,
}

/// Whose traffic: pods by label, networks, or both (either may match).
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = &crate::shape::SOURCE_NOT_EMPTY)]
pub struct Source {
    /// Pods by label; {} is every pod. In the rule's own namespace unless namespaceSelector is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "selector_schema")]
    pub pod_selector: Option<LabelSelector>,

    /// Namespaces by label whose pods are selected (all of them where podSelector is left out); {} is every namespace. Only for rules in the operator's own namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "selector_schema")]
    pub namespace_selector: Option<LabelSelector>,

    /// Source networks, for hosts that are no pods. Only for rules in the operator's own namespace, and standalone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub cidrs: Vec<Cidr>,
}

/// Where to: any of `cidrs` that is in none of `except`.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Destination {
    /// Destination networks. Default 0.0.0.0/0, everywhere outside the cluster.
    #[serde(default = "everywhere")]
    #[schemars(length(min = 1, max = 256))]
    pub cidrs: Vec<Cidr>,

    /// Networks cut out of cidrs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub except: Vec<Cidr>,
}

impl Default for Destination {
    fn default() -> Self {
        Self { cidrs: everywhere(), except: Vec::new() }
    }
}

/// The name of an EgressGateway.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "camelCase")]
pub struct GatewayRef {
    /// Name of the EgressGateway.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

fn everywhere() -> Vec<Cidr> {
    vec![Cidr::from(Cidr::ANY)]
}
