//! Where the kernel would send a packet, and from which address.

use std::net::Ipv4Addr;

use nix::errno::Errno;

use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteType, RouteVia,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage as Message};

use super::rt::Rt;
use super::{Error, Link, link};

/// The way to one destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Source address the kernel would take.
    pub source: Ipv4Addr,
    /// Outgoing link.
    pub ifindex: u32,
    /// Name of the outgoing link.
    pub interface: String,
    /// Next hop; `None` on the link itself, or where it is known by no IPv4 address.
    pub gateway: Option<Ipv4Addr>,
    /// Largest packet, bytes: the route's or a learned path MTU, else the link's.
    pub mtu: u32,
}

/// The way to one destination, without what the link says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hop {
    pub(crate) source: Ipv4Addr,
    pub(crate) ifindex: u32,
    pub(crate) next: NextHop,
    /// The route's own or a learned one.
    pub(crate) mtu: Option<u32>,
}

/// Who on the link gets a packet first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NextHop {
    /// Its destination.
    Destination,
    /// A router.
    Router(Ipv4Addr),
    /// A router that is known by an address of another family (RTA_VIA): BGP unnumbered.
    OtherFamily,
    /// Nobody, as it is: the route wraps it first (RTA_ENCAP).
    Wrapped,
}

/// Asks the kernel's routing table.
#[derive(Debug)]
pub struct Routes(Rt);

impl Routes {
    /// Opens the connection in the calling thread's network namespace.
    ///
    /// # Errors
    /// When the kernel refuses the socket.
    pub fn open() -> Result<Self, Error> {
        Rt::open().map(Self)
    }

    /// The way to `destination` for a packet of ours with the mark `mark`; `None` without a route, or where it is the
    /// host itself, or not to be reached (blackhole, unreachable, prohibit).
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn route_to(&self, destination: Ipv4Addr, mark: u32) -> Result<Option<Route>, Error> {
        let Some(hop) = self.hop_to(destination, mark)? else { return Ok(None) };
        let Some(link) = link::by_index(&self.0, hop.ifindex)? else { return Ok(None) };
        let Hop { source, ifindex, next, mtu } = hop;
        let gateway = match next {
            NextHop::Router(router) => Some(router),
            NextHop::Destination | NextHop::OtherFamily | NextHop::Wrapped => None,
        };
        Ok(Some(Route { source, ifindex, interface: link.name, gateway, mtu: mtu.unwrap_or(link.mtu) }))
    }

    /// Whether what comes for this address ends at this host: it holds it, or has a blackhole route for it, as for one that others
    /// route to it. Other routes that lead nowhere (unreachable, prohibit) end nothing: the kernel answers their senders with ICMP.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn ends_here(&self, address: Ipv4Addr) -> Result<bool, Error> {
        Ok(match ask(&self.0, address, 0, RouteFlags::empty())? {
            Answer::Route(route) => route.header.kind == RouteType::Local,
            Answer::Blackhole => true,
            Answer::Forbidden | Answer::None => false,
        })
    }

    /// All links, by number.
    pub(crate) fn links(&self) -> Result<Vec<Link>, Error> {
        link::all(&self.0)
    }

    /// The connection, for other requests.
    pub(crate) fn connection(&self) -> &Rt {
        &self.0
    }

    /// Links of all next hops of the route to `destination`, where it has several (RTA_MULTIPATH); else none.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn next_hops_to(&self, destination: Ipv4Addr, mark: u32) -> Result<Vec<u32>, Error> {
        // Without this flag the kernel says which one a packet would take.
        let attributes = match ask(&self.0, destination, mark, RouteFlags::FibMatch)? {
            Answer::Route(route) => route.attributes,
            Answer::Blackhole | Answer::Forbidden | Answer::None => Vec::new(),
        };
        let hops = attributes.into_iter().filter_map(|attribute| match attribute {
            RouteAttribute::MultiPath(hops) => Some(hops),
            _ => None,
        });
        Ok(hops.flatten().map(|hop| hop.interface_index).collect())
    }

    /// As `route_to`, without looking at the link.
    pub(crate) fn hop_to(&self, destination: Ipv4Addr, mark: u32) -> Result<Option<Hop>, Error> {
        let Some(route) = unicast(&self.0, destination, mark)? else { return Ok(None) };
        let (mut source, mut ifindex, mut learned) = (None, None, None);
        let (mut next, mut wrapped) = (NextHop::Destination, false);
        for attribute in route.attributes {
            match attribute {
                RouteAttribute::PrefSource(RouteAddress::Inet(address)) => source = Some(address),
                RouteAttribute::Oif(index) => ifindex = Some(index),
                RouteAttribute::Gateway(RouteAddress::Inet(address)) | RouteAttribute::Via(RouteVia::Inet(address)) => {
                    next = NextHop::Router(address);
                }
                RouteAttribute::Via(_) => next = NextHop::OtherFamily,
                RouteAttribute::Encap(_) => wrapped = true,
                RouteAttribute::Metrics(metrics) => {
                    learned = metrics.into_iter().find_map(|metric| match metric {
                        RouteMetric::Mtu(mtu) => Some(mtu).filter(|mtu| *mtu > 0),
                        _ => None,
                    });
                }
                _ => {}
            }
        }
        let (Some(source), Some(ifindex)) = (source, ifindex) else { return Ok(None) };
        let next = if wrapped { NextHop::Wrapped } else { next };
        Ok(Some(Hop { source, ifindex, next, mtu: learned }))
    }
}

/// The route of a packet with this mark (0: none); `None` where there is none, or where it does not lead to another host.
pub(super) fn unicast(rt: &Rt, destination: Ipv4Addr, mark: u32) -> Result<Option<RouteMessage>, Error> {
    Ok(match ask(rt, destination, mark, RouteFlags::empty())? {
        Answer::Route(route) => Some(*route).filter(|route| route.header.kind == RouteType::Unicast),
        Answer::Blackhole | Answer::Forbidden | Answer::None => None,
    })
}

/// What the kernel says of the way to a destination.
enum Answer {
    Route(Box<RouteMessage>),
    /// There is a route, and it says that what goes there is dropped in silence.
    Blackhole,
    /// There is a route, and it says that it is not to be reached and that the sender is told so (unreachable, prohibit).
    Forbidden,
    None,
}

fn ask(rt: &Rt, destination: Ipv4Addr, mark: u32, flags: RouteFlags) -> Result<Answer, Error> {
    let mut question = RouteMessage::default();
    question.header.address_family = AddressFamily::Inet;
    question.header.destination_prefix_length = 32;
    question.header.flags = flags;
    let to = RouteAttribute::Destination(RouteAddress::Inet(destination));
    question.attributes = vec![to, RouteAttribute::Mark(mark)];
    let answers = match rt.request(&Message::GetRoute(question), 0) {
        Ok(answers) => answers,
        // net/ipv4/fib_semantics.c, fib_props.
        Err(Error::Kernel { errno: Errno::EINVAL, .. }) => return Ok(Answer::Blackhole),
        Err(Error::Kernel { errno: Errno::EHOSTUNREACH | Errno::EACCES, .. }) => return Ok(Answer::Forbidden),
        Err(Error::Kernel { errno: Errno::ENETUNREACH, .. }) => return Ok(Answer::None),
        Err(error) => return Err(error),
    };
    let found = answers.into_iter().find_map(|answer| match answer {
        Message::NewRoute(route) => Some(Answer::Route(Box::new(route))),
        _ => None,
    });
    Ok(found.unwrap_or(Answer::None))
}
