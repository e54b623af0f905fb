//! Many agents' answers as one. Pure.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use callgate_compile::status::ObjectRef;
use callgate_compile::world::World;
use callgate_crds::ObjectStatus;
use callgate_crds::conditions::{ConditionType, Reason};
use callgate_proto::pb;

use crate::facts::{ClusterNet, Holders};
use crate::fleet::{Agent, Fleet};
use crate::snapshot::Snapshot;

/// All calls in their promised order, each with its node, and its pod where the agent does not know it.
pub(super) fn calls(
    lists: BTreeMap<String, pb::CallList>,
    missing: Vec<pb::MissingNode>,
    world: &World,
    taken_unix_ms: i64,
) -> pb::CallList {
    let holders = Holders::of(world);
    let mut calls: Vec<pb::Call> = Vec::new();
    for (node, list) in lists {
        for mut call in list.calls {
            call.node.clone_from(&node);
            if call.pod.is_empty()
                && let Ok(address) = call.client_address.parse::<Ipv4Addr>()
                && let Some((key, _)) = holders.get(address)
            {
                call.pod = key.to_string();
            }
            calls.push(call);
        }
    }
    let address = |text: &str| text.parse::<Ipv4Addr>().ok();
    calls.sort_by_key(|call| {
        let ends = (address(&call.client_address), call.client_port, address(&call.server_address));
        (ends, call.pns_call_id_outside, call.pac_call_id, call.node.clone())
    });
    pb::CallList { calls, taken_unix_ms, missing }
}

/// Nodes without an answer: those that were asked, with what was said instead, and those that should be there to be asked.
pub(super) fn missing(
    mut asked: BTreeMap<String, String>,
    lists: &BTreeMap<String, pb::CallList>,
    wanted: &BTreeMap<String, Arc<Snapshot>>,
    fleet: &Fleet,
) -> Vec<pb::MissingNode> {
    let busy =
        wanted.iter().filter(|(node, snapshot)| !snapshot.config.sources.is_empty() && !lists.contains_key(*node));
    for (node, _) in busy {
        asked.entry(node.clone()).or_insert_with(|| why_missing(fleet.get(node)));
    }
    let missing = asked.into_iter().map(|(node, message)| {
        let since_unix_ms = fleet.get(&node).filter(|agent| agent.stream.is_none()).map_or(0, since);
        pb::MissingNode { node, since_unix_ms, message }
    });
    missing.collect()
}

/// What is to be said of a node whose agent is not there.
pub(super) fn why_missing(agent: Option<&Agent>) -> String {
    let why = match agent {
        None => "its agent has never been attached to this operator",
        Some(Agent { stream: Some(_), .. }) => "its agent does not answer",
        Some(_) => "its agent is not attached any more",
    };
    format!("{why}: see its pod of DaemonSet callgate-dataplane")
}

fn since(agent: &Agent) -> i64 {
    agent.since.time.as_millisecond()
}

/// What watchers hear of: which calls there are, and their states.
pub(super) fn outline(list: &pb::CallList) -> pb::CallList {
    let mut outline = list.clone();
    outline.taken_unix_ms = 0;
    for call in &mut outline.calls {
        (call.tx, call.rx, call.age_ms, call.idle_ms) = (None, None, 0, 0);
    }
    outline
}

/// The whole cluster: objects as their status stands, counters summed, nodes one by one.
pub(super) fn status(
    told: &BTreeMap<ObjectRef, ObjectStatus>,
    wanted: &BTreeMap<String, Arc<Snapshot>>,
    fleet: &Fleet,
    nets: &[ClusterNet],
) -> pb::StatusReply {
    let mut counters: BTreeMap<String, u64> = BTreeMap::new();
    for counter in fleet.agents().values().flat_map(|agent| &agent.report.counters) {
        *counters.entry(counter.name.clone()).or_default() += counter.value;
    }
    let counters = counters.into_iter().map(|(name, value)| pb::Counter { name, value }).collect();
    let mut names: Vec<&String> = wanted.keys().chain(fleet.agents().keys()).collect();
    names.sort();
    names.dedup();
    let nodes: Vec<pb::NodeStatus> =
        names.into_iter().map(|name| node(name, wanted.get(name), fleet.get(name))).collect();
    let behind: Vec<&str> = nodes
        .iter()
        .filter(|node| !node.programmed.as_ref().is_some_and(|programmed| programmed.value))
        .map(|node| node.node.as_str())
        .collect();
    let programmed = match behind.as_slice() {
        [] => pb::Programmed { value: true, reason: Reason::Programmed.name().to_owned(), ..pb::Programmed::default() },
        [..] => pb::Programmed {
            value: false,
            reason: Reason::Pending.name().to_owned(),
            message: format!("not in force on {}", behind.join(", ")),
            ..pb::Programmed::default()
        },
    };
    pb::StatusReply {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        programmed: Some(programmed),
        objects: told.iter().map(|(reference, status)| object(reference, status)).collect(),
        counters,
        connections: nodes.iter().map(|node| node.connections).sum(),
        calls: nodes.iter().map(|node| node.calls).sum(),
        nodes,
        cluster_nets: nets
            .iter()
            .map(|net| pb::ClusterNet { net: net.net.to_string(), found: net.found.clone() })
            .collect(),
        ..pb::StatusReply::default()
    }
}

fn node(name: &str, wanted: Option<&Arc<Snapshot>>, agent: Option<&Agent>) -> pb::NodeStatus {
    let attached = agent.is_some_and(|agent| agent.stream.is_some());
    let running = agent.map(|agent| agent.running.clone()).unwrap_or_default();
    let wanted_hash = wanted.map(|snapshot| snapshot.hash.clone()).unwrap_or_default();
    let idle = wanted.is_none_or(|snapshot| snapshot.config.sources.is_empty());
    let whole = agent.is_none_or(|agent| !agent.broken);
    let value = (attached && running == wanted_hash && whole) || (!attached && idle);
    let refused = agent.and_then(|agent| agent.refused.as_ref()).filter(|(hash, _)| *hash == wanted_hash);
    let (reason, message) = match (value, attached, refused) {
        (true, _, _) => (Reason::Programmed, String::new()),
        (false, false, _) => (Reason::NodeUnreachable, why_missing(agent)),
        (false, true, Some((_, failure))) => (Reason::ApplyFailed, failure.message.clone()),
        (false, true, None) => (Reason::Pending, "the last snapshot is not in force yet".to_owned()),
    };
    pb::NodeStatus {
        node: name.to_owned(),
        attached,
        version: agent.map(|agent| agent.hello.version.clone()).unwrap_or_default(),
        config_hash: running,
        wanted_hash,
        programmed: Some(pb::Programmed { value, since_unix_ms: 0, reason: reason.name().to_owned(), message }),
        connections: agent.map_or(0, |agent| agent.report.connections),
        calls: agent.map_or(0, |agent| agent.report.calls),
        since_unix_ms: agent.map_or(0, since),
    }
}

fn object(reference: &ObjectRef, status: &ObjectStatus) -> pb::ObjectStatus {
    let order = |type_: &str| ConditionType::ALL.iter().position(|known| known.name() == type_);
    let mut conditions: Vec<pb::Condition> = status
        .conditions
        .iter()
        .map(|condition| pb::Condition {
            r#type: condition.type_.clone(),
            status: condition.status.clone(),
            reason: condition.reason.clone(),
            message: condition.message.clone(),
            observed_generation: condition.observed_generation.unwrap_or(0),
            last_transition_unix_ms: condition.last_transition_time.0.as_millisecond(),
        })
        .collect();
    conditions.sort_by_key(|condition| order(&condition.r#type));
    let counted = [
        ("clients", status.clients),
        ("live_calls", status.live_calls),
        ("nodes_programmed", status.nodes_programmed),
        ("nodes_total", status.nodes_total),
    ];
    let counters = counted
        .into_iter()
        .filter_map(|(name, value)| Some(pb::Counter { name: name.to_owned(), value: u64::from(value?) }));
    pb::ObjectStatus {
        kind: reference.kind.name().to_owned(),
        namespace: reference.key.namespace.clone(),
        name: reference.key.name.clone(),
        conditions,
        counters: counters.collect(),
    }
}
