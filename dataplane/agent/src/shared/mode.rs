//! The shared mode's core with its sockets: what the ALG's thread asks and tells it.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::BorrowedFd;

use callgate_pptp::shared::{Command, Event as SharedEvent, Gone, Leg, Shared, TunnelView};
use callgate_pptp::{Admission, Change, Engine, Event, Flow, Now, OpenRefusal, Policy, Side, Verdict};
use callgate_proto::model::{ControlConnection, NodeConfig};

use super::ends::{Awaited, End, Ends, Outer, Segment};
use super::handover::Place;
use super::legs::{Heard, Legs};
use super::memory::Memory;
use crate::alg::gate::Gate;
use crate::alg::policy;
use crate::alg::seldom::Seldom;
use crate::sockets::{Emitter, Sent};

callgate_pptp::counters! {
    /// What the sockets of the shared mode count, since the thread started.
    pub struct Counters {
        /// Segments of clients handed to the kernel's TCP.
        shared_inward,
        /// Of `shared_inward`: the kernel did not take them.
        shared_inward_refused,
        /// Connections of clients accepted.
        shared_accepted,
        /// Connections to servers begun.
        shared_connects,
    }
}

/// What became of a packet of the shared mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Passed {
    /// The packet, as rewritten in place, goes out to this side.
    Forward(Side),
    /// Nothing more to do with it.
    Done,
}

/// What every input needs besides itself.
pub(crate) struct With<'a> {
    pub(crate) engine: &'a mut Engine,
    pub(crate) gate: &'a mut Gate,
    pub(crate) now: Now,
}

/// The shared mode of this node.
pub(crate) struct Mode {
    pub(super) core: Shared,
    memory: Memory,
    pub(super) place: Place,
    pub(super) ends: Ends,
    pub(super) legs: Legs,
    /// Packet mark of the sockets.
    pub(super) sent: u32,
    inward: Emitter,
    /// What is to be done with sockets, once the journal has what came before.
    actions: VecDeque<Command>,
    /// Auto: the clients whose alone connections to servers are, and to whom their ports are counted.
    pub(super) owners: HashMap<Outer, Ipv4Addr>,
    /// What the journal has to hear of beside the core's.
    pub(super) changes: Vec<Change>,
    events: Vec<Event>,
    /// The configuration has a PptpAlg that may use it, or one that may come into force has.
    wanted: bool,
    pub(super) counters: Counters,
    unheard: Seldom,
    pub(super) unopened: Seldom,
}

impl Mode {
    /// Without any connection, but with what is known about servers. `sent`: packet mark of the sockets; `inward`: of what is for them.
    ///
    /// # Errors
    /// When a socket cannot be made.
    pub(crate) fn new(mut core: Shared, (memory, place): (Memory, Place), sent: u32, inward: u32) -> io::Result<Self> {
        match memory.load() {
            Ok(learned) => core.remember(learned),
            Err(error) => tracing::error!("{}: what Auto had learned is lost: {error}", memory.path().display()),
        }
        Ok(Self {
            core,
            memory,
            place,
            ends: Ends::default(),
            legs: Legs::new(sent)?,
            sent,
            inward: Emitter::open_to("lo", inward)?,
            actions: VecDeque::new(),
            owners: HashMap::new(),
            changes: Vec::new(),
            events: Vec::new(),
            wanted: false,
            counters: Counters::default(),
            unheard: Seldom::default(),
            unopened: Seldom::default(),
        })
    }

    /// Readable when a socket has something to tell.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.legs.fd()
    }

    /// One packet; `None` when it is not of this mode.
    pub(crate) fn packet(&mut self, from: Side, packet: &mut [u8], with: &mut With<'_>) -> Option<Passed> {
        if !self.wanted && self.is_idle() {
            return None;
        }
        let Some(segment) = Segment::read(packet) else {
            let verdict = match from {
                Side::Client => self.core.from_client(packet, with.now),
                Side::Server => self.core.from_server(packet, with.now),
            };
            return match verdict? {
                Verdict::Forward(to) => Some(Passed::Forward(to)),
                Verdict::Consumed => Some(Passed::Done),
            };
        };
        let end = match from {
            Side::Client => End::Client(segment.flow()),
            Side::Server => End::Server(segment.outer()),
        };
        if from == Side::Client && segment.opens && self.ends.is_new(end) {
            match self.opens(segment.flow(), packet, with) {
                Some(true) => {}
                Some(false) => return Some(Passed::Done),
                None => {
                    // Neither is what follows the SYN, though a connection between the same ends was ours a moment ago.
                    self.ends.disown(end);
                    return None;
                }
            }
        }
        if !self.ends.has(end) {
            return None;
        }
        if from == Side::Server {
            // The kernel has brought it to its socket already; this is the tap's copy.
            return Some(Passed::Done);
        }
        self.counters.shared_inward += 1;
        if !matches!(self.inward.send(&[packet]), Sent::Taken(_)) {
            self.counters.shared_inward_refused += 1;
        }
        Some(Passed::Done)
    }

    /// A client opens a connection: whether the kernel may answer it. `None` when it is not for this mode.
    fn opens(&mut self, flow: Flow, packet: &[u8], with: &mut With<'_>) -> Option<bool> {
        if with.engine.knows(flow) {
            return None;
        }
        let (policy, external, config) = with.gate.decide(flow)?;
        let apart = match policy::control_connection(config, &policy) {
            ControlConnection::Shared => false,
            ControlConnection::Auto => true,
            ControlConnection::PerClient => return None,
        };
        // A client and a server more.
        let full = self.legs.full(2).map(OpenRefusal::MaxConnections);
        let awaited = self.ends.awaited_of(flow.client);
        let many = awaited >= with.engine.limits().half_open_per_client;
        if let Some(why) = full.or_else(|| many.then_some(OpenRefusal::HalfOpenClient(awaited))) {
            self.refuse(flow, packet, why, with);
            return Some(false);
        }
        let external = match with.gate.open_way(flow.server, external) {
            Ok(external) => external,
            Err(why) => {
                self.refuse(flow, packet, OpenRefusal::NotAdmitted(why), with);
                return Some(false);
            }
        };
        if let Err(error) = self.legs.listen(flow.server_port) {
            if let Some(held) = self.unheard.due(with.now) {
                tracing::error!(
                    port = flow.server_port,
                    held,
                    "cannot accept connections in a server's name: {error}; a program of this host that listens on that port of \
                     all addresses must listen on its own address only"
                );
            }
            self.refuse(flow, packet, OpenRefusal::NoPort, with);
            return Some(false);
        }
        self.ends.awaits(flow, Awaited { admission: Admission { external, policy }, apart }, with.now);
        Some(true)
    }

    fn refuse(&mut self, flow: Flow, packet: &[u8], why: OpenRefusal, with: &mut With<'_>) {
        with.engine.reset_client(packet);
        self.events.push(Event::Refused { flow, why });
    }

    /// What the sockets have to tell; false when it was nothing.
    pub(crate) fn hear(&mut self, with: &mut With<'_>) -> bool {
        let mut heard = Vec::new();
        self.legs.hear(&mut heard);
        let some = !heard.is_empty();
        self.take(heard, with);
        some
    }

    pub(super) fn take(&mut self, heard: Vec<Heard>, with: &mut With<'_>) {
        for heard in heard {
            let (core, now) = (&mut self.core, with.now);
            match heard {
                Heard::Accepted(flow, socket) => {
                    self.counters.shared_accepted += 1;
                    let Some(Awaited { admission, apart }) = self.ends.accepted(flow) else {
                        // Nobody has let it through: the socket is reset by being dropped.
                        continue;
                    };
                    if let Some(most) = self.legs.full(1) {
                        drop(socket);
                        self.ends.over(End::Client(flow), now);
                        self.events.push(Event::Refused { flow, why: OpenRefusal::MaxConnections(most) });
                        continue;
                    }
                    match core.client_connected(flow, admission, with.engine, now) {
                        Ok(id) => {
                            let leg = Leg::Client(id);
                            if apart {
                                core.keep_apart(id);
                            }
                            if let Err(error) = self.legs.adopt(leg, End::Client(flow), socket) {
                                tracing::error!("a connection cannot be looked after: {error}");
                                self.core.client_closed(id, Gone::Reset, with.engine, now);
                                self.ends.over(End::Client(flow), now);
                            }
                        }
                        Err(why) => {
                            drop(socket);
                            self.ends.over(End::Client(flow), now);
                            self.events.push(Event::Refused { flow, why });
                        }
                    }
                }
                Heard::Connected(upstream) => core.upstream_connected(upstream, with.engine, now),
                Heard::Failed(upstream, why) => core.upstream_failed(upstream, why, with.engine, now),
                Heard::Bytes(Leg::Client(id), bytes) => core.client_bytes(id, &bytes, with.engine, now),
                Heard::Bytes(Leg::Upstream(id), bytes) => core.upstream_bytes(id, &bytes, with.engine, now),
                Heard::Gone(Leg::Client(id), gone) => core.client_closed(id, gone, with.engine, now),
                Heard::Gone(Leg::Upstream(id), gone) => core.upstream_closed(id, gone, with.engine, now),
                Heard::Written(leg, octets) => core.written(leg, octets, with.engine, now),
                Heard::Refused(outer) => self.gives_back(outer, with),
                Heard::Over(End::Server(outer)) => self.rests(outer, with),
                Heard::Over(end @ End::Client(_)) => self.ends.over(end, now),
            }
        }
    }

    /// The next command for others than the sockets; those for the sockets are kept for `act`.
    pub(crate) fn poll_command(&mut self) -> Option<Command> {
        loop {
            if let Some(change) = self.changes.pop() {
                return Some(Command::Persist(change));
            }
            match self.core.poll_command()? {
                command @ (Command::Open { .. }
                | Command::Write { .. }
                | Command::Close { .. }
                | Command::Reset { .. }) => self.actions.push_back(command),
                command @ Command::Note(SharedEvent::Learned { .. }) => {
                    self.keep();
                    return Some(command);
                }
                command @ (Command::Persist(_) | Command::Send { .. } | Command::Note(_)) => return Some(command),
            }
        }
    }

    /// What is known about servers is known to the next process.
    fn keep(&self) {
        let learned: Vec<_> = self.core.learned(Now(0)).collect();
        if let Err(error) = self.memory.save(&learned) {
            tracing::error!("{}: what Auto has learned cannot be kept: {error}", self.memory.path().display());
        }
    }

    /// The next event that is told in the in-path mode's words.
    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop()
    }

    /// Does what the core wants done with sockets; the journal must have all that came before. False when there was nothing.
    pub(crate) fn act(&mut self, with: &mut With<'_>) -> bool {
        if self.actions.is_empty() {
            return false;
        }
        let mut heard = Vec::new();
        while let Some(action) = self.actions.pop_front() {
            match action {
                Command::Open { upstream, external, server, server_port, client } => {
                    let ends = (external, SocketAddrV4::new(server, server_port));
                    self.open(upstream, ends, client, &mut heard, with);
                }
                Command::Write { leg, message } => self.legs.write(leg, message, &mut heard),
                Command::Close { leg } => self.legs.close(leg, with.now, &mut heard),
                Command::Reset { leg } => self.legs.reset(leg, &mut heard),
                Command::Persist(_) | Command::Send { .. } | Command::Note(_) => {}
            }
        }
        self.take(heard, with);
        true
    }

    /// When `handle_timeout` has to be called next.
    pub(crate) fn poll_timeout(&self) -> Option<Now> {
        [self.core.poll_timeout(), self.ends.next(), self.legs.next()].into_iter().flatten().min()
    }

    /// Does what is due.
    pub(crate) fn handle_timeout(&mut self, with: &mut With<'_>) {
        if self.core.poll_timeout().is_some_and(|at| at <= with.now) {
            self.core.handle_timeout(with.engine, with.now);
        }
        let mut heard = Vec::new();
        self.legs.expire(with.now, &mut heard);
        self.take(heard, with);
        self.ends.forget(with.now);
    }

    /// Rules are these from now on; `with.gate` has them already.
    pub(crate) fn configure(&mut self, config: &NodeConfig, with: &mut With<'_>) {
        self.wanted = crate::nft::shared(config);
        self.ends.renew(&mut |old| policy::renew(config, old).filter(|new| new.alg == old.alg));
        self.core.set_policies(&mut |old| policy::renew(config, old), with.engine, with.now);
        if config.rules.is_empty() {
            // Nobody can ever use the connections to servers again.
            self.core.shut_down(with.engine, with.now);
        }
    }

    /// The kernel has refused the first of these, and the second goes on: what was admitted by it is judged anew. `some`: there is
    /// something beside SYNs that the kernel has not answered.
    pub(crate) fn take_back(
        &mut self,
        some: bool,
        judge: &mut dyn FnMut(&Policy) -> Option<Policy>,
        (refused, config): (&NodeConfig, &NodeConfig),
        with: &mut With<'_>,
    ) {
        // Of a PptpAlg that was to use this mode and does not: there is nobody in the kernel who could answer.
        let shares = |config, new: &Policy| policy::control_connection(config, new) != ControlConnection::PerClient;
        self.ends.renew(&mut |old| {
            let new = judge(old).filter(|new| new.alg == old.alg)?;
            (shares(config, &new) || !shares(refused, old)).then_some(new)
        });
        if some {
            self.core.set_policies(judge, with.engine, with.now);
        }
    }

    /// The gateway is being stopped: all are told.
    pub(crate) fn shut_down(&mut self, with: &mut With<'_>) {
        self.wanted = false;
        self.ends.renew(&mut |_| None);
        self.core.shut_down(with.engine, with.now);
    }

    /// This one may come into force now.
    pub(crate) fn expect(&mut self, config: &NodeConfig) {
        self.wanted |= crate::nft::shared(config);
    }

    /// Clients that are gone: their connections are reset, their calls cleared at their servers.
    pub(crate) fn end_clients(&mut self, gone: &BTreeSet<Ipv4Addr>, with: &mut With<'_>) {
        let sessions = self.core.sessions();
        let mut heard = Vec::new();
        for session in sessions.into_iter().filter(|session| gone.contains(&session.flow.client)) {
            self.legs.reset(Leg::Client(session.session), &mut heard);
            self.core.client_closed(session.session, Gone::Reset, with.engine, with.now);
        }
        self.take(heard, with);
        self.core.disown(gone);
        self.owners.retain(|_, client| !gone.contains(client));
    }

    /// External addresses of connections to servers, with the servers: answers have to reach us.
    pub(crate) fn ways(&self) -> BTreeSet<(Ipv4Addr, Ipv4Addr)> {
        self.ends.outers().map(|outer| (*outer.external.ip(), *outer.server.ip())).collect()
    }

    /// Servers and their ports, to which connections have come or gone since the last time.
    pub(crate) fn moved(&mut self) -> Vec<(Ipv4Addr, u16)> {
        self.ends.moved().into_iter().map(|outer| (*outer.server.ip(), outer.server.port())).collect()
    }

    /// Whether there is no connection of either leg, not even one whose other end may still be owed something.
    pub(crate) fn is_idle(&self) -> bool {
        self.ends.is_empty()
    }

    /// External addresses in use.
    pub(crate) fn external_addresses(&self) -> BTreeSet<Ipv4Addr> {
        self.ends.external_addresses()
    }

    /// TCP ports of servers in use.
    pub(crate) fn server_ports(&self) -> BTreeSet<u16> {
        self.ends.server_ports()
    }

    /// The core, for tests without sockets.
    #[cfg(test)]
    pub(crate) fn core_mut(&mut self) -> &mut Shared {
        &mut self.core
    }

    /// The core, for those who list.
    pub(crate) fn core(&self) -> &Shared {
        &self.core
    }

    /// Connections to servers, each with its external port.
    pub(crate) fn tunnels(&self) -> Vec<(TunnelView, u16)> {
        let port = |view: &TunnelView| self.legs.outer(view.tunnel).map_or(0, |outer| outer.external.port());
        self.core.tunnels().into_iter().map(|view| (port(&view), view)).map(|(port, view)| (view, port)).collect()
    }

    /// Calls clients have, in the words of the in-path mode's list.
    pub(crate) fn calls(&self) -> Vec<callgate_pptp::CallView> {
        self.core.calls(&|upstream| self.legs.outer(upstream).map_or(0, |outer| outer.external.port()))
    }

    /// Every counter under its name.
    pub(crate) fn counters(&self) -> Vec<(String, u64)> {
        let core = self.core.counters();
        let named = core.iter().map(|(name, value)| (format!("shared_{name}"), value));
        named.chain(self.counters.iter().map(|(name, value)| (name.to_owned(), value))).collect()
    }
}
