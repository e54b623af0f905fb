//! Both sides of the ALG's connections, which live on whatever the rules say now.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

/// Ends of live connections.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Peers {
    /// Addresses of clients whose segments no rule brings to the ALG.
    pub clients: BTreeSet<Ipv4Addr>,
    /// Addresses of servers.
    pub servers: BTreeSet<Ipv4Addr>,
    /// The TCP ports servers are reached at.
    pub ports: BTreeSet<u16>,
}

impl Peers {
    /// Adds those of `other`.
    pub(crate) fn extend(&mut self, other: Self) {
        self.clients.extend(other.clients);
        self.servers.extend(other.servers);
        self.ports.extend(other.ports);
    }
}
