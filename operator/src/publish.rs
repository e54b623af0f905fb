//! One channel a node, each carrying the node's latest snapshot: who subscribes late gets the latest, who is slow skips.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use callgate_compile::status::ObjectRef;
use callgate_compile::world::World;
use callgate_compile::{Compiled, Since};
use callgate_proto::model::NodeConfig;
use tokio::sync::watch;

use crate::facts::Holders;
use crate::snapshot::Snapshot;

/// The latest snapshot of a node; `None` before the first, and for nodes that are gone.
pub type Latest = Option<Arc<Snapshot>>;

/// Every node's channel.
#[derive(Debug, Default)]
pub struct Board {
    nodes: Mutex<Channels>,
    holders: Mutex<Holders>,
    /// How many nodes the latest compile was for.
    count: AtomicUsize,
}

type Channels = BTreeMap<String, watch::Sender<Latest>>;

impl Board {
    /// Puts up what was compiled of a world that differs from the one before by no more than `since`. Returns the nodes whose
    /// snapshot is another now.
    pub fn publish(&self, world: &World, nodes: &BTreeMap<String, Arc<NodeConfig>>, since: &Since) -> Vec<String> {
        let mut holders = self.holders.lock().unwrap_or_else(PoisonError::into_inner);
        let touched = holders.follow(world, since);
        let mut channels = self.lock();
        let mut changed = Vec::new();
        for (name, config) in nodes {
            let channel = channels.entry(name.clone()).or_insert_with(|| watch::channel(None).0);
            let old = channel.borrow().clone();
            let new = match old {
                Some(old) if Arc::ptr_eq(&old.config, config) && !touched.contains(name) => continue,
                Some(old) if is_same(&old.config, config) => {
                    if holders.are(&old.holders, config) {
                        continue;
                    }
                    // Encoding and hashing are what costs: not done where only a pod's name changed.
                    Snapshot { holders: holders.of_config(config), ..(*old).clone() }
                }
                Some(_) | None => Snapshot::new(Arc::clone(config), holders.of_config(config)),
            };
            channel.send_replace(Some(Arc::new(new)));
            changed.push(name.clone());
        }
        for (name, channel) in channels.iter().filter(|(name, _)| !nodes.contains_key(*name)) {
            if channel.send_replace(None).is_some() {
                changed.push(name.clone());
            }
        }
        self.count.store(nodes.len(), Ordering::Relaxed);
        channels.retain(|name, channel| nodes.contains_key(name) || channel.receiver_count() > 0);
        changed
    }

    /// The channel of a node, also of one that is not known (yet).
    pub fn subscribe(&self, node: &str) -> watch::Receiver<Latest> {
        self.lock().entry(node.to_owned()).or_insert_with(|| watch::channel(None).0).subscribe()
    }

    /// How many nodes there are. Nobody waits for it, however long a compile is being put up.
    pub fn nodes(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Every node's latest snapshot.
    pub fn latest(&self) -> BTreeMap<String, Arc<Snapshot>> {
        let channels = self.lock();
        channels.iter().filter_map(|(name, channel)| Some((name.clone(), channel.borrow().clone()?))).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Channels> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Most often it is the very same one.
fn is_same(old: &Arc<NodeConfig>, new: &Arc<NodeConfig>) -> bool {
    Arc::ptr_eq(old, new) || old == new
}

/// The world of the latest compile: there is one, and the next compile writes into it what has changed.
#[derive(Debug, Clone)]
pub struct SharedWorld(Arc<RwLock<World>>);

impl SharedWorld {
    /// A world to begin with.
    pub fn new(world: World) -> Self {
        Self(Arc::new(RwLock::new(world)))
    }

    /// Looks at it.
    pub fn read(&self) -> RwLockReadGuard<'_, World> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes it.
    pub fn write(&self) -> RwLockWriteGuard<'_, World> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a compile comes to, for whoever asks.
#[derive(Debug, Clone)]
pub struct Published {
    /// What it was made of, or what a later compile is being made of.
    pub world: SharedWorld,
    /// Conditions, configurations.
    pub compiled: Arc<Compiled>,
    /// `metadata.uid` of each object: one of the same name that was made meanwhile is another, and has not been compiled.
    pub uids: Arc<BTreeMap<ObjectRef, String>>,
}

#[cfg(test)]
mod tests;
