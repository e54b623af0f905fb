//! The ways out: which external device a server is reached by, a tap on it, and our addresses kept from the kernel's own TCP and GRE.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;

use callgate_pptp::Flow;
use callgate_proto::model::PortRange;

use crate::kernel::Peers;
use crate::sockets::Tap;
use crate::sockets::filter::{Instruction, Outside};

/// Routes remembered before the memory is cleared; a lookup is about 10 us.
const ROUTES: usize = 4096;
/// External devices that may be tapped without being named by `--interface`.
const TAPS: usize = 64;

/// Where packets to a server go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// The address the kernel would take.
    pub source: Ipv4Addr,
    /// The devices of the route's next hops: ours take one of them, its answers any.
    pub links: Vec<u32>,
}

/// What the outlets need of the node. A seam so that admission can be tested without one.
pub trait Node: Send {
    /// The way to a server; `None` when there is none.
    fn way(&mut self, server: Ipv4Addr) -> io::Result<Option<Way>>;
    /// Tells the kernel to keep its own TCP and GRE off exactly these addresses, and to leave connections between these peers alone
    /// whatever the rules say of them.
    fn claim(&mut self, addresses: &[Ipv4Addr], peers: &Peers) -> io::Result<()>;
    /// Index of a device by name, `None` when there is none.
    fn index_of(&mut self, name: &str) -> Option<u32>;
}

/// The node's outlets, as far as connections have used them.
pub(crate) struct Outlets {
    node: Box<dyn Node>,
    /// `--interface`: tap these and no others.
    interfaces: Vec<String>,
    /// Those of them that cannot be read, and why, as people were told.
    unread: BTreeMap<String, String>,
    filter: Outside,
    taps: Vec<Arc<Tap>>,
    /// What taps that are gone have lost: totals never fall.
    lost: u64,
    ways: HashMap<Ipv4Addr, Option<Way>>,
    claimed: BTreeSet<Ipv4Addr>,
    /// Ends of live connections beside the rules, as the kernel was told.
    peers: Peers,
    /// The kernel knows that nothing is expected.
    at_rest: bool,
}

impl Outlets {
    /// None yet; `external_ports` are ours on every external address.
    #[must_use]
    pub(super) fn new(node: Box<dyn Node>, interfaces: Vec<String>, external_ports: Vec<PortRange>) -> Self {
        let filter = Outside { external_ports, ..Outside::default() };
        Self {
            node,
            interfaces,
            unread: BTreeMap::new(),
            filter,
            taps: Vec::new(),
            lost: 0,
            ways: HashMap::new(),
            claimed: BTreeSet::new(),
            peers: Peers::default(),
            at_rest: false,
        }
    }

    /// Taps on the devices of `--interface` that exist, and off devices that are gone, or were away. Routes are asked for anew.
    pub(super) fn refresh(&mut self) {
        self.ways.clear();
        let (lost, before) = (&mut self.lost, self.taps.len());
        self.taps.retain(|tap| {
            let stays = tap.is_bound();
            *lost += if stays { 0 } else { tap.drops() };
            stays
        });
        if self.taps.len() < before {
            self.renew_filters();
        }
        for name in self.interfaces.clone() {
            let read = match self.node.index_of(&name) {
                Some(ifindex) => self.tap(ifindex).map_err(|error| format!("cannot read packets on it: {error}")),
                None => Err("--interface names a device that does not exist (yet)".to_owned()),
            };
            if self.is_news(&name, read.as_ref().err()) {
                match read {
                    Ok(()) => tracing::info!(interface = name, "it is read now"),
                    Err(why) => tracing::warn!(interface = name, "{why}"),
                }
            }
        }
    }

    /// Whether people have not heard of it: links change all the time on some hosts, and this may stay as it is.
    fn is_news(&mut self, name: &str, why: Option<&String>) -> bool {
        let told = match why {
            Some(why) => self.unread.insert(name.to_owned(), why.clone()),
            None => self.unread.remove(name),
        };
        told.as_ref() != why
    }

    /// Listens for answers of servers on these TCP ports.
    pub(super) fn set_server_ports(&mut self, ports: Vec<PortRange>) {
        if self.filter.server_ports != ports {
            self.filter.server_ports = ports;
            self.renew_filters();
        }
    }

    /// The way to a server, `None` where there is none; both remembered until the next `refresh`.
    ///
    /// # Errors
    /// When the kernel cannot be asked now. That is not remembered: it says nothing about the route.
    pub(super) fn way(&mut self, server: Ipv4Addr) -> io::Result<Option<Way>> {
        if let Some(way) = self.ways.get(&server) {
            return Ok(way.clone());
        }
        let way = self.node.way(server)?;
        if self.ways.len() >= ROUTES {
            self.ways.clear();
        }
        self.ways.insert(server, way.clone());
        Ok(way)
    }

    /// Makes sure that answers to `external` coming in by any of `links` reach the ALG and nothing else answers them.
    ///
    /// # Errors
    /// When the kernel refuses; the connection must then not be opened.
    pub(super) fn ready(&mut self, external: Ipv4Addr, links: &[u32]) -> io::Result<()> {
        if !self.is_ours(external) {
            self.claim_also(&BTreeSet::from([external]), &self.peers.clone())?;
        }
        if self.interfaces.is_empty() { links.iter().try_for_each(|link| self.tap(*link)) } else { Ok(()) }
    }

    /// Claims these addresses beside those claimed before, and of peers these alone.
    ///
    /// # Errors
    /// When the kernel refuses; the claim is then as before.
    pub(super) fn claim_also(&mut self, addresses: &BTreeSet<Ipv4Addr>, peers: &Peers) -> io::Result<()> {
        let more = !addresses.is_subset(&self.claimed);
        if more || *peers != self.peers {
            let all: BTreeSet<Ipv4Addr> = self.claimed.union(addresses).copied().collect();
            self.node.claim(&all.iter().copied().collect::<Vec<_>>(), peers)?;
            self.peers = peers.clone();
            self.at_rest = false;
        }
        if more {
            self.claimed.extend(addresses);
            self.filter.addresses = self.claimed.iter().copied().collect();
            self.renew_filters();
        }
        Ok(())
    }

    /// A rule may bring connections from now on.
    pub(super) fn expect(&mut self) {
        self.at_rest = false;
    }

    /// Nothing is expected any more: addresses go back to the kernel, taps off the devices that `--interface` does not name.
    ///
    /// # Errors
    /// When the kernel refuses; everything is then as before.
    pub(super) fn rest(&mut self) -> io::Result<()> {
        if self.at_rest {
            return Ok(());
        }
        self.node.claim(&[], &Peers::default())?;
        self.peers = Peers::default();
        self.at_rest = true;
        self.claimed.clear();
        self.filter.addresses.clear();
        if self.interfaces.is_empty() {
            self.lost += self.taps.drain(..).map(|tap| tap.drops()).sum::<u64>();
        } else {
            self.renew_filters();
        }
        Ok(())
    }

    /// Whether connections live whose ends no rule knows.
    #[must_use]
    pub(super) fn goes_beyond_the_rules(&self) -> bool {
        self.peers != Peers::default()
    }

    /// Whether an end of this connection is one of theirs.
    #[must_use]
    pub(super) fn knows_beyond_the_rules(&self, flow: Flow) -> bool {
        self.peers.clients.contains(&flow.client) || self.knows_server_beyond_the_rules(flow.server, flow.server_port)
    }

    /// Whether this server, or its port, is one of theirs.
    #[must_use]
    pub(super) fn knows_server_beyond_the_rules(&self, server: Ipv4Addr, port: u16) -> bool {
        self.peers.servers.contains(&server) || self.peers.ports.contains(&port)
    }

    /// Whether this is one of our external addresses.
    #[must_use]
    pub(super) fn is_ours(&self, address: Ipv4Addr) -> bool {
        self.claimed.contains(&address)
    }

    /// Index of a device by name.
    pub(super) fn index_of(&mut self, name: &str) -> Option<u32> {
        self.node.index_of(name)
    }

    /// The taps, in the order they were opened.
    #[must_use]
    pub(super) fn taps(&self) -> &[Arc<Tap>] {
        &self.taps
    }

    /// Packets the kernel dropped because a tap was full.
    pub(super) fn overflow(&self) -> u64 {
        self.lost + self.taps.iter().map(|tap| tap.drops()).sum::<u64>()
    }

    fn tap(&mut self, ifindex: u32) -> io::Result<()> {
        if self.taps.iter().any(|tap| tap.ifindex() == ifindex) {
            return Ok(());
        }
        if self.taps.len() >= TAPS {
            return Err(io::Error::other("64 external devices are read already; name those to read with --interface"));
        }
        self.taps.push(Arc::new(Tap::open(ifindex, &self.program(ifindex))?));
        self.renew_filters();
        Ok(())
    }

    /// What the tap on this device lets through. Only what another one reads is left to that: `--interface` may name the port of a
    /// bond, and then nobody else does.
    fn program(&self, ifindex: u32) -> Vec<Instruction> {
        let elsewhere = self.taps.iter().map(|tap| tap.ifindex()).filter(|other| *other != ifindex).collect();
        Outside { elsewhere, ..self.filter.clone() }.program()
    }

    fn renew_filters(&self) {
        for tap in &self.taps {
            if let Err(e) = tap.set_filter(&self.program(tap.ifindex())) {
                tracing::error!(ifindex = tap.ifindex(), "cannot change the packet filter: {e}");
            }
        }
    }
}

#[cfg(test)]
#[path = "outlets_tests.rs"]
mod tests;
