//! The status as JSON writes it (docs/cli.md has the shape).

use std::collections::BTreeMap;

use callgate_compile::manifests::Problem;
use callgate_proto::pb;
use serde::Serialize;

use super::nodes::{NetView, NodeView};
use super::shared::{LearnedView, TunnelView};
use crate::human;
use crate::output::{problem, there};

/// What an agent runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusView {
    version: String,
    node: String,
    config_hash: Option<String>,
    programmed: ProgrammedView,
    path: String,
    connections: u64,
    calls: u64,
    objects: Vec<ObjectView>,
    problems: Vec<Problem>,
    counters: BTreeMap<String, u64>,
    features: Vec<FeatureView>,
    /// Of an agent with a PptpAlg of Shared or Auto only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tunnels: Vec<TunnelView>,
    /// Of an agent with a PptpAlg of Auto only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    learned: Vec<LearnedView>,
    /// Of a cluster only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    nodes: Vec<NodeView>,
    /// Of a cluster only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cluster_nets: Vec<NetView>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct ProgrammedView {
    value: bool,
    since: Option<String>,
    reason: String,
    message: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct ObjectView {
    kind: String,
    namespace: String,
    name: String,
    conditions: Vec<ConditionView>,
    counters: BTreeMap<String, u64>,
}

/// A metav1.Condition, named as Kubernetes names its fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct ConditionView {
    #[serde(rename = "type")]
    type_: String,
    status: String,
    reason: String,
    message: String,
    observed_generation: i64,
    last_transition_time: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct FeatureView {
    name: String,
    available: bool,
    detail: String,
}

fn counters(list: Vec<pb::Counter>) -> BTreeMap<String, u64> {
    list.into_iter().map(|counter| (counter.name, counter.value)).collect()
}

impl From<pb::StatusReply> for StatusView {
    fn from(reply: pb::StatusReply) -> Self {
        let programmed = reply.programmed.unwrap_or_default();
        let mut objects: Vec<ObjectView> = reply.objects.into_iter().map(ObjectView::from).collect();
        objects.sort_by(|a, b| (&a.kind, &a.namespace, &a.name).cmp(&(&b.kind, &b.namespace, &b.name)));
        let feature = |f: pb::Feature| FeatureView { name: f.name, available: f.available, detail: f.detail };
        Self {
            version: reply.version,
            node: reply.node,
            config_hash: there(reply.config_hash),
            programmed: ProgrammedView {
                value: programmed.value,
                since: human::time(programmed.since_unix_ms),
                reason: programmed.reason,
                message: programmed.message,
            },
            path: reply.path,
            connections: reply.connections,
            calls: reply.calls,
            objects,
            problems: reply.problems.into_iter().map(problem).collect(),
            counters: counters(reply.counters),
            features: reply.features.into_iter().map(feature).collect(),
            tunnels: reply.tunnels.into_iter().map(TunnelView::from).collect(),
            learned: reply.learned.into_iter().map(LearnedView::from).collect(),
            nodes: reply.nodes.into_iter().map(NodeView::from).collect(),
            cluster_nets: reply.cluster_nets.into_iter().map(NetView::from).collect(),
        }
    }
}

impl From<pb::ObjectStatus> for ObjectView {
    fn from(object: pb::ObjectStatus) -> Self {
        let condition = |c: pb::Condition| ConditionView {
            type_: c.r#type,
            status: c.status,
            reason: c.reason,
            message: c.message,
            observed_generation: c.observed_generation,
            last_transition_time: human::time(c.last_transition_unix_ms),
        };
        Self {
            kind: object.kind,
            namespace: object.namespace,
            name: object.name,
            conditions: object.conditions.into_iter().map(condition).collect(),
            counters: counters(object.counters),
        }
    }
}
