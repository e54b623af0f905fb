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
