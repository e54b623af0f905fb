//! The thread of the ALG: reads a batch, lets the engine decide, writes the journal, sends.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};
use std::thread::JoinHandle;

use callgate_pptp::{Command, Engine, Event, Now, Side, Verdict};
use callgate_proto::model::NodeConfig;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::EventFd;

use super::counters::Counters;
use super::gate::Gate;
use super::outlets::Outlets;
use super::{Request, Setup, Totals, notes, policy};
use crate::clock;
use crate::sockets::{Emitter, Place, Reader, RefusedBy, SEND_BATCH, Sent, Tap, filter};
use crate::state::Journal;

/// Batches read from one tap before the others have their turn.
const TURN: usize = 8;

/// Ways out that are made ready before the first connection asks for them.
const LIKELY: usize = 16;

/// Packets on their way out, with the side they go to.
type Outgoing = Vec<(Place, Side)>;

/// Everything the thread owns.
pub(super) struct Worker {
    requests: Receiver<Request>,
    wake: Arc<EventFd>,
    pods: Arc<Tap>,
    reader: Reader,
    emitter: Emitter,
    core: Core,
    events: Option<(SyncSender<Event>, JoinHandle<()>)>,
}

/// What decides about packets; apart from the sockets, so that both can be borrowed at once.
struct Core {
    engine: Engine,
    gate: Gate,
    journal: Journal,
    counters: Counters,
    log: SyncSender<Event>,
}

impl Worker {
    pub(super) fn new(setup: Setup, requests: Receiver<Request>, wake: Arc<EventFd>) -> io::Result<Self> {
        let Setup { engine, journal, mut node, tap_link, mark, interfaces, external_ports } = setup;
        let index = node.index_of(&tap_link).ok_or_else(|| io::Error::other(format!("link {tap_link} is gone")))?;
        let pods = Arc::new(Tap::open(index, &filter::pod_side())?);
        let outlets = Outlets::new(node, interfaces, external_ports);
        let (log, thread) = notes::start()?;
        let gate = Gate { config: Arc::new(NodeConfig::default()), outlets };
        let core = Core { engine, gate, journal, counters: Counters::default(), log: log.clone() };
        let events = Some((log, thread));
        let mut worker =
            Self { requests, wake, pods, reader: Reader::default(), emitter: Emitter::open(mark)?, core, events };
        worker.core.reclaim();
        Ok(worker)
    }

    pub(super) fn run(mut self) {
        loop {
            self.wait();
            if !self.answer() {
                break;
            }
            let now = clock::now();
            if self.core.engine.poll_timeout().is_some_and(|at| at <= now) {
                let mut out = Outgoing::new();
                self.core.engine.handle_timeout(now);
                self.core.carry_out(&mut out);
                self.send(out, now);
            }
            self.read(&Arc::clone(&self.pods), Side::Client);
            for tap in self.core.gate.outlets.taps().to_vec() {
                self.read(&tap, Side::Server);
            }
            self.core.compact();
        }
        drop(self.core);
        if let Some((log, thread)) = self.events.take() {
            drop(log);
            let _ = thread.join();
        }
    }

    /// Until a packet, a request or a deadline.
    fn wait(&self) {
        let taps = self.core.gate.outlets.taps();
        let mut fds =
            vec![PollFd::new(self.wake.as_fd(), PollFlags::POLLIN), PollFd::new(self.pods.as_fd(), PollFlags::POLLIN)];
        fds.extend(taps.iter().map(|tap| PollFd::new(tap.as_fd(), PollFlags::POLLIN)));
        let timeout = self.core.engine.poll_timeout().map_or(PollTimeout::NONE, |at| {
            PollTimeout::try_from(at.since(clock::now()).min(60_000)).unwrap_or(PollTimeout::MAX)
        });
        let _ = poll(&mut fds, timeout);
    }

    /// Answers all requests; false when the thread shall end.
    fn answer(&mut self) -> bool {
        let _ = self.wake.read();
        while let Ok(request) = self.requests.try_recv() {
            match request {
                Request::Configure(config, reply) => {
                    let mut out = Outgoing::new();
                    let now = clock::now();
                    self.core.configure(config, now);
                    self.core.carry_out(&mut out);
                    self.send(out, now);
                    let _ = reply.send(());
                }
                Request::Calls(reply) => drop(reply.send((self.core.engine.calls(), clock::now()))),
                Request::Totals(reply) => drop(reply.send(self.totals())),
                Request::Refresh => self.core.gate.outlets.refresh(),
                Request::Stop => return false,
            }
        }
        true
    }

    /// A few batches from one tap, each sent on before the next is read.
    fn read(&mut self, tap: &Tap, from: Side) {
        for _ in 0..TURN {
            let (core, mut out) = (&mut self.core, Outgoing::new());
            let now = clock::now();
            let read = self.reader.read(tap, &mut out, |packet, out| core.packet(from, packet, out, now));
            match read {
                Ok(0) => return,
                Ok(frames) => {
                    core.counters.rx_batches += 1;
                    match from {
                        Side::Client => core.counters.rx_pods += frames as u64,
                        Side::Server => core.counters.rx_outside += frames as u64,
                    }
                }
                Err(_) => {
                    core.counters.rx_errors += 1;
                    return;
                }
            }
            self.send(out, now);
        }
    }

    /// Makes the journal durable, then hands the packets to the kernel.
    fn send(&mut self, out: Outgoing, now: Now) {
        let Self { core, emitter, reader, .. } = self;
        if core.journal.flush().is_err() {
            core.counters.journal_errors += 1;
        }
        let mut made = Outgoing::new();
        let mut at = 0;
        while at < out.len() {
            let end = out.len().min(at + SEND_BATCH);
            let packets: Vec<&[u8]> = out[at..end].iter().map(|(place, _)| reader.bytes(place)).collect();
            at += core.sent(emitter, &packets, Some((out[at].1, &mut made)), now);
        }
        // What was made because something did not fit is small, or already cut.
        let mut at = 0;
        while at < made.len() {
            let packets: Vec<&[u8]> =
                made[at..].iter().take(SEND_BATCH).map(|(place, _)| reader.bytes(place)).collect();
            at += core.sent(emitter, &packets, None, now);
        }
    }

    fn totals(&mut self) -> Totals {
        let core = &mut self.core;
        core.counters.rx_pods_overflow = self.pods.drops();
        core.counters.rx_outside_overflow = core.gate.outlets.overflow();
        core.counters.rx_truncated = self.reader.unreadable.truncated;
        core.counters.rx_offload = self.reader.unreadable.offload;
        core.counters.taps = core.gate.outlets.taps().len() as u64;
        let own = core.counters;
        let engine = core.engine.counters();
        let mut counters: Vec<(String, u64)> =
            own.iter().chain(engine.iter()).map(|(name, value)| (name.to_owned(), value)).collect();
        counters.sort();
        Totals { connections: core.engine.connections().len(), calls: core.engine.call_count(), counters }
    }
}

impl Core {
    /// One packet through the engine; the side it goes to when it is passed on in place.
    fn packet(&mut self, from: Side, packet: &mut [u8], out: &mut Outgoing, now: Now) -> Option<Side> {
        let verdict = match from {
            Side::Client => self.engine.from_client(packet, &mut self.gate, now),
            Side::Server => {
                if !destination(packet).is_some_and(|address| self.gate.outlets.is_ours(address)) {
                    self.counters.rx_not_ours += 1;
                    return None;
                }
                self.engine.from_server(packet, now)
            }
        };
        self.carry_out(out);
        match verdict {
            Verdict::Forward(to) => Some(to),
            Verdict::Consumed => None,
        }
    }

    /// The engine's commands, in order. Nothing is sent before the journal has all that came before it.
    fn carry_out(&mut self, out: &mut Outgoing) {
        while let Some(command) = self.engine.poll_command() {
            match command {
                Command::Persist(change) => {
                    self.counters.journal_entries += 1;
                    self.journal.append(&change);
                }
                Command::Send { to, packet } => out.push((Place::Own(packet), to)),
                Command::Note(event) => {
                    if self.log.try_send(event).is_err() {
                        self.counters.events_unlogged += 1;
                    }
                }
            }
        }
    }

    /// Hands over one batch; how many packets of it are done with. What does not fit goes to the engine, if `made` is
    /// given with the side of the first packet.
    fn sent(
        &mut self,
        emitter: &mut Emitter,
        packets: &[&[u8]],
        made: Option<(Side, &mut Outgoing)>,
        now: Now,
    ) -> usize {
        match emitter.send(packets) {
            Sent::Taken(taken) => {
                self.counters.tx_packets += taken as u64;
                return taken.max(1);
            }
            Sent::TooBig => {
                self.counters.tx_too_big += 1;
                let first = packets.first().copied().unwrap_or_default();
                if let (Some((to, made)), Some(address)) = (made, destination(first)) {
                    let mtu = emitter.path_mtu(address).unwrap_or(1_500);
                    self.engine.too_big(first, to, mtu, now);
                    self.carry_out(made);
                }
            }
            Sent::Refused(RefusedBy::Buffers) => self.counters.tx_no_buffers += 1,
            Sent::Refused(RefusedBy::Route) => self.counters.tx_no_route += 1,
            Sent::Refused(RefusedBy::Filter) => self.counters.tx_filtered += 1,
            Sent::Refused(RefusedBy::Other(_)) => self.counters.tx_errors += 1,
        }
        1
    }

    /// After a start: answers to connections of the journal must reach us again.
    fn reclaim(&mut self) {
        self.gate.outlets.refresh();
        for view in self.engine.connections() {
            let ports =
                vec![callgate_proto::model::PortRange { first: view.flow.server_port, last: view.flow.server_port }];
            self.gate.outlets.add_server_ports(ports);
            if let Some(way) = self.gate.outlets.way(view.flow.server)
                && let Err(error) = self.gate.outlets.ready(view.external, way.ifindex)
            {
                tracing::error!(server = %view.flow.server, "cannot get ready for a connection that was live: {error}");
            }
        }
    }

    fn configure(&mut self, config: Arc<NodeConfig>, now: Now) {
        self.gate.outlets.set_server_ports(policy::server_ports(&config));
        for view in self.engine.connections() {
            let port = view.flow.server_port;
            self.gate.outlets.add_server_ports(vec![callgate_proto::model::PortRange { first: port, last: port }]);
        }
        self.gate.config = Arc::clone(&config);
        for (server, external) in policy::likely_servers(&config, LIKELY) {
            // Only to be early: the real connection asks again.
            let _ = self.gate.open_way(server, external);
        }
        self.engine.set_policies(&mut |old| policy::renew(&config, old), now);
    }

    fn compact(&mut self) {
        if self.journal.wants_compaction() {
            self.counters.journal_snapshots += 1;
            if self.journal.compact(self.engine.records()).is_err() {
                self.counters.journal_errors += 1;
            }
        }
    }
}

/// Destination in an IPv4 header.
fn destination(packet: &[u8]) -> Option<Ipv4Addr> {
    let octets: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
    Some(octets.into())
}
