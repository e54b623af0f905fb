//! Everything compile looks at: our objects, pods, namespaces, nodes, and where it all runs.
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use callgate_crds::{IpRuleSpec, PptpAlgSpec, SYSTEM_NAMESPACE, ServiceSpec};
use callgate_proto::model::ObjectKey;
use ipnet::Ipv4Net;
use jiff::Timestamp;
use k8s_openapi::api::core::v1 as core;

use crate::status::ObjectRef;

/// Name of the only node of a host without a cluster.
pub const STANDALONE_NODE: &str = "standalone";

/// The label every namespace has: its name.
pub const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// Labels of a pod or a namespace.
pub type Labels = BTreeMap<String, String>;

/// The world at one moment. Everything is ordered, so equal worlds compile to equal bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct World {
    /// One host without a cluster: everything goes to node [`STANDALONE_NODE`], whatever node a pod names, and
    /// `source.cidrs` and `source.namespaceSelector` are allowed in every namespace.
    pub standalone: bool,
    /// Namespace of the operator and of the predefined objects; its rules may select everywhere.
    pub operator_namespace: String,
    /// Pod, service and node networks of the cluster: traffic to them is never looked at. Any order, may overlap.
    pub cluster_nets: Vec<Ipv4Net>,
    /// Nodes by name. Ignored in standalone.
    pub nodes: BTreeSet<String>,
    /// Labels of namespaces by name. One that is missing has only the label every namespace has, [`NAME_LABEL`].
    pub namespaces: BTreeMap<String, Labels>,
    /// Pods by namespace and name. Shared: whoever changes a world and compiles it again leaves the others the very same ones.
    pub pods: BTreeMap<ObjectKey, Arc<Pod>>,
    /// PPTP ALGs by namespace and name.
    pub algs: BTreeMap<ObjectKey, Object<PptpAlgSpec>>,
    /// Our services by namespace and name.
    pub services: BTreeMap<ObjectKey, Object<ServiceSpec>>,
    /// Rules by namespace and name.
    pub rules: BTreeMap<ObjectKey, Object<IpRuleSpec>>,
    /// Objects that are there, are refused as they stand, and of which nothing runs. Only of files: an API server does not take such.
    pub refused: BTreeSet<ObjectRef>,
}

impl World {
    /// An empty world of one host without a cluster.
    pub fn standalone() -> Self {
        Self { standalone: true, ..Self::cluster() }
    }

    /// An empty world of a cluster without nodes, with the operator in [`SYSTEM_NAMESPACE`].
    pub fn cluster() -> Self {
        Self {
            standalone: false,
            operator_namespace: SYSTEM_NAMESPACE.to_owned(),
            cluster_nets: Vec::new(),
            nodes: BTreeSet::new(),
            namespaces: BTreeMap::new(),
            pods: BTreeMap::new(),
            algs: BTreeMap::new(),
            services: BTreeMap::new(),
            rules: BTreeMap::new(),
            refused: BTreeSet::new(),
        }
    }

    /// Whether whoever writes rules there may select everywhere, and is trusted with the nodes.
    pub(crate) fn is_trusted(&self, namespace: &str) -> bool {
        self.standalone || namespace == self.operator_namespace
    }

    /// Labels of a namespace, with the one that the API server gives to every namespace.
    pub(crate) fn labels_of(&self, namespace: &str) -> Labels {
        let mut labels = self.namespaces.get(namespace).cloned().unwrap_or_default();
        labels.insert(NAME_LABEL.to_owned(), namespace.to_owned());
        labels
    }
}

/// What of an object's metadata matters.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Meta {
    /// `metadata.uid`: one of the same name that was made anew has another; empty where there is none (files).
    pub uid: String,
    /// `metadata.generation`; 0 where there is none (files).
    pub generation: i64,
    /// `metadata.creationTimestamp`; without one an object counts as older than all that have one.
    pub created: Option<Timestamp>,
    /// It comes with the product: not reported in the statuses.
    pub predefined: bool,
}

/// One of our objects.
#[derive(Debug, Clone, PartialEq)]
pub struct Object<S> {
    /// Metadata; namespace and name are the key it is filed under.
    pub meta: Meta,
    /// What is wanted.
    pub spec: S,
}

/// A pod, as far as it matters for its traffic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pod {
    /// `metadata.uid`; empty where there is none.
    pub uid: String,
    /// Its labels.
    pub labels: Labels,
    /// IPv4 addresses of `status.podIPs` (or `podIP`), as listed. Empty until the pod has one.
    pub addresses: Vec<Ipv4Addr>,
    /// It has addresses, but none is IPv4.
    pub only_ipv6: bool,
    /// `spec.nodeName`.
    pub node: Option<String>,
    /// It uses its node's network: its packets cannot be told from the node's.
    pub host_network: bool,
    /// It has run to its end (phase Succeeded or Failed): its address may already be another pod's.
    pub finished: bool,
    /// How often its containers have been started anew, all together: a pod that gets another sandbox has more.
    pub restarts: u32,
}

impl From<&core::Pod> for Pod {
    fn from(pod: &core::Pod) -> Self {
        let spec = pod.spec.as_ref();
        let status = pod.status.as_ref();
        let listed = status.and_then(|status| status.pod_ips.as_ref()).into_iter().flatten().map(|ip| ip.ip.as_str());
        let mut texts: Vec<&str> = listed.collect();
        if let Some(first) = status.and_then(|status| status.pod_ip.as_deref())
            && !texts.contains(&first)
        {
            texts.insert(0, first);
        }
        let addresses: Vec<Ipv4Addr> = texts.iter().filter_map(|text| text.parse().ok()).collect();
        let phase = status.and_then(|status| status.phase.as_deref());
        Self {
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            labels: pod.metadata.labels.clone().unwrap_or_default(),
            only_ipv6: addresses.is_empty() && !texts.is_empty(),
            addresses,
            node: spec.and_then(|spec| spec.node_name.clone()),
            host_network: spec.and_then(|spec| spec.host_network).unwrap_or(false),
            finished: matches!(phase, Some("Succeeded" | "Failed")),
            restarts: status.map(restarts).unwrap_or_default(),
        }
    }
}

fn restarts(status: &core::PodStatus) -> u32 {
    // Of a pod that gets another sandbox before it is initialised only the init containers begin anew.
    let containers = status.container_statuses.iter().chain(&status.init_container_statuses).flatten();
    containers.map(|container| u32::try_from(container.restart_count).unwrap_or_default()).fold(0, u32::saturating_add)
}
