//! The status of one EgressNode.

use std::sync::Arc;

use callgate_crds::conditions::Reason;
use callgate_crds::{EgressNodeStatus, NodeCounter, NodeFeature, set_condition};
use callgate_proto::pb;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::View;
use crate::fleet::Agent;

/// Most entries of a list of counters or features: what the schema allows.
const MOST_COUNTERS: usize = 256;
const MOST_FEATURES: usize = 64;

/// What the status of `node` is to be, where `before` stands there now.
pub fn status(node: &str, before: &EgressNodeStatus, view: View<'_>) -> EgressNodeStatus {
    let agent = view.fleet.get(node);
    let wanted = view.wanted.get(node);
    let (reason, message) = ready(node, agent, view);
    let mut conditions = before.conditions.clone();
    set_condition(&mut conditions, reason.condition_with(message, None, Time(view.now.time)));
    let mut status = EgressNodeStatus {
        conditions,
        wanted_hash: wanted.map(|snapshot| snapshot.hash.clone()),
        rules: wanted.map(|snapshot| snapshot.config.rules.len() as u32),
        clients: wanted.map(|snapshot| snapshot.config.sources.len() as u32),
        ..EgressNodeStatus::default()
    };
    if let Some(agent) = agent {
        describe(&mut status, agent);
    }
    status
}

/// Makes `status` the one that follows `stored`: a condition that is as it was has been so since then.
pub fn follow(status: &mut EgressNodeStatus, stored: &EgressNodeStatus) {
    let mut conditions = stored.conditions.clone();
    for condition in status.conditions.drain(..) {
        set_condition(&mut conditions, condition);
    }
    status.conditions = conditions;
}

/// Whether the two differ in more than in what is counted all the time.
pub fn differs_in_substance(one: &EgressNodeStatus, other: &EgressNodeStatus) -> bool {
    let substance = |status: &EgressNodeStatus| EgressNodeStatus {
        counters: Vec::new(),
        connections: None,
        live_calls: None,
        ..status.clone()
    };
    substance(one) != substance(other)
}

fn ready(node: &str, agent: Option<&Agent>, view: View<'_>) -> (Reason, String) {
    let Some(agent) = agent.filter(|agent| agent.stream.is_some()) else {
        let expected = view.fleet.is_expected(node, view.wanted.get(node).map(Arc::as_ref), view.now.instant);
        let message = match expected {
            true => format!("No agent is attached: see the agent's pod on node {node}, and its log."),
            false => format!(
                "No agent is attached, and no rule has a client on node {node}: where none is meant to be, delete this object."
            ),
        };
        return (Reason::AgentMissing, message);
    };
    let Some(wanted) = view.wanted.get(node).filter(|wanted| !agent.runs(&wanted.hash)) else {
        let missing: Vec<String> = agent
            .hello
            .features
            .iter()
            .filter(|feature| !feature.available)
            .map(|feature| match feature.detail.is_empty() {
                true => feature.name.clone(),
                false => format!("{} ({})", feature.name, feature.detail),
            })
            .collect();
        return match missing.is_empty() {
            true => (Reason::AgentReady, "Runs what it should.".to_owned()),
            false => (Reason::Degraded, format!("Runs what it should, without {}.", missing.join(", "))),
        };
    };
    match agent.refused.as_ref().filter(|(hash, _)| *hash == wanted.hash) {
        None => (Reason::Converging, "The last snapshot is not yet in effect.".to_owned()),
        Some((_, failure)) => {
            let object = if failure.object.is_empty() { String::new() } else { format!("{}: ", failure.object) };
            let message = failure.message.trim_end_matches('.');
            let goes_on = if agent.broken { "What runs is not whole." } else { "What ran before goes on." };
            (Reason::SnapshotRefused, format!("{object}{message}. {goes_on}"))
        }
    }
}

fn describe(status: &mut EgressNodeStatus, agent: &Agent) {
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let count = |count: u64| Some(u32::try_from(count).unwrap_or(u32::MAX));
    status.version = text(&agent.hello.version);
    status.kernel = text(&agent.hello.kernel);
    status.config_hash = text(&agent.running);
    // Where nothing was reported nobody knows whether there are none.
    if agent.report != pb::Report::default() {
        status.path = text(&agent.report.path);
        status.connections = count(agent.report.connections);
        status.live_calls = count(agent.report.calls);
    }
    status.features = agent
        .hello
        .features
        .iter()
        .take(MOST_FEATURES)
        .map(|feature| NodeFeature {
            name: feature.name.clone(),
            available: feature.available,
            detail: feature.detail.clone(),
        })
        .collect();
    let counted = agent.report.counters.iter().filter(|counter| counter.value > 0).take(MOST_COUNTERS);
    status.counters = counted
        .map(|counter| NodeCounter {
            name: counter.name.clone(),
            value: i64::try_from(counter.value).unwrap_or(i64::MAX),
        })
        .collect();
    // The list is a map by name: the API server refuses one that has a name twice.
    status.features.dedup_by(|a, b| a.name == b.name);
    status.counters.dedup_by(|a, b| a.name == b.name);
}

#[cfg(test)]
mod tests;
