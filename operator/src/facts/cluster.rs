//! Which networks are the cluster's own, and where each was found: traffic to them is never looked at.

use std::collections::BTreeMap;

use ipnet::Ipv4Net;

use super::Facts;

/// A network and where it was found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClusterNet {
    /// The network.
    pub net: Ipv4Net,
    /// For people: `--cluster-cidr`, `ServiceCIDR kubernetes`, `podCIDR of node a`.
    pub found: String,
}

/// Every network of the cluster, each once, sorted. `given` are those of the command line.
pub fn cluster_nets(facts: &Facts, given: &[Ipv4Net]) -> Vec<ClusterNet> {
    let mut nets: BTreeMap<Ipv4Net, String> = BTreeMap::new();
    let mut add = |net: Ipv4Net, found: String| {
        nets.entry(net.trunc()).or_insert(found);
    };
    for net in given {
        add(*net, "--cluster-cidr".to_owned());
    }
    for (key, cidrs) in facts.service_cidrs.objects() {
        cidrs.iter().for_each(|net| add(*net, format!("ServiceCIDR {}", key.name)));
    }
    for (key, node) in facts.nodes.objects() {
        node.pod_cidrs.iter().for_each(|net| add(*net, format!("podCIDR of node {}", key.name)));
        node.internal.iter().for_each(|&address| add(address.into(), format!("InternalIP of node {}", key.name)));
    }
    nets.into_iter().map(|(net, found)| ClusterNet { net, found }).collect()
}
