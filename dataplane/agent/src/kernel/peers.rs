//! Where the ALG's connections lead to: they live on whatever the rules say now.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

/// Servers of live connections.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Peers {
    /// Their addresses.
    pub addresses: BTreeSet<Ipv4Addr>,
    /// The TCP ports they are reached at.
    pub ports: BTreeSet<u16>,
}
