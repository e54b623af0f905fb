//! The status of one object as it is to stand in the API server.

use std::collections::BTreeMap;

use callgate_compile::status::{ObjectRef, Status};
use callgate_crds::conditions::{ConditionType, Reason};
use callgate_crds::{Kind, ObjectStatus, SharedServer, set_condition};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{View, programmed};

/// What the status of `object` is to be, where `before` stands there now.
pub fn status(object: &ObjectRef, said: &Status, before: &ObjectStatus, view: View<'_>) -> ObjectStatus {
    let progress = programmed(object, said, ran(said, before), view);
    let mut conditions: Vec<(Reason, String)> =
        said.conditions.iter().map(|condition| (condition.reason, condition.message.clone())).collect();
    conditions.push((progress.reason, progress.message));
    let matters = conditions.iter().find(|(reason, _)| !reason.holds()).or_else(|| noteworthy(&conditions));
    let reason = matters.map(|(reason, _)| reason.name().to_owned());
    let now = Time(view.now.time);
    let mut list = before.conditions.clone();
    // A condition that is no longer told of (a service that names nothing any more) goes.
    list.retain(|old| conditions.iter().any(|(reason, _)| reason.condition().name() == old.type_));
    for (reason, message) in conditions {
        let message = shortened(message);
        set_condition(&mut list, reason.condition_with(message, Some(said.observed_generation), now.clone()));
    }
    let calls = u32::try_from(view.fleet.live_calls(object)).unwrap_or(u32::MAX);
    ObjectStatus {
        observed_generation: Some(said.observed_generation),
        conditions: list,
        nodes_programmed: Some(progress.programmed),
        nodes_total: Some(progress.total),
        clients: (object.kind == Kind::IpRule).then(|| clients(object, said, progress.is_complete, view)),
        reason,
        nodes: Some(format!("{}/{}", progress.programmed, progress.total)),
        live_calls: Some(calls),
        shared_servers: if object.kind == Kind::PptpAlg { shared_servers(object, view) } else { Vec::new() },
    }
}

/// Whether it stands there that this generation is in force on nodes.
fn ran(said: &Status, before: &ObjectStatus) -> bool {
    let (type_, reason) = (ConditionType::Programmed.name(), Reason::Programmed.name());
    let generation = Some(said.observed_generation);
    let stands = before.conditions.iter().find(|condition| condition.type_ == type_);
    stands.is_some_and(|condition| condition.reason == reason && condition.observed_generation == generation)
}

/// The CRD takes no more of them.
const MOST_SERVERS: usize = 64;

/// Servers that agents have seen to take one control connection only, under this PptpAlg; the longest known reason of each.
fn shared_servers(object: &ObjectRef, view: View<'_>) -> Vec<SharedServer> {
    let alg = object.key.to_string();
    let mut servers: BTreeMap<&str, SharedServer> = BTreeMap::new();
    let told = view.fleet.agents().values().flat_map(|agent| &agent.report.shared_servers);
    for told in told.filter(|told| told.alg == alg) {
        let since = Time(Timestamp::from_second(told.since_unix_s).unwrap_or_default());
        let (server, reason) = (told.server.clone(), told.reason.clone());
        let first = SharedServer { server, reason, since, nodes: 0 };
        let known = servers.entry(&told.server).or_insert_with(|| first.clone());
        if first.since.0 < known.since.0 {
            (known.since, known.reason) = (first.since, first.reason);
        }
        known.nodes += 1;
    }
    servers.into_values().take(MOST_SERVERS).collect()
}

/// Whether the two differ in more than in what is counted all the time.
pub fn differs_in_substance(one: &ObjectStatus, other: &ObjectStatus) -> bool {
    let substance = |status: &ObjectStatus| ObjectStatus { live_calls: None, clients: None, ..status.clone() };
    substance(one) != substance(other)
}

/// Source addresses for which a rule is in force: what nodes have acknowledged, not what is selected. A change of labels moves
/// no generation, so this is by what people know that it has arrived.
fn clients(object: &ObjectRef, said: &Status, is_complete: bool, view: View<'_>) -> u32 {
    let whole = view.fleet.carriers(object).filter(|(_, agent)| !agent.broken);
    let stamps = whole.filter_map(|(_, agent)| agent.stamp.as_ref());
    let of_nodes: Vec<(u32, u32)> = stamps.map(|stamp| stamp.clients(object)).collect();
    let pods: u32 = of_nodes.iter().map(|(pods, _)| pods).sum();
    // Networks are on every node, and not in the blocks in which they were written.
    match of_nodes.iter().map(|(_, networks)| *networks).max().unwrap_or(0) {
        0 => pods,
        _ if is_complete => said.clients,
        networks => pods + networks,
    }
}

/// Where all is well: what is still worth knowing, else how far it is.
fn noteworthy(conditions: &[(Reason, String)]) -> Option<&(Reason, String)> {
    let first = conditions.first().filter(|(reason, _)| *reason != Reason::Accepted);
    first.or_else(|| conditions.last())
}

/// The API server takes at most 32768 characters of a condition's message.
const LONGEST_MESSAGE: usize = 32_768;

fn shortened(message: String) -> String {
    if message.chars().count() <= LONGEST_MESSAGE {
        return message;
    }
    message.chars().take(LONGEST_MESSAGE - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests;
