//! The ways to the ends of calls: asked of the routing table once, remembered until something changes.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::Ipv4Addr;
use std::sync::Arc;

use super::decide::Way;
use crate::netlink::{Hop, Link, NextHop, Routes};

/// Ways remembered before the memory is cleared.
const KNOWN: usize = 1 << 18;

/// Why a call's packets cannot take the fast path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Slow {
    /// There is no route to this end, or it is this host.
    NoRoute(Ipv4Addr),
    /// The route to this end has a next hop that is known by no IPv4 address.
    NextHop(Ipv4Addr),
    /// The route to this end wraps packets.
    Wrapped(Ipv4Addr),
    /// Packets of the link have no Ethernet header, which they would need on the other side.
    NoEthernet(String),
    /// The program is not on this link yet.
    Attaching(u32, String),
    /// The map has no room.
    Full,
    /// The kernel refused something.
    Refused(String),
}

impl fmt::Display for Slow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRoute(address) => write!(f, "no route to {address}"),
            Self::NextHop(address) => write!(f, "the next hop to {address} has no IPv4 address"),
            Self::Wrapped(address) => write!(f, "the route to {address} encapsulates packets"),
            Self::NoEthernet(link) => write!(f, "link {link} has no Ethernet"),
            Self::Attaching(_, link) => write!(f, "the program is being put on link {link}"),
            Self::Full => f.write_str("its table is full"),
            Self::Refused(words) => f.write_str(words),
        }
    }
}

/// The routing table, with a memory.
pub(crate) struct Ways {
    routes: Routes,
    /// Packet mark of what the ALG sends: the fast path goes where that would go.
    mark: u32,
    links: Arc<BTreeMap<u32, Link>>,
    known: HashMap<Ipv4Addr, Result<Way, Slow>>,
    /// Links of all next hops, where there are several.
    hops: HashMap<Ipv4Addr, Arc<[u32]>>,
}

impl Ways {
    /// Nothing is known yet.
    ///
    /// # Errors
    /// When no netlink socket can be opened, or links not be listed.
    pub(crate) fn open(mark: u32) -> Result<Self, String> {
        let routes = Routes::open().map_err(|error| format!("opening a route netlink socket: {error}"))?;
        let mut ways = Self { routes, mark, links: Arc::default(), known: HashMap::new(), hops: HashMap::new() };
        ways.forget()?;
        Ok(ways)
    }

    /// Something has changed: all is asked anew.
    ///
    /// # Errors
    /// When links cannot be listed.
    pub(crate) fn forget(&mut self) -> Result<(), String> {
        self.known.clear();
        self.hops.clear();
        let links = self.routes.links().map_err(|error| format!("listing links: {error}"))?;
        self.links = Arc::new(links.into_iter().map(|link| (link.index, link)).collect());
        Ok(())
    }

    /// The same where another has just listed them: that waits for whoever changes links.
    pub(crate) fn forget_like(&mut self, other: &Self) {
        self.known.clear();
        self.hops.clear();
        self.links = Arc::clone(&other.links);
    }

    /// The way to this address.
    ///
    /// # Errors
    /// Why it cannot be the fast one.
    pub(crate) fn to(&mut self, address: Ipv4Addr) -> Result<Way, Slow> {
        if let Some(known) = self.known.get(&address) {
            return known.clone();
        }
        let hop = match self.routes.hop_to(address, self.mark) {
            Ok(hop) => hop,
            // That says nothing about the route: it is not remembered.
            Err(error) => return Err(Slow::Refused(format!("asking for the route to {address}: {error}"))),
        };
        let way = way(address, hop, &self.links);
        if self.known.len() >= KNOWN {
            self.known.clear();
        }
        self.known.insert(address, way.clone());
        way
    }

    /// Links by which packets of this address may come beside the one that leads to it: those of the other next hops (ECMP).
    pub(crate) fn beside(&mut self, address: Ipv4Addr, way: &Way) -> Vec<u32> {
        let hops = match self.hops.get(&address) {
            Some(hops) => Arc::clone(hops),
            None => {
                // What cannot be asked now is asked by the next call.
                let Ok(hops) = self.routes.next_hops_to(address, self.mark) else { return Vec::new() };
                if self.hops.len() >= KNOWN {
                    self.hops.clear();
                }
                let hops: Arc<[u32]> = hops.into();
                self.hops.insert(address, Arc::clone(&hops));
                hops
            }
        };
        let is_one = |link: &u32| *link != way.link && self.links.get(link).is_some_and(|link| link.ethernet);
        hops.iter().copied().filter(is_one).collect()
    }

    /// Links by number, as they were when they were last looked at.
    #[must_use]
    pub(crate) fn links(&self) -> &Arc<BTreeMap<u32, Link>> {
        &self.links
    }

    /// The connection, for other requests.
    pub(crate) fn routes(&self) -> &Routes {
        &self.routes
    }
}

fn way(address: Ipv4Addr, hop: Option<Hop>, links: &BTreeMap<u32, Link>) -> Result<Way, Slow> {
    let no_route = Slow::NoRoute(address);
    let Some(hop) = hop else { return Err(no_route) };
    let Some(link) = links.get(&hop.ifindex).filter(|link| !link.loopback) else { return Err(no_route) };
    if !link.ethernet {
        return Err(Slow::NoEthernet(link.name.clone()));
    }
    let next_hop = match hop.next {
        NextHop::Destination => address,
        NextHop::Router(router) => router,
        NextHop::OtherFamily => return Err(Slow::NextHop(address)),
        NextHop::Wrapped => return Err(Slow::Wrapped(address)),
    };
    Ok(Way { link: hop.ifindex, next_hop, mtu: hop.mtu.unwrap_or(link.mtu) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);
    const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 254);

    fn decided(hop: Option<Hop>, ethernet: bool, loopback: bool) -> Result<Way, Slow> {
        let link = Link { index: 3, name: "eth0".into(), mtu: 1_500, ethernet, loopback, ..Link::default() };
        way(END, hop, &BTreeMap::from([(3, link)]))
    }

    #[test]
    fn a_way_leads_over_an_ethernet_link_to_the_end_or_its_router() {
        let hop = Hop { source: ROUTER, ifindex: 3, next: NextHop::Router(ROUTER), mtu: None };
        let near = Hop { next: NextHop::Destination, mtu: Some(1_400), ..hop };
        assert_eq!(decided(Some(hop), true, false), Ok(Way { link: 3, next_hop: ROUTER, mtu: 1_500 }));
        assert_eq!(decided(Some(near), true, false), Ok(Way { link: 3, next_hop: END, mtu: 1_400 }));
        assert_eq!(decided(Some(hop), false, false), Err(Slow::NoEthernet("eth0".into())));
        let nowhere = [
            decided(None, true, false),
            decided(Some(hop), true, true),
            decided(Some(Hop { ifindex: 4, ..hop }), true, false),
        ];
        assert_eq!(nowhere, [(); 3].map(|()| Err(Slow::NoRoute(END))));
    }

    #[test]
    fn a_next_hop_that_has_no_ipv4_address_is_not_taken_for_the_end_itself() {
        let hop = |next| Some(Hop { source: ROUTER, ifindex: 3, next, mtu: None });
        assert_eq!(decided(hop(NextHop::OtherFamily), true, false), Err(Slow::NextHop(END)));
        assert_eq!(decided(hop(NextHop::Wrapped), true, false), Err(Slow::Wrapped(END)));
    }
}
