//! One channel a node, each carrying the node's latest snapshot: who subscribes late gets the latest, who is slow skips.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use callgate_compile::Compiled;
use callgate_compile::status::ObjectRef;
use callgate_compile::world::World;
use callgate_proto::model::NodeConfig;
use tokio::sync::watch;

use crate::facts::{holders_by_address, holders_of};
use crate::snapshot::Snapshot;

/// The latest snapshot of a node; `None` before the first, and for nodes that are gone.
pub type Latest = Option<Arc<Snapshot>>;

/// Every node's channel.
#[derive(Debug, Default)]
pub struct Board {
    nodes: Mutex<BTreeMap<String, watch::Sender<Latest>>>,
}

impl Board {
    /// Puts up what was compiled. Returns the nodes whose snapshot is another now.
    pub fn publish(&self, world: &World, nodes: &BTreeMap<String, Arc<NodeConfig>>) -> Vec<String> {
        let pods = holders_by_address(world);
        let mut channels = self.lock();
        let mut changed = Vec::new();
        for (name, config) in nodes {
            let holders = holders_of(config, &pods);
            let channel = channels.entry(name.clone()).or_insert_with(|| watch::channel(None).0);
            let old = channel.borrow().clone();
            let new = match old {
                Some(old) if is_same(&old.config, config) && old.holders == holders => continue,
                // Encoding and hashing are what costs: not done where only a pod's name changed.
                Some(old) if is_same(&old.config, config) => Snapshot { holders, ..(*old).clone() },
                Some(_) | None => Snapshot::new(Arc::clone(config), holders),
            };
            channel.send_replace(Some(Arc::new(new)));
            changed.push(name.clone());
        }
        for (name, channel) in channels.iter().filter(|(name, _)| !nodes.contains_key(*name)) {
            if channel.send_replace(None).is_some() {
                changed.push(name.clone());
            }
        }
        channels.retain(|name, channel| nodes.contains_key(name) || channel.receiver_count() > 0);
        changed
    }

    /// The channel of a node, also of one that is not known (yet).
    pub fn subscribe(&self, node: &str) -> watch::Receiver<Latest> {
        self.lock().entry(node.to_owned()).or_insert_with(|| watch::channel(None).0).subscribe()
    }

    /// Every node's latest snapshot.
    pub fn latest(&self) -> BTreeMap<String, Arc<Snapshot>> {
        let channels = self.lock();
        channels.iter().filter_map(|(name, channel)| Some((name.clone(), channel.borrow().clone()?))).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, watch::Sender<Latest>>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Most often it is the very same one.
fn is_same(old: &Arc<NodeConfig>, new: &Arc<NodeConfig>) -> bool {
    Arc::ptr_eq(old, new) || old == new
}

/// What a compile comes to, for whoever asks.
#[derive(Debug, Clone)]
pub struct Published {
    /// What it was made of.
    pub world: Arc<World>,
    /// Conditions, configurations.
    pub compiled: Arc<Compiled>,
    /// `metadata.uid` of each object: one of the same name that was made meanwhile is another, and has not been compiled.
    pub uids: BTreeMap<ObjectRef, String>,
}

#[cfg(test)]
mod tests;
