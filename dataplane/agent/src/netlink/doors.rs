//! Doors: the links of this host through which single neighbours are reached. A pod's goes when the pod goes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_DUMP};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute as Attribute, NeighbourFlags, NeighbourMessage,
};
use rtnetlink::packet_route::route::RouteAttribute;
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage as Message};

use super::rt::Rt;
use super::{Error, Link, link, route};

/// Kinds of links with a namespace behind them and nothing else.
const PRIVATE: [&str; 2] = ["veth", "netkit"];

/// Looks for doors in the network namespace of the thread that opened it.
#[derive(Debug)]
pub(crate) struct Doors(Rt);

/// A hardware address on a bridge, or behind one of its ports.
type Seat = (u32, Vec<u8>);

impl Doors {
    /// # Errors
    /// When the kernel refuses the socket.
    pub(crate) fn open() -> Result<Self, Error> {
        Rt::open().map(Self)
    }

    /// Numbers of all links.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub(crate) fn links(&self) -> Result<BTreeSet<u32>, Error> {
        Ok(link::all(&self.0)?.iter().map(|link| link.index).collect())
    }

    /// The number of the link behind which each of these addresses is and nobody else: a veth to which its route leads, or the port
    /// of the bridge to which it leads. One that has not spoken yet is asked for (ARP); its answer is told by `Departures`.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub(crate) fn of(&self, addresses: &BTreeSet<Ipv4Addr>) -> Result<BTreeMap<Ipv4Addr, u32>, Error> {
        let links: BTreeMap<u32, Link> = link::all(&self.0)?.into_iter().map(|link| (link.index, link)).collect();
        let (mut doors, mut bridged) = (BTreeMap::new(), BTreeMap::new());
        for &address in addresses {
            let Some(out) = self.out(address)? else { continue };
            let kind = links.get(&out).map_or("", |link| link.kind.as_str());
            if PRIVATE.contains(&kind) {
                doors.insert(address, out);
            } else if kind == "bridge" {
                bridged.insert(address, out);
            }
        }
        if bridged.is_empty() {
            return Ok(doors);
        }
        let (neighbours, ports) = (self.neighbours()?, self.ports()?);
        for (address, bridge) in bridged {
            match neighbours.get(&(bridge, address)).and_then(|mac| ports.get(&(bridge, mac.clone()))) {
                Some(port) => drop(doors.insert(address, *port)),
                None => self.ask(bridge, address)?,
            }
        }
        Ok(doors)
    }

    /// The link a packet to `address` leaves by, if it needs no next hop.
    fn out(&self, address: Ipv4Addr) -> Result<Option<u32>, Error> {
        let Some(route) = route::unicast(&self.0, address, 0)? else { return Ok(None) };
        let (mut out, mut hop) = (None, false);
        for attribute in route.attributes {
            match attribute {
                RouteAttribute::Oif(index) => out = Some(index),
                RouteAttribute::Gateway(_) | RouteAttribute::Via(_) => hop = true,
                _ => {}
            }
        }
        Ok(out.filter(|_| !hop))
    }

    /// Hardware addresses by link and address.
    fn neighbours(&self) -> Result<BTreeMap<(u32, Ipv4Addr), Vec<u8>>, Error> {
        let found = self.dump(AddressFamily::Inet)?.into_iter().filter_map(|message| {
            let (index, address, mac) = (message.header.ifindex, address(&message)?, mac(&message)?);
            Some(((index, address), mac))
        });
        Ok(found.collect())
    }

    /// Ports by bridge and hardware address.
    fn ports(&self) -> Result<BTreeMap<Seat, u32>, Error> {
        let found = self.dump(AddressFamily::Bridge)?.into_iter().filter_map(|message| {
            let bridge = message.attributes.iter().find_map(|attribute| match attribute {
                Attribute::Controller(index) => Some(*index),
                _ => None,
            });
            Some(((bridge?, mac(&message)?), message.header.ifindex))
        });
        Ok(found.collect())
    }

    fn dump(&self, family: AddressFamily) -> Result<Vec<NeighbourMessage>, Error> {
        let mut question = NeighbourMessage::default();
        question.header.family = family;
        let answers = self.0.request(&Message::GetNeighbour(question), NLM_F_DUMP)?;
        Ok(answers.into_iter().filter_map(neighbour).collect())
    }

    /// As if a packet for it had come: the kernel asks who it is.
    fn ask(&self, link: u32, address: Ipv4Addr) -> Result<(), Error> {
        let mut wish = NeighbourMessage::default();
        wish.header.family = AddressFamily::Inet;
        wish.header.ifindex = link;
        wish.header.flags = NeighbourFlags::Use;
        wish.attributes = vec![Attribute::Destination(NeighbourAddress::Inet(address))];
        self.0.request(&Message::NewNeighbour(wish), NLM_F_CREATE).map(drop)
    }
}

/// The neighbour a message is about.
pub(super) fn neighbour(message: Message) -> Option<NeighbourMessage> {
    match message {
        Message::NewNeighbour(neighbour) => Some(neighbour),
        _ => None,
    }
}

/// Its IPv4 address.
pub(super) fn address(message: &NeighbourMessage) -> Option<Ipv4Addr> {
    message.attributes.iter().find_map(|attribute| match attribute {
        Attribute::Destination(NeighbourAddress::Inet(address)) => Some(*address),
        _ => None,
    })
}

fn mac(message: &NeighbourMessage) -> Option<Vec<u8>> {
    message.attributes.iter().find_map(|attribute| match attribute {
        Attribute::LinkLayerAddress(mac) => Some(mac.clone()),
        _ => None,
    })
}
