//! Of a node: its name is the key; its networks and addresses belong to the cluster.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1 as core;

/// A node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeFact {
    /// `metadata.uid`: the EgressNode of its name goes with it.
    pub uid: String,
    /// IPv4 networks of `spec.podCIDRs`.
    pub pod_cidrs: Vec<Ipv4Net>,
    /// IPv4 addresses of type InternalIP.
    pub internal: Vec<Ipv4Addr>,
}

impl From<&core::Node> for NodeFact {
    fn from(node: &core::Node) -> Self {
        let spec = node.spec.as_ref();
        let listed = spec.and_then(|spec| spec.pod_cidrs.as_ref()).into_iter().flatten();
        let single = spec.and_then(|spec| spec.pod_cidr.as_ref());
        let mut pod_cidrs: Vec<Ipv4Net> = listed.chain(single).filter_map(|text| text.parse().ok()).collect();
        pod_cidrs.sort_unstable();
        pod_cidrs.dedup();
        let addresses = node.status.as_ref().and_then(|status| status.addresses.as_ref()).into_iter().flatten();
        let internal = addresses.filter(|address| address.type_ == "InternalIP");
        Self {
            uid: node.metadata.uid.clone().unwrap_or_default(),
            pod_cidrs,
            internal: internal.filter_map(|address| address.address.parse().ok()).collect(),
        }
    }
}
