//! Facts to the world that compile looks at.

use std::net::Ipv4Addr;
use std::sync::Arc;

use callgate_compile::Since;
use callgate_compile::world::{Pod, World};
use callgate_proto::model::ObjectKey;
use ipnet::Ipv4Net;

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
    update_all(&mut world, facts, settings);
    world
}

/// Makes an older world, which [`update`] or nothing has made, the one that the facts have now. Says by what it may differ.
///
/// Only what differs is written: a world has some hundred thousand strings, and making all of them anew takes longer than
/// compiling does. Where only pods have changed, no other is even looked at.
pub fn update(world: &mut World, facts: &mut Facts, settings: &Settings) -> Since {
    let since = facts.take_touched();
    match &since {
        Since::Everything => update_all(world, facts, settings),
        Since::Pods(keys) => keys.iter().for_each(|key| pod(world, facts, key)),
    }
    since
}

fn update_all(world: &mut World, facts: &Facts, settings: &Settings) {
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
    for key in facts.pods.objects().keys() {
        pod(world, facts, key);
    }
    if world.pods.len() > facts.pods.objects().len() {
        world.pods.retain(|key, _| facts.pods.get(key).is_some());
    }
}

/// One pod, with those addresses only that it has.
fn pod(world: &mut World, facts: &Facts, key: &ObjectKey) {
    let Some(fact) = facts.pods.get(key) else {
        world.pods.remove(key);
        return;
    };
    let has = |address: &Ipv4Addr| facts.pods.has(key, fact, *address);
    let has_all = fact.pod.addresses.iter().all(has);
    let same = world.pods.get(key).is_some_and(|pod| match has_all {
        true => Arc::ptr_eq(pod, &fact.pod),
        false => is(pod, &fact.pod, has),
    });
    if !same {
        let mut pod = Arc::clone(&fact.pod);
        if !has_all {
            Arc::make_mut(&mut pod).addresses.retain(has);
        }
        world.pods.insert(key.clone(), pod);
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

#[cfg(test)]
mod kept;
#[cfg(test)]
mod tests;
