//! Where the kernel would send a packet, and from which address.

use std::net::Ipv4Addr;

use nix::errno::Errno;

use super::attr::{Attrs, find};
use super::socket::Socket;
use super::{Error, link};

const NEW_ROUTE: u16 = 24;
const GET_ROUTE: u16 = 26;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PREFSRC: u16 = 7;
const RTA_METRICS: u16 = 8;
const RTA_MARK: u16 = 16;
const RTAX_MTU: u16 = 2;

/// A unicast route; everything else does not lead to a server.
const RTN_UNICAST: u8 = 1;

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
pub struct Routes {
    socket: Socket,
}

impl Routes {
    /// Opens the socket in the calling thread's network namespace.
    pub fn open() -> Result<Self, Error> {
        Ok(Self { socket: Socket::open(super::ROUTE)? })
    }

    /// The way to `destination` for a packet of ours with the mark `mark`; `None` without a route, or where it is the
    /// host itself, or not to be reached (blackhole, unreachable, prohibit).
    pub fn route_to(&mut self, destination: Ipv4Addr, mark: u32) -> Result<Option<Route>, Error> {
        let body = Attrs::after(&[2, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
            .bytes(RTA_DST, &destination.octets())
            .u32(RTA_MARK, mark)
            .into_bytes();
        let answers = match self.socket.request(GET_ROUTE, 0, &body) {
            Ok(answers) => answers,
            Err(Error::Kernel {
                errno: Errno::ENETUNREACH | Errno::EHOSTUNREACH | Errno::EACCES | Errno::EINVAL,
                ..
            }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let Some((_, body)) = answers.iter().find(|(kind, _)| *kind == NEW_ROUTE) else { return Ok(None) };
        if body.get(7) != Some(&RTN_UNICAST) {
            return Ok(None);
        }
        let attrs = body.get(12..).unwrap_or_default();
        let address = |kind| find(attrs, kind).and_then(|value| <[u8; 4]>::try_from(value).ok()).map(Ipv4Addr::from);
        let number = |bytes: &[u8]| bytes.try_into().ok().map(u32::from_ne_bytes);
        let (Some(source), Some(ifindex)) = (address(RTA_PREFSRC), find(attrs, RTA_OIF).and_then(number)) else {
            return Ok(None);
        };
        let learned = find(attrs, RTA_METRICS).and_then(|metrics| find(metrics, RTAX_MTU)).and_then(number);
        let Some(link) = link::by_index(&mut self.socket, ifindex)? else { return Ok(None) };
        let mtu = learned.filter(|mtu| *mtu > 0).unwrap_or(link.mtu);
        Ok(Some(Route { source, ifindex, interface: link.name, gateway: address(RTA_GATEWAY), mtu }))
    }
}
