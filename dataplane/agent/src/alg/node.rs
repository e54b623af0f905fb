//! The real node behind the outlets: routes and links by netlink, address sets in our nftables table.

use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};

use super::outlets::{Node, Way};
use crate::kernel::{Kernel, Peers};
use crate::netlink::Routes;

/// The kernel part, and the external addresses it keeps from the host's own TCP and GRE.
pub struct Shared {
    /// What is put into the kernel.
    pub kernel: Kernel,
    /// External addresses in use.
    pub own: Vec<Ipv4Addr>,
}

/// The host this process runs on.
pub struct Host {
    shared: Arc<Mutex<Option<Shared>>>,
    routes: Routes,
    mark: u32,
    /// `--external-address`: take this one instead of the route's.
    external: Option<Ipv4Addr>,
}

impl Host {
    /// A view of this host; `mark` is the packet mark of what the ALG sends.
    ///
    /// # Errors
    /// When no netlink socket can be opened.
    pub fn new(shared: Arc<Mutex<Option<Shared>>>, mark: u32, external: Option<Ipv4Addr>) -> io::Result<Self> {
        Ok(Self { shared, routes: Routes::open().map_err(io::Error::other)?, mark, external })
    }
}

impl Node for Host {
    fn way(&mut self, server: Ipv4Addr) -> io::Result<Option<Way>> {
        // Nothing is asked that waits for who changes links: a program is put on one for 10 ms and more.
        let hop = self.routes.hop_to(server, self.mark).map_err(io::Error::other)?;
        let Some(hop) = hop else { return Ok(None) };
        let mut links = vec![hop.ifindex];
        for link in self.routes.next_hops_to(server, self.mark).map_err(io::Error::other)? {
            if !links.contains(&link) {
                links.push(link);
            }
        }
        Ok(Some(Way { source: self.external.unwrap_or(hop.source), links }))
    }

    fn claim(&mut self, addresses: &[Ipv4Addr], peers: &Peers) -> io::Result<()> {
        let mut guard = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        // Being stopped: nothing is opened any more.
        let Some(shared) = guard.as_mut() else { return Err(io::Error::other("the agent is stopping")) };
        shared.kernel.set_own_addresses(addresses, peers).map_err(io::Error::other)?;
        shared.own = addresses.to_vec();
        Ok(())
    }

    fn index_of(&mut self, name: &str) -> Option<u32> {
        nix::net::if_::if_nametoindex(name).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::own_network::in_a_network_of_its_own;

    fn sh(line: &str) {
        let output = std::process::Command::new("sh").arg("-c").arg(line).output().unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    }

    #[test]
    fn a_way_has_the_links_of_all_next_hops_and_the_one_that_is_taken_first() {
        in_a_network_of_its_own(|| {
            for (link, address) in [("cg-u1", "192.0.2.1/24"), ("cg-u2", "198.51.100.1/24")] {
                sh(&format!("ip link add {link} type veth peer name {link}p && ip addr add {address} dev {link}"));
                sh(&format!("ip link set {link} up && ip link set {link}p up"));
            }
            sh("ip route add default nexthop via 192.0.2.10 nexthop via 198.51.100.10");
            let mut host = Host::new(Arc::default(), 0, Some(Ipv4Addr::new(10, 9, 9, 9))).unwrap();
            let [first, second] = ["cg-u1", "cg-u2"].map(|link| host.index_of(link).unwrap());
            let way = |links: [u32; 2]| Way { source: Ipv4Addr::new(10, 9, 9, 9), links: links.to_vec() };
            let found: Vec<Way> =
                (1..=64).map(|last| host.way(Ipv4Addr::new(203, 0, 113, last)).unwrap().unwrap()).collect();
            assert!(found.contains(&way([first, second])) && found.contains(&way([second, first])), "{found:?}");
            assert!(
                found.iter().all(|found| [way([first, second]), way([second, first])].contains(found)),
                "{found:?}"
            );
            let near = host.way(Ipv4Addr::new(192, 0, 2, 7)).unwrap().map(|way| way.links);
            assert_eq!(near, Some(vec![first]));
        });
    }
}
