//! Which pod has each address, kept from one compile to the next.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use callgate_compile::Since;
use callgate_compile::world::{Pod, World};
use callgate_proto::model::{NodeConfig, ObjectKey};
use callgate_proto::pb;

type Held = (ObjectKey, Arc<Pod>);

/// Pods by address, those in their node's network and finished ones left out.
#[derive(Debug, Default)]
pub struct Holders {
    pods: BTreeMap<ObjectKey, Arc<Pod>>,
    by_address: BTreeMap<Ipv4Addr, Held>,
}

impl Holders {
    /// Of a world.
    pub fn of(world: &World) -> Self {
        let mut holders = Self::default();
        holders.follow(world, &Since::Everything);
        holders
    }

    /// Those of a world that differs from the one before by no more than `since`. Returns the nodes of pods that have changed.
    pub fn follow(&mut self, world: &World, since: &Since) -> BTreeSet<String> {
        let keys: Vec<ObjectKey> = match since {
            Since::Pods(keys) => keys.iter().cloned().collect(),
            Since::Everything => {
                let gone = self.pods.keys().filter(|key| !world.pods.contains_key(*key));
                let other = |(key, pod): &(&ObjectKey, &Arc<Pod>)| {
                    self.pods.get(*key).is_none_or(|before| !Arc::ptr_eq(before, pod))
                };
                gone.chain(world.pods.iter().filter(other).map(|(key, _)| key)).cloned().collect()
            }
        };
        let mut nodes = BTreeSet::new();
        let mut fresh = Vec::new();
        // All that are gone first: an address may have gone from one of them to another.
        for key in keys {
            let new = world.pods.get(&key);
            if let (Some(old), Some(new)) = (self.pods.get(&key), new)
                && Arc::ptr_eq(old, new)
            {
                continue;
            }
            if let Some(old) = self.pods.remove(&key) {
                for address in addresses(&old) {
                    if self.by_address.get(address).is_some_and(|(holder, _)| *holder == key) {
                        self.by_address.remove(address);
                    }
                }
                nodes.extend(old.node.clone());
            }
            if let Some(new) = new {
                nodes.extend(new.node.clone());
                fresh.push((key, Arc::clone(new)));
            }
        }
        for (key, pod) in fresh {
            for address in addresses(&pod) {
                self.by_address.insert(*address, (key.clone(), Arc::clone(&pod)));
            }
            self.pods.insert(key, pod);
        }
        nodes
    }

    /// Who has this address.
    pub fn get(&self, address: Ipv4Addr) -> Option<(&ObjectKey, &Pod)> {
        self.by_address.get(&address).map(|(key, pod)| (key, &**pod))
    }

    /// Which pod has each source address of `config`, sorted by address.
    pub(crate) fn of_config(&self, config: &NodeConfig) -> Vec<pb::Holder> {
        let holders = self.held(config).map(|(address, (key, pod))| pb::Holder {
            address: u32::from(*address),
            pod: key.to_string(),
            uid: pod.uid.clone(),
            restarts: pod.restarts,
        });
        holders.collect()
    }

    /// Whether `told` is what [`Holders::of_config`] would say now.
    pub(crate) fn are(&self, told: &[pb::Holder], config: &NodeConfig) -> bool {
        let is_called = |name: &str, key: &ObjectKey| {
            let rest = name.strip_prefix(&*key.namespace).and_then(|rest| rest.strip_prefix('/'));
            rest.is_some_and(|rest| rest == key.name)
        };
        let mut now = self.held(config);
        let same = told.iter().all(|holder| {
            now.next().is_some_and(|(address, (key, pod))| {
                let pb::Holder { address: at, pod: name, uid, restarts } = holder;
                *at == u32::from(*address) && is_called(name, key) && *uid == pod.uid && *restarts == pod.restarts
            })
        });
        same && now.next().is_none()
    }

    fn held<'a>(&'a self, config: &'a NodeConfig) -> impl Iterator<Item = (&'a Ipv4Addr, &'a Held)> {
        config.sources.iter().flat_map(move |source| {
            let held = self.by_address.range(source.net.network()..=source.net.broadcast());
            held.filter(|(_, (_, pod))| pod.node.as_deref() == Some(config.node.as_str()))
        })
    }
}

fn addresses(pod: &Pod) -> &[Ipv4Addr] {
    if pod.host_network || pod.finished { &[] } else { &pod.addresses }
}
