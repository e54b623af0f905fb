//! Which objects and nodes have something new since the last look, so that one pod's change is not a look at everything. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use callgate_compile::status::ObjectRef;

use super::View;
use crate::fleet::Agent;
use crate::publish::Published;
use crate::snapshot::{Snapshot, Stamp};

/// What was there at the last look.
#[derive(Debug, Default)]
pub struct Seen {
    nodes: BTreeMap<String, Node>,
    published: Option<Published>,
}

/// What of a node the statuses of objects depend on, but for time.
#[derive(Debug, Default)]
struct Node {
    wanted: Option<Arc<Snapshot>>,
    runs: Option<Arc<Stamp>>,
    first: u64,
    refused: Option<String>,
    broken: bool,
    attached: bool,
}

/// What has something new.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Dirty {
    /// Objects, in the order in which they are written.
    pub objects: BTreeSet<ObjectRef>,
    /// Nodes.
    pub nodes: BTreeSet<String>,
}

impl Seen {
    /// What is new now; from then on it is not.
    pub fn take(&mut self, published: &Published, view: View<'_>) -> Dirty {
        let mut dirty = Dirty::default();
        let names: BTreeSet<&String> =
            self.nodes.keys().chain(view.wanted.keys()).chain(view.fleet.agents().keys()).collect();
        let mut nodes = BTreeMap::new();
        for name in names {
            let now = Node::of(view.wanted.get(name), view.fleet.get(name));
            let before = self.nodes.get(name);
            if before.is_none_or(|before| !before.is(&now)) {
                let stamps = before.into_iter().chain([&now]).flat_map(Node::stamps);
                dirty.objects.extend(stamps.flat_map(|stamp| stamp.carried()).cloned());
                dirty.nodes.insert(name.clone());
            }
            if now.wanted.is_some() || view.fleet.get(name).is_some() {
                nodes.insert(name.clone(), now);
            }
        }
        self.nodes = nodes;
        let before = self.published.replace(published.clone());
        for (object, said) in &published.compiled.statuses {
            let same = before.as_ref().is_some_and(|before| {
                let is_said = Arc::ptr_eq(&before.compiled, &published.compiled)
                    || before.compiled.statuses.get(object) == Some(said);
                is_said && before.uids.get(object) == published.uids.get(object)
            });
            if !same {
                dirty.objects.insert(object.clone());
            }
        }
        dirty
    }
}

impl Node {
    fn of(wanted: Option<&Arc<Snapshot>>, agent: Option<&Agent>) -> Self {
        Self {
            wanted: wanted.cloned(),
            runs: agent.and_then(|agent| agent.stamp.clone()),
            first: agent.map_or(0, Agent::first),
            refused: agent.and_then(|agent| Some(agent.refused.as_ref()?.0.clone())),
            broken: agent.is_some_and(|agent| agent.broken),
            attached: agent.is_some_and(|agent| agent.stream.is_some()),
        }
    }

    fn is(&self, other: &Self) -> bool {
        same(self.wanted.as_ref(), other.wanted.as_ref())
            && same(self.runs.as_ref(), other.runs.as_ref())
            && (self.first, &self.refused) == (other.first, &other.refused)
            && (self.broken, self.attached) == (other.broken, other.attached)
    }

    fn stamps(&self) -> impl Iterator<Item = &Arc<Stamp>> {
        self.wanted.iter().map(|wanted| &wanted.stamp).chain(&self.runs)
    }
}

/// Whether both are the very same.
fn same<T>(one: Option<&Arc<T>>, other: Option<&Arc<T>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

#[cfg(test)]
mod tests;
