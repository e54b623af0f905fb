//! `EgressNode`: what one node runs and holds, written by the system only.

// KubeSchema copies the struct, `pub` included, into the body of a function.
#![allow(unreachable_pub)]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Nothing: an EgressNode is told about, never asked for.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "callgate.io",
    version = "v1alpha1",
    kind = "EgressNode",
    plural = "egressnodes",
    singular = "egressnode",
    shortname = "cgn",
    category = "callgate",
    status = "EgressNodeStatus",
    derive = "PartialEq",
    doc = "What one node runs and holds. Written by the operator, one for each node with an agent or with clients of rules, of the same name and gone with it; not for people to make or change.",
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].reason"}"#,
    printcolumn = r#"{"name":"Calls","type":"integer","jsonPath":".status.liveCalls","description":"Live PPTP calls"}"#,
    printcolumn = r#"{"name":"Clients","type":"integer","jsonPath":".status.clients","description":"Source blocks that rules select here"}"#,
    printcolumn = r#"{"name":"Rules","type":"integer","jsonPath":".status.rules"}"#,
    printcolumn = r#"{"name":"Version","type":"string","jsonPath":".status.version"}"#,
    printcolumn = r#"{"name":"Kernel","type":"string","jsonPath":".status.kernel","priority":1}"#,
    printcolumn = r#"{"name":"Config","type":"string","jsonPath":".status.configHash","priority":1,"description":"Hash of what runs"}"#,
    printcolumn = r#"{"name":"Message","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].message","priority":1}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct EgressNodeSpec {}

/// What is known about a node.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct EgressNodeStatus {
    /// Ready; docs/conditions.md lists every reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"])
    )]
    pub conditions: Vec<Condition>,

    /// Version of the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,

    /// Kernel release, as uname -r.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,

    /// How GRE of live calls passes: `eBPF at tcx`, `eBPF at clsact`, `eBPF at XDP and tcx` (by XDP where both links can), or
    /// `AF_PACKET`, which is through user space.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,

    /// What the kernel has and what is missing, with what that costs; sorted by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub features: Vec<NodeFeature>,

    /// SHA-256 (hex) of the configuration that runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_hash: Option<String>,

    /// SHA-256 (hex) of the configuration that should run; equal to configHash where the node is up to date.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted_hash: Option<String>,

    /// Rules in the configuration that should run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "int64"))]
    pub rules: Option<u32>,

    /// Source blocks in the configuration that should run: pods and networks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "int64"))]
    pub clients: Option<u32>,

    /// Control connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "int64"))]
    pub connections: Option<u32>,

    /// Live PPTP calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "int64"))]
    pub live_calls: Option<u32>,

    /// What the agent counts, sorted by name; those that are zero are left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 256),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub counters: Vec<NodeCounter>,
}

/// Something the kernel has or lacks.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct NodeFeature {
    /// Its name.
    pub name: String,
    /// Whether it is there.
    pub available: bool,
    /// For people: what is used, or what its lack costs.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

/// One counter of an agent.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct NodeCounter {
    /// Its name.
    pub name: String,
    /// Its value; one that is larger than a signed 64-bit number stays at its largest.
    pub value: i64,
}
