//! Facts to the world that compile looks at.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

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
    let mut world = World::cluster();
    update(&mut world, facts, settings);
    world
}

/// Makes an older world the one that the facts have now. Only what differs is written: a world has some hundred thousand strings,
/// and making all of them anew takes longer than compiling does.
pub fn update(world: &mut World, facts: &Facts, settings: &Settings) {
    world.standalone = false;
    follow(&mut world.operator_namespace, &settings.namespace);
    world.cluster_nets = cluster_nets(facts, &settings.cluster_cidrs).into_iter().map(|found| found.net).collect();
    let nodes = facts.nodes.objects();
    if !world.nodes.iter().eq(nodes.keys().map(|key| &key.name)) {
        world.nodes = nodes.keys().map(|key| key.name.clone()).collect();
    }
    let namespaces = facts.namespaces.objects();
    if !world.namespaces.iter().eq(namespaces.iter().map(|(key, labels)| (&key.name, labels))) {
        world.namespaces = namespaces.iter().map(|(key, labels)| (key.name.clone(), labels.clone())).collect();
    }
    follow(&mut world.algs, facts.algs.objects());
    follow(&mut world.services, facts.services.objects());
    follow(&mut world.rules, facts.rules.objects());
    let pods = facts.pods.objects();
    let owners = owners(pods);
    // Side by side, because looking each of them up takes longer than comparing it.
    let mut before = world.pods.iter().peekable();
    let mut changed = Vec::new();
    for (key, fact) in pods {
        let has = |address: &Ipv4Addr| fact.pod.host_network || owners.has(key, *address);
        let has_all = fact.pod.addresses.iter().all(has);
        while before.next_if(|(old, _)| *old < key).is_some() {}
        let same = before.next_if(|(old, _)| *old == key).is_some_and(|(_, pod)| match has_all {
            true => Arc::ptr_eq(pod, &fact.pod),
            false => is(pod, &fact.pod, has),
        });
        if !same {
            let mut pod = Arc::clone(&fact.pod);
            if !has_all {
                Arc::make_mut(&mut pod).addresses.retain(has);
            }
            changed.push((key.clone(), pod));
        }
    }
    world.pods.extend(changed);
    if world.pods.len() > pods.len() {
        world.pods.retain(|key, _| pods.contains_key(key));
    }
}

fn follow<T: Clone + PartialEq>(old: &mut T, new: &T) {
    if old != new {
        old.clone_from(new);
    }
}

/// Whether `old` is `new` with those addresses only that it has.
fn is(old: &Pod, new: &Pod, has: impl Fn(&Ipv4Addr) -> bool) -> bool {
    let Pod { uid, labels, addresses, only_ipv6, node, host_network, finished, restarts } = new;
    let one = (&old.uid, &old.labels, old.only_ipv6, &old.node, old.host_network, old.finished, old.restarts);
    one == (uid, labels, *only_ipv6, node, *host_network, *finished, *restarts)
        && old.addresses.iter().eq(addresses.iter().filter(|address| has(address)))
}

/// Pods by address.
pub(crate) type ByAddress<'a> = BTreeMap<Ipv4Addr, (&'a ObjectKey, &'a Pod)>;

/// Pods by address, those in their node's network left out.
pub fn holders_by_address(world: &World) -> BTreeMap<Ipv4Addr, (&ObjectKey, &Pod)> {
    let pods = world.pods.iter().filter(|(_, pod)| !pod.host_network && !pod.finished);
    pods.flat_map(|(key, pod)| pod.addresses.iter().map(move |address| (*address, (key, &**pod)))).collect()
}

/// Which pod has each source address of `config`, sorted by address.
pub(crate) fn holders_of(config: &NodeConfig, pods: &ByAddress<'_>) -> Vec<pb::Holder> {
    let holders = held(config, pods).map(|(address, key, pod)| pb::Holder {
        address: u32::from(address),
        pod: key.to_string(),
        uid: pod.uid.clone(),
        restarts: pod.restarts,
    });
    holders.collect()
}

/// Whether `holders` are what [`holders_of`] would say now.
pub(crate) fn are_holders_of(holders: &[pb::Holder], config: &NodeConfig, pods: &ByAddress<'_>) -> bool {
    let is_called = |name: &str, key: &ObjectKey| {
        name.strip_prefix(&*key.namespace).and_then(|rest| rest.strip_prefix('/')).is_some_and(|rest| rest == key.name)
    };
    let mut now = held(config, pods);
    let same = holders.iter().all(|holder| {
        now.next().is_some_and(|(address, key, pod)| {
            let pb::Holder { address: at, pod: name, uid, restarts } = holder;
            *at == u32::from(address) && is_called(name, key) && *uid == pod.uid && *restarts == pod.restarts
        })
    });
    same && now.next().is_none()
}

fn held<'a>(
    config: &'a NodeConfig,
    pods: &'a ByAddress<'a>,
) -> impl Iterator<Item = (Ipv4Addr, &'a ObjectKey, &'a Pod)> {
    config.sources.iter().flat_map(move |source| {
        let held = pods.range(source.net.network()..=source.net.broadcast());
        let here = held.filter(|(_, (_, pod))| pod.node.as_deref() == Some(config.node.as_str()));
        here.map(|(address, (key, pod))| (*address, *key, *pod))
    })
}

#[cfg(test)]
mod tests;
