//! What the worker decides and keeps: engine, rules and journal, apart from the sockets so that both can be borrowed at once.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use callgate_pptp::{Command, Engine, Event, Flow, Now, Policy, Side, Verdict, shared};
use callgate_proto::model::{NodeConfig, PortRange};

use super::beside::Beside;
use super::counters::Counters;
use super::gate::Gate;
use super::notes::Note;
use super::shortcut::Shortcuts;
use super::{Totals, policy};
use crate::kernel::Peers;
use crate::shared::{Mode, Passed, With};
use crate::sockets::{Emitter, Neighbour, Place, RefusedBy, Sent};
use crate::state::Journal;
use crate::{clock, fast};

/// Between two snapshots of a journal that could not be written, ms.
const REPAIR: u64 = 5_000;

/// Ways out that are made ready before the first connection asks for them.
const LIKELY: usize = 16;

/// Packets on their way out, with the side they go to.
pub(super) type Outgoing = Vec<(Place, Side)>;

/// Engine, rules and journal.
pub(super) struct Core {
    pub(super) engine: Engine,
    pub(super) gate: Gate,
    pub(super) shared: Mode,
    pub(super) counters: Counters,
    pub(super) beside: Beside,
    pub(super) shortcuts: Option<Shortcuts>,
    journal: Journal,
    log: SyncSender<Note>,
    /// When the journal may be repaired again.
    repair: Now,
    /// No rule brings connections any more; the kernel is told when the last one is over.
    ending: bool,
    /// A connection has ended whose ends the rules may not have known any more.
    ended: bool,
    /// Sessions of the shared mode of which that is so, closed and not yet gone: they end a while after they are closed.
    closed: BTreeSet<Flow>,
    /// How many of its sessions had gone when that was looked at last.
    gone: u64,
}

impl Core {
    pub(super) fn new(
        mut engine: Engine,
        gate: Gate,
        shared: Mode,
        journal: Journal,
        log: SyncSender<Note>,
        fast: fast::Setup,
        shortcuts: Option<Shortcuts>,
    ) -> Self {
        let beside = Beside::start(fast, &mut engine, clock::now());
        let counters = Counters::default();
        Self {
            engine,
            gate,
            shared,
            counters,
            beside,
            shortcuts,
            journal,
            log,
            repair: Now(0),
            ending: false,
            ended: false,
            closed: BTreeSet::new(),
            gone: 0,
        }
    }

    /// One packet through the engine; the side it goes to when it is passed on in place.
    pub(super) fn packet(&mut self, from: Side, packet: &mut [u8], out: &mut Outgoing, now: Now) -> Option<Side> {
        self.gate.now = now;
        if from == Side::Server && !destination(packet).is_some_and(|address| self.gate.outlets.is_ours(address)) {
            self.counters.rx_not_ours += 1;
            return None;
        }
        let with = &mut With { engine: &mut self.engine, gate: &mut self.gate, now };
        if let Some(passed) = self.shared.packet(from, packet, with) {
            self.carry_out(out);
            return match passed {
                Passed::Forward(to) => Some(to),
                Passed::Done => None,
            };
        }
        let verdict = match from {
            Side::Client => self.engine.from_client(packet, &mut self.gate, now),
            Side::Server => self.engine.from_server(packet, now),
        };
        self.carry_out(out);
        match verdict {
            Verdict::Forward(to) => Some(to),
            Verdict::Consumed => None,
        }
    }

    /// Whatever is due in either mode.
    pub(super) fn handle_timeout(&mut self, out: &mut Outgoing, now: Now) {
        if self.engine.poll_timeout().is_some_and(|at| at <= now) {
            self.beside.tell_before_time_outs(&mut self.engine, now);
            self.engine.handle_timeout(now);
        }
        if self.shared.poll_timeout().is_some_and(|at| at <= now) {
            self.shared.handle_timeout(&mut With { engine: &mut self.engine, gate: &mut self.gate, now });
        }
        self.carry_out(out);
    }

    /// When `handle_timeout` has to be called next.
    pub(super) fn poll_timeout(&self) -> Option<Now> {
        let beside = self.beside.deadline(clock::now());
        [self.engine.poll_timeout(), self.shared.poll_timeout(), beside].into_iter().flatten().min()
    }

    /// What the sockets of the shared mode have to tell; false when it was nothing.
    pub(super) fn hear(&mut self, out: &mut Outgoing, now: Now) -> bool {
        let some = self.shared.hear(&mut With { engine: &mut self.engine, gate: &mut self.gate, now });
        self.carry_out(out);
        some
    }

    /// The shared mode goes on where the process before has left it, if it has.
    pub(super) fn resume(&mut self, now: Now) {
        self.shared.resume(&mut With { engine: &mut self.engine, gate: &mut self.gate, now });
    }

    /// The kernel keeps what comes for the shared mode from now on; what had come is heard.
    pub(super) fn hush(&mut self, out: &mut Outgoing, now: Now) {
        self.shared.hush(&mut With { engine: &mut self.engine, gate: &mut self.gate, now });
        self.carry_out(out);
    }

    /// The next process goes on with the shared mode.
    pub(super) fn hand_over(&mut self, out: &mut Outgoing, now: Now) {
        self.shared.hand_over(&mut With { engine: &mut self.engine, gate: &mut self.gate, now });
        self.carry_out(out);
    }

    /// Does with sockets what the shared mode wants done, after a `flush`; false when there was nothing.
    pub(super) fn act(&mut self, out: &mut Outgoing, now: Now) -> bool {
        let acted = self.shared.act(&mut With { engine: &mut self.engine, gate: &mut self.gate, now });
        if acted {
            self.carry_out(out);
        }
        acted
    }

    /// Clients that are gone end in both modes.
    pub(super) fn end_clients(&mut self, gone: &BTreeSet<Ipv4Addr>, now: Now) {
        self.shared.end_clients(gone, &mut With { engine: &mut self.engine, gate: &mut self.gate, now });
        // Behind it: what rests of theirs now is nobody's.
        self.engine.end_clients(gone, now);
    }

    /// All calls of both modes, sorted.
    pub(super) fn calls(&self) -> Vec<callgate_pptp::CallView> {
        let mut calls = self.beside.complete_all(self.engine.calls());
        let shared = self.shared.calls();
        if !shared.is_empty() {
            calls.extend(shared);
            calls.sort_by_key(|call| (call.flow, call.pns_id, call.pac_id));
        }
        calls
    }

    /// Both modes' commands, each's in order. Nothing is sent before the journal has all that came before it.
    pub(super) fn carry_out(&mut self, out: &mut Outgoing) {
        self.beside.begin();
        while let Some(command) = self.shared.poll_command() {
            match command {
                shared::Command::Persist(change) => {
                    self.counters.journal_entries += 1;
                    self.journal.append(&change);
                }
                shared::Command::Send { to, packet } => out.push((Place::Own(packet), to)),
                shared::Command::Note(event) => self.note(Note::Shared(event)),
                // The mode keeps those for `act`.
                shared::Command::Open { .. }
                | shared::Command::Write { .. }
                | shared::Command::Close { .. }
                | shared::Command::Reset { .. } => {}
            }
        }
        while let Some(event) = self.shared.poll_event() {
            self.note(Note::InPath(event));
        }
        while let Some(command) = self.engine.poll_command() {
            match command {
                Command::Persist(change) => {
                    self.counters.journal_entries += 1;
                    self.journal.append(&change);
                }
                Command::Send { to, packet } => out.push((Place::Own(packet), to)),
                Command::OpenPath(path) => self.beside.open(path, &mut self.engine, clock::now()),
                Command::ClosePath(path) => self.beside.close(path, clock::now()),
                Command::Note(mut event) => {
                    if let Event::Opened { flow, .. } = &event {
                        self.beside.expect(flow, clock::now());
                    }
                    self.beside.complete(&mut event);
                    self.note(Note::InPath(event));
                }
            }
        }
    }

    fn note(&mut self, note: Note) {
        if let Note::InPath(Event::Closed { flow, .. }) = &note {
            self.ended |= self.gate.outlets.knows_beyond_the_rules(*flow);
        }
        if let Note::Shared(shared::Event::SessionClosed { flow, .. }) = &note
            && self.gate.outlets.knows_beyond_the_rules(*flow)
        {
            self.closed.insert(*flow);
        }
        if self.log.try_send(note).is_err() {
            self.counters.events_unlogged += 1;
        }
    }

    /// Changes so far are durable, or counted as lost and told.
    pub(super) fn flush(&mut self) {
        if let Err(error) = self.journal.flush() {
            if self.counters.journal_errors == 0 {
                tracing::error!(
                    "the journal cannot be written: {error}; packets go on, a restart would end calls set up since"
                );
            }
            self.counters.journal_errors += 1;
        }
    }

    /// Hands over one batch, of which the first packet goes `to` this side; how many packets of it are done with.
    pub(super) fn sent(
        &mut self,
        emitter: &mut Emitter,
        packets: &[&[u8]],
        to: Side,
        made: Option<&mut Outgoing>,
    ) -> usize {
        match emitter.send(packets) {
            Sent::Taken(taken) => {
                self.counters.tx_packets += taken as u64;
                return taken.max(1);
            }
            Sent::TooBig => {
                self.counters.tx_too_big += 1;
                let first = packets.first().copied().unwrap_or_default();
                if let (Some(made), Some(address)) = (made, destination(first)) {
                    let mtu = emitter.path_mtu(address).unwrap_or(1_500);
                    self.engine.too_big(first, to, mtu);
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

    /// Where each packet of a batch may be sent without routing; packets beyond `neighbours` are not looked at.
    pub(super) fn neighbours(&mut self, packets: &[&[u8]], neighbours: &mut [Option<Neighbour>], now: Now) {
        for (packet, neighbour) in packets.iter().zip(neighbours) {
            *neighbour = self.shortcuts.as_mut().and_then(|shortcuts| shortcuts.of(packet, now));
        }
    }

    /// Hands over packets of one batch straight to their neighbours; how many are done with. 0: the first one has to be routed.
    pub(super) fn sent_straight(&mut self, packets: &[&[u8]], neighbours: &[Neighbour]) -> usize {
        let (Some(shortcuts), Some(first)) = (&mut self.shortcuts, packets.first()) else { return 0 };
        match shortcuts.send(packets, neighbours) {
            Sent::Taken(taken) if taken > 0 => {
                self.counters.tx_packets += taken as u64;
                self.counters.tx_straight += taken as u64;
                taken
            }
            // The link's queue is full: there is no other way to it.
            Sent::Refused(RefusedBy::Buffers) => {
                self.counters.tx_no_buffers += 1;
                1
            }
            Sent::Taken(_) | Sent::TooBig | Sent::Refused(_) => {
                shortcuts.refused(first);
                0
            }
        }
    }

    /// After a start, and when routes have changed: answers to connections that are live reach us.
    pub(super) fn reclaim(&mut self) {
        self.gate.outlets.refresh();
        self.listen();
        let mut ends = self.shared.ways();
        ends.extend(self.engine.connection_ends().map(|(external, flow)| (external, flow.server)));
        for (external, server) in ends {
            // A server that cannot be asked about now is asked about at the next change, and by its next connection.
            if let Ok(Some(way)) = self.gate.outlets.way(server)
                && let Err(error) = self.gate.outlets.ready(external, &way.links)
            {
                tracing::error!(%server, %external, "cannot get ready for a live connection: {error}");
            }
        }
    }

    fn external_addresses(&self) -> BTreeSet<Ipv4Addr> {
        self.engine.external_addresses().union(&self.shared.external_addresses()).copied().collect()
    }

    /// The kernel is about to be given these rules: it may steer by them at any moment, and ends that they do not know any more are
    /// ours still. Nothing ends yet: it may refuse them; `None` once it has, or has not.
    pub(super) fn expect(&mut self, next: Option<Arc<NodeConfig>>, now: Now) {
        let refused = std::mem::replace(&mut self.gate.next, next.clone());
        if let (Some(refused), None) = (refused, &next) {
            self.take_back(&refused, now);
        }
        self.ending = !self.gate.configs().any(|config| crate::nft::steered(config));
        if !self.ending {
            self.gate.outlets.expect();
        }
        self.listen();
        if let Some(next) = next {
            self.shared.expect(&next);
            self.make_ready(&next);
        }
    }

    /// What was admitted by rules that the kernel has refused goes on by those in force. Connections of one policy all go by what is in
    /// force for the first of them.
    fn take_back(&mut self, refused: &NodeConfig, now: Now) {
        let tried = std::mem::take(&mut self.gate.tried);
        let config = Arc::clone(&self.gate.config);
        let mut judge = |old: &Policy| match tried.iter().find(|(policy, _)| policy == old) {
            Some((_, flow)) => policy::decide(&config, *flow).map(|(policy, _)| policy),
            None => Some(old.clone()),
        };
        if !tried.is_empty() {
            self.engine.set_policies(&mut judge, now);
        }
        let with = &mut With { engine: &mut self.engine, gate: &mut self.gate, now };
        self.shared.take_back(!tried.is_empty(), &mut judge, (refused, &config), with);
    }

    /// Only to be early: the real connection asks again.
    fn make_ready(&mut self, config: &NodeConfig) {
        for (server, external) in policy::likely_servers(config, LIKELY) {
            let _ = self.gate.open_way(server, external);
        }
    }

    /// New rules, which the kernel has: judges new connections by them, gives live ones their new limits, ends those whose rule is gone.
    pub(super) fn configure(&mut self, config: Arc<NodeConfig>, now: Now) {
        self.goes_by(Arc::clone(&config), now);
        self.make_ready(&config);
        self.beside.foresee(&config);
        self.engine.set_policies(&mut |old| policy::renew(&config, old), now);
        self.shared.configure(&config, &mut With { engine: &mut self.engine, gate: &mut self.gate, now });
    }

    /// These rules and no others, from now on.
    fn goes_by(&mut self, config: Arc<NodeConfig>, now: Now) {
        (self.gate.config, self.gate.next) = (config, None);
        self.gate.tried.clear();
        self.expect(None, now);
    }

    /// The gateway is being stopped: nothing begins any more, and both ends of everything that lives are told.
    pub(super) fn shut_down(&mut self, now: Now) {
        self.goes_by(Arc::default(), now);
        self.engine.shut_down(now);
        self.shared.shut_down(&mut With { engine: &mut self.engine, gate: &mut self.gate, now });
    }

    /// Where neither rule nor connection is left, no packet of the host has to pass anything of ours; and ends that only a
    /// connection knew are forgotten with it. For the end of every turn.
    pub(super) fn rest(&mut self) {
        let (moved, gone) = (self.shared.moved(), self.shared.core().sessions_gone());
        // To look at all connections takes a while, and sessions that the rules know come and go all the time.
        self.ended |= std::mem::replace(&mut self.gone, gone) != gone && !self.closed.is_empty();
        if self.gate.outlets.goes_beyond_the_rules() && (self.ended || moved.into_iter().any(|to| self.is_beyond(to))) {
            self.listen();
        }
        self.ended = false;
        if !self.ending || !self.engine.is_idle() || !self.shared.is_idle() {
            return;
        }
        self.ending = false;
        if let Err(error) = self.gate.outlets.rest() {
            tracing::error!("what the ALG had in the kernel stays until the next change of rules: {error}");
        }
    }

    /// Whether this server is one that the rules do not know, or the kernel was told so.
    fn is_beyond(&self, (server, port): (Ipv4Addr, u16)) -> bool {
        let ends = || Peers { servers: [server].into(), ports: [port].into(), ..Peers::default() };
        self.gate.outlets.knows_server_beyond_the_rules(server, port)
            || self.gate.configs().any(|config| policy::beyond(config, &[], ends()) != Peers::default())
    }

    /// Taps read the ports of services with an ALG, and those of live connections whatever the rules say now; the kernel leaves
    /// both to us.
    fn listen(&mut self) {
        let (flows, live) = self.peers();
        let mut ports: Vec<PortRange> = live.ports.iter().map(|port| PortRange { first: *port, last: *port }).collect();
        let mut beyond = Peers::default();
        for config in self.gate.configs() {
            ports.extend(policy::server_ports(config));
            beyond.extend(policy::beyond(config, &flows, live.clone()));
        }
        self.gate.outlets.set_server_ports(PortRange::merged(ports));
        // All at once: the first claim replaces what the previous run left in the kernel.
        if let Err(error) = self.gate.outlets.claim_also(&self.external_addresses(), &beyond) {
            tracing::error!("cannot keep the kernel off the addresses of live connections: {error}");
        }
        let outlets = &self.gate.outlets;
        self.closed = self.shared.core().leaving_flows().filter(|flow| outlets.knows_beyond_the_rules(*flow)).collect();
    }

    /// Live connections of clients, of both modes, and their other ends.
    fn peers(&self) -> (Vec<Flow>, Peers) {
        let mut ends = Peers { ports: self.shared.server_ports(), ..Peers::default() };
        ends.servers.extend(self.shared.ways().into_iter().map(|(_, server)| server));
        let mut flows: Vec<Flow> = self.shared.core().flows().collect();
        for (_, flow) in self.engine.connection_ends() {
            ends.servers.insert(flow.server);
            ends.ports.insert(flow.server_port);
            flows.push(flow);
        }
        (flows, ends)
    }

    /// Live connections and calls, and every counter.
    pub(super) fn totals(&mut self) -> Totals {
        self.counters.rx_outside_overflow = self.gate.outlets.overflow();
        self.counters.taps = self.gate.outlets.taps().len() as u64;
        let engine = self.engine.counters();
        let both = self.counters.iter().chain(engine.iter());
        let mut counters: Vec<(String, u64)> = both.map(|(name, value)| (name.to_owned(), value)).collect();
        self.beside.count(&mut counters);
        counters.extend(self.shared.counters());
        counters.sort();
        let mut by = self.engine.calls_by_object();
        let core = self.shared.core();
        core.count_by_object(&mut by);
        let connections = self.engine.connection_count() + core.session_count();
        let at = clock::now();
        Totals {
            connections,
            calls: self.engine.call_count() + core.client_call_count(),
            counters,
            by,
            tunnels: self.shared.tunnels(),
            learned: core.learned(at).collect(),
            at,
        }
    }

    /// Shortens or repairs the journal when it is time.
    pub(super) fn compact(&mut self, now: Now) {
        if !self.journal.wants_compaction() || now < self.repair {
            return;
        }
        self.counters.journal_snapshots += 1;
        match self.journal.compact(self.engine.records()) {
            Ok(()) => {}
            Err(error) => {
                self.counters.journal_errors += 1;
                self.repair = now.after(REPAIR);
                tracing::error!("the journal cannot be compacted: {error}; it is tried again in {REPAIR} ms");
            }
        }
    }
}

/// Destination in an IPv4 header.
pub(super) fn destination(packet: &[u8]) -> Option<Ipv4Addr> {
    let octets: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
    Some(octets.into())
}

#[cfg(test)]
#[path = "core_tests.rs"]
mod tests;
