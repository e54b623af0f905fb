//! What the operator knows of the cluster: of each object only what matters, and the world made of it.
//!
//! ```text
//!  watchers (one a kind) ──► Tables ──► addresses: one pod each ──┐          ┌──► compile
//!                              │                                  ├──► World ┤
//!                              └──────► cluster networks ─────────┘          └──► holders: who is told to have each address
//! ```
//! Nothing here waits or asks: `watch` feeds it, `lead` reads it.

mod cluster;
mod holders;
mod node;
mod pod;
mod pods;
mod table;
mod world;

use std::collections::BTreeMap;

use callgate_compile::Since;
use callgate_compile::status::ObjectRef;
use callgate_compile::world::{Labels, Object};
use callgate_crds::{IpRuleSpec, Kind, ObjectStatus, PptpAlgSpec, ServiceSpec};
use callgate_proto::model::ObjectKey;
use ipnet::Ipv4Net;

pub use cluster::{ClusterNet, cluster_nets};
pub use holders::Holders;
pub use node::NodeFact;
pub use pod::PodFact;
pub use pods::Pods;
pub use table::{Change, Table};
pub use world::{Settings, update, world};

/// An object of ours as the API server has it: where to write its status, and what stands there.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Told {
    /// `metadata.uid`, for events.
    pub uid: String,
    /// Its status as read; empty where it has none yet.
    pub status: ObjectStatus,
}

/// Everything that is watched. Tables of cluster-scoped kinds are filed under an empty namespace.
#[derive(Debug, Default)]
pub struct Facts {
    /// Pods that have not finished.
    pub pods: Pods,
    /// Labels of namespaces.
    pub namespaces: Table<Labels>,
    /// Nodes.
    pub nodes: Table<NodeFact>,
    /// IPv4 networks of ServiceCIDR objects.
    pub service_cidrs: Table<Vec<Ipv4Net>>,
    /// PptpAlg objects.
    pub algs: Table<Object<PptpAlgSpec>>,
    /// Service objects (ours).
    pub services: Table<Object<ServiceSpec>>,
    /// IpRule objects.
    pub rules: Table<Object<IpRuleSpec>>,
    /// What stands in the status of each of ours, by kind.
    pub told: [Table<Told>; 3],
    /// `edits` of all tables but those of pods and `told`, when `take_touched` was last asked.
    seen: u64,
}

impl Facts {
    /// What may have changed since this was last asked.
    fn take_touched(&mut self) -> Since {
        let Self { pods, namespaces, nodes, service_cidrs, algs, services, rules, told: _, seen } = self;
        let cluster = namespaces.edits() + nodes.edits() + service_cidrs.edits();
        let now = cluster + algs.edits() + services.edits() + rules.edits();
        let touched = pods.take_touched();
        if std::mem::replace(seen, now) == now { touched } else { Since::Everything }
    }

    /// Kinds that have not been read in whole yet, by the name of their resource.
    pub fn missing(&self) -> Vec<&'static str> {
        let synced = [
            ("pods", self.pods.is_synced()),
            ("namespaces", self.namespaces.is_synced()),
            ("nodes", self.nodes.is_synced()),
            ("servicecidrs", self.service_cidrs.is_synced()),
            ("pptpalgs", self.algs.is_synced()),
            ("ipservices", self.services.is_synced()),
            ("iprules", self.rules.is_synced()),
        ];
        synced.into_iter().filter(|(_, synced)| !synced).map(|(name, _)| name).collect()
    }

    /// `metadata.uid` of each of ours.
    pub fn uids(&self) -> BTreeMap<ObjectRef, String> {
        let of = |kind: Kind| {
            let told = self.told.get(kind as usize).into_iter().flat_map(|table| table.objects());
            told.map(move |(key, told)| (ObjectRef { kind, key: key.clone() }, told.uid.clone()))
        };
        Kind::ALL.into_iter().flat_map(of).collect()
    }

    /// What stands in the status of an object; `None` where it is gone.
    pub fn told(&self, object: &ObjectRef) -> Option<&Told> {
        self.told.get(object.kind as usize)?.get(&object.key)
    }
}

/// The key of a cluster-scoped object.
pub fn cluster_key(name: &str) -> ObjectKey {
    ObjectKey::new("", name)
}
