//! Who has which address in a cluster.

use std::net::Ipv4Addr;

/// The router between cluster and outside, seen from the cluster.
pub const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The control plane: API server (6443), DNS (53).
pub const CONTROL_PLANE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// Network of control plane, nodes and router.
pub const NODES: &str = "192.0.2.0/24";
/// Network of all pods; each node has a /24 of it.
pub const PODS: &str = "10.244.0.0/16";
/// Network of Services.
pub const SERVICES: &str = "10.96.0.0/16";
/// The Service `kubernetes`: the first address of `SERVICES`.
pub const API_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);
/// Name under which Services are found.
pub const DOMAIN: &str = "cluster.local";

/// Name of the node with this index, from 0.
pub fn node_name(index: usize) -> String {
    format!("n{}", index + 1)
}

/// Address of the node with this index, from 0, below 200.
pub fn node(index: usize) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, 11 + index as u8)
}

/// Network of that node's pods.
pub fn pods(index: usize) -> String {
    format!("10.244.{}.0/24", index + 1)
}

/// The address that ends with `host` in it.
pub fn pod(index: usize, host: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 244, index as u8 + 1, host)
}

/// URL of the API server.
pub fn api() -> String {
    format!("https://{CONTROL_PLANE}:6443")
}
