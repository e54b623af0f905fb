//! Links, addresses and routes of a cluster.

use std::net::Ipv4Addr;

use super::addresses::{self, CONTROL_PLANE, ROUTER};
use super::machine::Machine;
use crate::lab::kernel;
use crate::lab::node::Node;
use crate::lab::topology::server_address;

/// Bridge of the router on the cluster's side.
pub(super) const LAN: &str = "lan0";
/// Bridge of the router on the servers' side.
const OUTSIDE: &str = "srv0";
/// The router, seen from the servers.
const FAR: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);

/// Connects everybody.
pub(super) fn wire(router: &Node, control_plane: &Node, machines: &[Machine], servers: &[Node]) -> anyhow::Result<()> {
    let mut lines = String::new();
    for (bridge, address) in [(LAN, ROUTER), (OUTSIDE, FAR)] {
        lines += &format!("link add {bridge} type bridge stp_state 0 mcast_snooping 0\n");
        lines += &format!("addr add {address}/24 dev {bridge}\nlink set {bridge} up\n");
    }
    let inside = [control_plane].into_iter().chain(machines.iter().map(|machine| &machine.node));
    for (bridge, node) in inside.map(|node| (LAN, node)).chain(servers.iter().map(|node| (OUTSIDE, node))) {
        let port = &node.name;
        lines += &format!("link add {port} type veth peer name eth0 netns {}\n", node.netns());
        lines += &format!("link set {port} master {bridge} up\n");
    }
    router.ip(&lines)?;
    router.sysctl("net/ipv4/ip_forward", "1")?;
    // With br_netfilter in the kernel, what only crosses the bridge would be counted too.
    if kernel::has_br_netfilter() {
        router.sysctl(kernel::BRIDGE_CALLS_IPTABLES, "0")?;
    }
    control_plane.ip(&(own(CONTROL_PLANE, ROUTER) + &to_pods(machines, None)))?;
    for machine in machines {
        let lines = own(addresses::node(machine.index), ROUTER) + &to_pods(machines, Some(machine.index));
        machine.node.ip(&lines)?;
        machine.node.sysctl("net/ipv4/ip_forward", "1")?;
    }
    for (index, server) in servers.iter().enumerate() {
        server.ip(&own(server_address(index), FAR))?;
    }
    Ok(())
}

fn own(address: Ipv4Addr, via: Ipv4Addr) -> String {
    format!("addr add {address}/24 dev eth0\nlink set eth0 up\nroute add default via {via}\n")
}

/// Routes to the pods of every node but `but`; the router has none of them.
fn to_pods(machines: &[Machine], but: Option<usize>) -> String {
    let others = machines.iter().filter(|machine| Some(machine.index) != but);
    let route = |machine: &Machine| {
        format!("route add {} via {}\n", addresses::pods(machine.index), addresses::node(machine.index))
    };
    others.map(route).collect()
}
