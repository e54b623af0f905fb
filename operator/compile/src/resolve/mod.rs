//! Every object with the ones it names: what it comes to, or what is wrong with it.
//!
//! ```text
//!   PptpAlg ─► alg ──┐
//!   Service ─► leaf ─┴─► services (groups flattened) ──┐
//!   IpRule  ─► rule (source, destination) ─────────────┴─► GoodRule    each with a Report
//! ```
mod alg;
mod group;
mod group_room;
mod leaf;
mod lookup;
mod report;
mod rule;
mod unaided;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use callgate_proto::model::{self, ObjectKey};

pub(crate) use alg::algs;
pub(crate) use group::services;
pub(crate) use leaf::Leaf;
pub(crate) use lookup::Hints;
pub(crate) use report::{Issue, Report};
#[cfg(test)]
pub(crate) use rule::GoodSource;
pub(crate) use rule::{GoodRule, PodScope, Pods, Resolver, Version};

/// Every PptpAlg as the data plane needs it, where it is good.
pub(crate) type Algs = BTreeMap<ObjectKey, (Option<model::PptpAlg>, Report)>;
/// Every Service with the leaves it stands for, where it is good.
pub(crate) type Services = BTreeMap<ObjectKey, (Option<Leaves>, Report)>;
/// Leaf services in the order in which they are tried. Whoever names a leaf shares it: a thousand groups of a thousand services
/// are a million names, and only a thousand services.
pub(crate) type Leaves = Vec<Arc<Leaf>>;

/// Puts services together, each once, and no more than it takes to see that they are too many.
#[derive(Default)]
struct Collected {
    leaves: Leaves,
    /// Where those are that are there: a service has one place, however many groups lead to it.
    seen: HashSet<*const Leaf>,
}

impl Collected {
    fn add(&mut self, leaves: &[Arc<Leaf>]) {
        let room = (group::MAX_LEAVES + 1).saturating_sub(self.leaves.len());
        let new = leaves.iter().filter(|leaf| self.seen.insert(Arc::as_ptr(leaf)));
        self.leaves.extend(new.take(room).cloned());
    }
}
