//! Which TCP connections end in sockets of ours, by their addresses and ports. Pure.

use std::collections::{BTreeSet, HashMap};
use std::net::{Ipv4Addr, SocketAddrV4};

use callgate_pptp::wire::{ipv4, tcp};
use callgate_pptp::{Admission, Flow, Now, Policy};
use serde::{Deserialize, Serialize};

/// How long a connection that is over still gets its segments, ms: a little longer than Linux's TIME_WAIT of 60 s.
const LINGER: u64 = 65_000;
/// How long a SYN that was let through may take until its connection is accepted, ms: five repetitions of the SYN-ACK.
const HANDSHAKE: u64 = 65_000;

/// A connection of ours to a server: our end and the server's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) struct Outer {
    pub(super) external: SocketAddrV4,
    pub(super) server: SocketAddrV4,
}

/// A connection of either leg.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) enum End {
    /// Of a client.
    Client(Flow),
    /// To a server.
    Server(Outer),
}

impl End {
    /// The client, where it is one's.
    pub(super) fn client(&self) -> Option<Ipv4Addr> {
        match self {
            Self::Client(flow) => Some(flow.client),
            Self::Server(_) => None,
        }
    }
}

/// What a connection may be opened as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Awaited {
    pub(super) admission: Admission,
    /// Auto: with a connection to the server of its own, if the server takes it.
    pub(super) apart: bool,
}

/// How far one is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// Its SYN was let through; it may be opened as this says.
    Awaited(Box<Awaited>, Now),
    /// There is a socket.
    Live,
    /// The socket is gone; the kernel may still owe the other end something until then.
    Leaving(Now),
}

/// The two ends of a TCP segment, and whether it opens a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) source: SocketAddrV4,
    pub(super) destination: SocketAddrV4,
    /// SYN without ACK or RST.
    pub(super) opens: bool,
}

/// All connections of the shared mode.
#[derive(Debug, Default)]
pub(super) struct Ends {
    states: HashMap<End, State>,
    deadlines: BTreeSet<(Now, End)>,
    /// Of clients, not accepted yet.
    awaited: BTreeSet<Flow>,
    /// Those to servers.
    outers: BTreeSet<Outer>,
    /// Those that were added to those, or taken away, since somebody asked.
    moved: Vec<Outer>,
}

impl Segment {
    /// Reads an IPv4 packet; `None` when it is no whole TCP header of a first fragment.
    pub(super) fn read(packet: &[u8]) -> Option<Self> {
        let ip = ipv4::Packet::new_checked(packet).ok()?;
        if ip.protocol() != ipv4::PROTOCOL_TCP || ip.is_fragment() {
            return None;
        }
        let segment = tcp::Packet::new_checked(ip.payload()).ok()?;
        Some(Self {
            source: SocketAddrV4::new(ip.src(), segment.src_port()),
            destination: SocketAddrV4::new(ip.dst(), segment.dst_port()),
            opens: segment.syn() && !segment.rst() && !segment.flags().contains(tcp::Flags::ACK),
        })
    }

    /// The connection, where a client has sent it.
    pub(super) fn flow(&self) -> Flow {
        Flow {
            client: *self.source.ip(),
            client_port: self.source.port(),
            server: *self.destination.ip(),
            server_port: self.destination.port(),
        }
    }

    /// The connection, where a server has sent it.
    pub(super) fn outer(&self) -> Outer {
        Outer { external: self.destination, server: self.source }
    }
}

impl Ends {
    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.states.is_empty()
    }

    /// Whether segments of it are for a socket of ours.
    pub(super) fn has(&self, end: End) -> bool {
        self.states.contains_key(&end)
    }

    /// Whether a SYN of it is to be judged by the rules: there is no connection, or one that is over.
    pub(super) fn is_new(&self, end: End) -> bool {
        matches!(self.states.get(&end), None | Some(State::Leaving(_)))
    }

    /// A SYN was let through.
    pub(super) fn awaits(&mut self, flow: Flow, awaited: Awaited, now: Now) {
        let until = now.after(HANDSHAKE);
        self.set(End::Client(flow), State::Awaited(Box::new(awaited), until), Some(until));
    }

    /// Connections of this client whose SYN was let through and that are not accepted yet.
    pub(super) fn awaited_of(&self, client: Ipv4Addr) -> u32 {
        let first = Flow { client, client_port: 0, server: Ipv4Addr::UNSPECIFIED, server_port: 0 };
        let last = Flow { client, client_port: u16::MAX, server: Ipv4Addr::BROADCAST, server_port: u16::MAX };
        self.awaited.range(first..=last).count() as u32
    }

    /// After a change of configuration: what is awaited may be opened as `look_up` says now, or not at all any more.
    pub(super) fn renew(&mut self, look_up: &mut dyn FnMut(&Policy) -> Option<Policy>) {
        for end in self.awaited.iter().copied().map(End::Client).collect::<Vec<_>>() {
            let Some(State::Awaited(awaited, _)) = self.states.get_mut(&end) else { continue };
            match look_up(&awaited.admission.policy) {
                Some(policy) => awaited.admission.policy = policy,
                None => self.disown(end),
            }
        }
    }

    /// From now on its segments are others'.
    pub(super) fn disown(&mut self, end: End) {
        if let Some(State::Awaited(_, at) | State::Leaving(at)) = self.states.remove(&end) {
            self.deadlines.remove(&(at, end));
        }
        self.unlist(end);
    }

    /// The connection was accepted: how it may be opened; `None` when nobody has let it through.
    pub(super) fn accepted(&mut self, flow: Flow) -> Option<Awaited> {
        let State::Awaited(awaited, _) = self.states.get(&End::Client(flow))?.clone() else { return None };
        self.set(End::Client(flow), State::Live, None);
        Some(*awaited)
    }

    /// There is a socket.
    pub(super) fn live(&mut self, end: End) {
        self.set(end, State::Live, None);
    }

    /// The socket is gone.
    pub(super) fn over(&mut self, end: End, now: Now) {
        if self.states.contains_key(&end) {
            self.leaves(end, now.after(LINGER));
        }
    }

    /// There is no socket, and the kernel may owe the other end something until then.
    pub(super) fn leaves(&mut self, end: End, until: Now) {
        self.set(end, State::Leaving(until), Some(until));
    }

    /// Those of which that is so, each with its time.
    pub(super) fn leaving(&self) -> Vec<(End, Now)> {
        let timed = self.deadlines.iter().map(|&(at, end)| (end, at));
        timed.filter(|(end, _)| matches!(self.states.get(end), Some(State::Leaving(_)))).collect()
    }

    /// The next time `forget` has something to do.
    pub(super) fn next(&self) -> Option<Now> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Forgets what is over at `now`.
    pub(super) fn forget(&mut self, now: Now) {
        while let Some(&(at, end)) = self.deadlines.first().filter(|(at, _)| *at <= now) {
            self.deadlines.remove(&(at, end));
            self.states.remove(&end);
            self.unlist(end);
        }
    }

    fn unlist(&mut self, end: End) {
        match end {
            End::Client(flow) => {
                self.awaited.remove(&flow);
            }
            End::Server(outer) => self.moved.extend(self.outers.take(&outer)),
        }
    }

    /// External addresses and servers of connections to servers.
    pub(super) fn outers(&self) -> impl Iterator<Item = Outer> + '_ {
        self.outers.iter().copied()
    }

    /// Those that have come to `outers` or gone from there. Each once.
    pub(super) fn moved(&mut self) -> Vec<Outer> {
        std::mem::take(&mut self.moved)
    }

    /// Ports that servers of ours are reached at.
    pub(super) fn server_ports(&self) -> BTreeSet<u16> {
        self.outers().map(|outer| outer.server.port()).collect()
    }

    /// External addresses in use.
    pub(super) fn external_addresses(&self) -> BTreeSet<Ipv4Addr> {
        self.outers().map(|outer| *outer.external.ip()).collect()
    }

    fn set(&mut self, end: End, state: State, deadline: Option<Now>) {
        match (end, &state) {
            (End::Server(outer), _) => {
                if self.outers.insert(outer) {
                    self.moved.push(outer);
                }
            }
            (End::Client(flow), State::Awaited(..)) => {
                self.awaited.insert(flow);
            }
            (End::Client(flow), State::Live | State::Leaving(_)) => {
                self.awaited.remove(&flow);
            }
        }
        let old = self.states.insert(end, state);
        if let Some(State::Awaited(_, at) | State::Leaving(at)) = old {
            self.deadlines.remove(&(at, end));
        }
        self.deadlines.extend(deadline.map(|at| (at, end)));
    }
}

#[cfg(test)]
#[path = "ends_tests.rs"]
mod tests;
