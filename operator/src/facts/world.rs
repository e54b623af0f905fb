//! Facts to the world that compile looks at.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use callgate_compile::world::{Pod, World};
use callgate_proto::model::{NodeConfig, ObjectKey};
use callgate_proto::pb;
use ipnet::Ipv4Net;

use super::address::owners;
use super::{Facts, cluster_nets};

/// What of the command line matters for the world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Namespace of the operator and of the predefined objects.
    pub namespace: String,
    /// `--cluster-cidr`.
    pub cluster_cidrs: Vec<Ipv4Net>,
}

/// The world as the facts have it. Every address is in it once: with the pod that has it now.
pub fn world(facts: &Facts, settings: &Settings) -> World {
    let owners = owners(facts.pods.objects());
    let pods = facts.pods.objects().iter().map(|(key, fact)| {
        let mut pod = fact.pod.clone();
        if !pod.host_network {
            pod.addresses.retain(|address| owners.get(address).is_some_and(|owner| *owner == key));
        }
        (key.clone(), pod)
    });
    World {
        standalone: false,
        operator_namespace: settings.namespace.clone(),
        cluster_nets: cluster_nets(facts, &settings.cluster_cidrs).into_iter().map(|found| found.net).collect(),
        nodes: facts.nodes.objects().keys().map(|key| key.name.clone()).collect(),
        namespaces: facts.namespaces.objects().iter().map(|(key, labels)| (key.name.clone(), labels.clone())).collect(),
        pods: pods.collect(),
        algs: facts.algs.objects().clone(),
        services: facts.services.objects().clone(),
        rules: facts.rules.objects().clone(),
    }
}

/// Pods by address, those in their node's network left out.
pub fn holders_by_address(world: &World) -> BTreeMap<Ipv4Addr, (&ObjectKey, &Pod)> {
    let pods = world.pods.iter().filter(|(_, pod)| !pod.host_network && !pod.finished);
    pods.flat_map(|(key, pod)| pod.addresses.iter().map(move |address| (*address, (key, pod)))).collect()
}

/// Which pod has each source address of `config`, sorted by address.
pub(crate) fn holders_of(config: &NodeConfig, pods: &BTreeMap<Ipv4Addr, (&ObjectKey, &Pod)>) -> Vec<pb::Holder> {
    let mut holders = Vec::new();
    for source in &config.sources {
        let held = pods.range(source.net.network()..=source.net.broadcast());
        let here = held.filter(|(_, (_, pod))| pod.node.as_deref() == Some(config.node.as_str()));
        holders.extend(here.map(|(address, (key, pod))| pb::Holder {
            address: u32::from(*address),
            pod: key.to_string(),
            uid: pod.uid.clone(),
            restarts: pod.restarts,
        }));
    }
    holders
}

#[cfg(test)]
mod tests;
