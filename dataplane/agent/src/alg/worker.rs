//! The thread of the ALG: reads a batch, lets the engine decide, writes the journal, sends.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use callgate_pptp::Side;
use callgate_pptp::shared::{Config, Shared};
use callgate_proto::model::NodeConfig;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::EventFd;

use super::core::{Core, Outgoing};
use super::gate::Gate;
use super::notes::Note;
use super::outlets::Outlets;
use super::shortcut::Shortcuts;
use super::{Question, Request, Setup, Totals, notes};
use crate::clock;
use crate::shared::{Memory, Mode, Place};
use crate::sockets::{Emitter, Neighbour, Reader, SEND_BATCH, Tap, filter};

/// Batches read from one tap before the others have their turn.
const TURN: usize = 8;

/// After a control message the thread looks for its answer for so long before it sleeps: a sleeper is woken late, and a call set-up is
/// half a dozen messages one after the other. Whoever else wants the CPU gets it.
const AWAKE: Duration = Duration::from_micros(60);

/// Turns with nothing but packets after which sockets and requests are asked about too, which is a system call.
const UNASKED: u32 = 8;

/// Everything the thread owns.
pub(super) struct Worker {
    requests: Receiver<Request>,
    wake: Arc<EventFd>,
    pods: Arc<Tap>,
    /// What taps before `pods` have lost.
    pods_lost: u64,
    tap_link: String,
    reader: Reader,
    emitter: Emitter,
    core: Core,
    /// Kept for its memory.
    out: Outgoing,
    /// Changes of durable state when it last waited.
    changes: u64,
    /// Turns since the kernel was last asked what is ready.
    unasked: u32,
    /// There is another CPU for those whose answer is awaited.
    sleepless: bool,
    events: Option<(SyncSender<Note>, JoinHandle<()>)>,
}

/// Rounds of hearing what had come before a hand-over; what had come is less than this.
const ROUNDS: usize = 10_000;

/// How the thread goes on after requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Work,
    Stop,
    /// Stop, and leave everything to the next process.
    HandOver,
}

/// What `wait` found to do.
#[derive(Default)]
struct Ready {
    requests: bool,
    pods: bool,
    sockets: bool,
    outside: Vec<Arc<Tap>>,
}

/// Whether the host has changed, and what is asked, in order.
fn sorted(requests: impl Iterator<Item = Request>) -> (bool, Vec<Question>) {
    let (mut changed, mut questions) = (false, Vec::new());
    for request in requests {
        match request {
            Request::Refresh => changed = true,
            Request::Ask(question) => questions.push(question),
        }
    }
    (changed, questions)
}

impl Ready {
    fn anything(&self) -> bool {
        self.requests || self.pods || self.sockets || !self.outside.is_empty()
    }
}

impl Worker {
    pub(super) fn new(setup: Setup, requests: Receiver<Request>, wake: Arc<EventFd>) -> io::Result<Self> {
        let Setup {
            engine,
            journal,
            mut node,
            tap_link,
            mark,
            inward_mark,
            seed,
            state,
            interfaces,
            external_ports,
            fast,
        } = setup;
        let index = node.index_of(&tap_link).ok_or_else(|| io::Error::other(format!("link {tap_link} is gone")))?;
        let pods = Arc::new(Tap::open(index, &filter::pod_side())?);
        let outlets = Outlets::new(node, interfaces, external_ports);
        let (log, thread) = notes::start()?;
        let gate = Gate::new(Arc::new(NodeConfig::default()), outlets);
        let shared = Shared::new(Config::default(), engine.limits().clone(), seed);
        let mode = Mode::new(shared, (Memory::new(&state), Place::new(&state)), mark, inward_mark)?;
        let shortcuts =
            Shortcuts::open(mark).inspect_err(|error| tracing::warn!("all GRE goes through routing: {error}")).ok();
        let core = Core::new(engine, gate, mode, journal, log.clone(), fast, shortcuts);
        let events = Some((log, thread));
        let (reader, emitter, out) = (Reader::default(), Emitter::open(mark)?, Outgoing::new());
        let sleepless = std::thread::available_parallelism().is_ok_and(|cpus| cpus.get() > 1);
        let mut worker = Self {
            requests,
            wake,
            pods,
            pods_lost: 0,
            tap_link,
            reader,
            emitter,
            core,
            out,
            changes: 0,
            unasked: 0,
            sleepless,
            events,
        };
        worker.core.resume(clock::now());
        worker.core.reclaim();
        Ok(worker)
    }

    pub(super) fn run(mut self) {
        // What the shared mode has gone on with may have ordered something.
        let mut out = std::mem::take(&mut self.out);
        self.core.carry_out(&mut out);
        self.send(out);
        loop {
            let ready = self.wait();
            match if ready.requests { self.answer() } else { Next::Work } {
                Next::Work => {}
                Next::Stop => break,
                Next::HandOver => {
                    self.leave_to_the_next();
                    break;
                }
            }
            let now = clock::now();
            self.core.beside.work(&mut self.core.engine, now);
            if self.core.poll_timeout().is_some_and(|at| at <= now) {
                let mut out = std::mem::take(&mut self.out);
                self.core.handle_timeout(&mut out, now);
                self.send(out);
            }
            if ready.sockets {
                let mut out = std::mem::take(&mut self.out);
                self.core.hear(&mut out, now);
                self.send(out);
            }
            if ready.pods {
                self.read(&Arc::clone(&self.pods), Side::Client);
            }
            for tap in ready.outside {
                self.read(&tap, Side::Server);
            }
            self.core.rest();
            self.core.compact(now);
        }
        drop(self.core);
        if let Some((log, thread)) = self.events.take() {
            drop(log);
            let _ = thread.join();
        }
    }

    /// Until a packet, a request or a deadline.
    fn wait(&mut self) -> Ready {
        let changes = self.core.counters.journal_entries;
        let awake = (changes != self.changes && self.sleepless).then(|| Instant::now() + AWAKE);
        self.changes = changes;
        loop {
            let stays = awake.is_some_and(|until| Instant::now() < until);
            let ready = match (self.unasked < UNASKED, stays) {
                (true, _) => self.glance(),
                (false, true) => self.look(PollTimeout::ZERO),
                (false, false) => break,
            };
            if ready.anything() {
                return ready;
            }
            if !stays {
                break;
            }
            std::thread::yield_now();
        }
        let timeout = self.core.poll_timeout().map_or(PollTimeout::NONE, |at| {
            PollTimeout::try_from(at.since(clock::now()).min(60_000)).unwrap_or(PollTimeout::MAX)
        });
        self.look(timeout)
    }

    /// Which rings have packets.
    fn glance(&mut self) -> Ready {
        self.unasked += 1;
        let taps = self.core.gate.outlets.taps();
        let outside = taps.iter().filter(|tap| tap.waits()).map(Arc::clone).collect();
        Ready { pods: self.pods.waits(), outside, ..Ready::default() }
    }

    /// What is ready, at the latest after `timeout`.
    fn look(&mut self, timeout: PollTimeout) -> Ready {
        self.unasked = 0;
        let taps = self.core.gate.outlets.taps();
        let sockets = [self.wake.as_fd(), self.pods.as_fd(), self.core.shared.fd()]
            .into_iter()
            .chain(taps.iter().map(|tap| tap.as_fd()));
        let mut fds: Vec<PollFd<'_>> = sockets.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        if poll(&mut fds, timeout).is_err() {
            return Ready { requests: true, ..Ready::default() };
        }
        // POLLERR too: reading tells and clears it.
        let mut some = fds.iter().map(|fd| fd.any().unwrap_or(true));
        let mut next = || some.next() == Some(true);
        let (requests, pods, sockets) = (next(), next(), next());
        let outside = taps.iter().zip(some).filter(|(_, ready)| *ready).map(|(tap, _)| Arc::clone(tap)).collect();
        Ready { requests, pods, sockets, outside }
    }

    /// The shared mode's connections wait for the next process, and nobody hears of it.
    fn leave_to_the_next(&mut self) {
        let mut out = std::mem::take(&mut self.out);
        self.core.hush(&mut out, clock::now());
        self.send(out);
        for _ in 0..ROUNDS {
            let mut out = std::mem::take(&mut self.out);
            let heard = self.core.hear(&mut out, clock::now());
            self.send(out);
            if !heard {
                break;
            }
        }
        let mut out = std::mem::take(&mut self.out);
        self.core.hand_over(&mut out, clock::now());
        self.send(out);
    }

    /// Answers all requests that wait. What was asked behind a change of the host is answered by what the host is after it: so first a
    /// look at it, one for all changes, since it asks the kernel about every live connection's server.
    fn answer(&mut self) -> Next {
        let _ = self.wake.read();
        let (changed, questions) = sorted(self.requests.try_iter());
        if changed {
            self.refresh();
        }
        for question in questions {
            match question {
                Question::Expect(next, reply) => {
                    let mut out = std::mem::take(&mut self.out);
                    self.core.expect(next, clock::now());
                    self.core.carry_out(&mut out);
                    self.send(out);
                    let _ = reply.send(());
                }
                Question::Configure(config, reply) => {
                    let mut out = std::mem::take(&mut self.out);
                    let now = clock::now();
                    self.core.configure(config, now);
                    self.core.carry_out(&mut out);
                    self.send(out);
                    let _ = reply.send(());
                }
                Question::ShutDown(reply) => {
                    let mut out = std::mem::take(&mut self.out);
                    self.core.shut_down(clock::now());
                    self.core.carry_out(&mut out);
                    self.send(out);
                    let _ = reply.send(());
                }
                Question::EndClients(gone, reply) => {
                    let mut out = std::mem::take(&mut self.out);
                    self.core.end_clients(&gone, clock::now());
                    self.core.carry_out(&mut out);
                    self.send(out);
                    let _ = reply.send(());
                }
                Question::Calls(reply) => drop(reply.send((self.core.calls(), clock::now()))),
                Question::Totals(reply) => drop(reply.send(self.totals())),
                Question::Alive(reply) => drop(reply.send(())),
                Question::Stop => return Next::Stop,
                Question::HandOver => return Next::HandOver,
            }
        }
        Next::Work
    }

    /// After a change of links, addresses or routes: the tap behind the pods' link is on the link that has the name now, and live
    /// connections are heard on the devices that lead to their servers now.
    fn refresh(&mut self) {
        if let Some(index) = self.core.gate.outlets.index_of(&self.tap_link)
            && (index != self.pods.ifindex() || !self.pods.is_bound())
        {
            match Tap::open(index, &filter::pod_side()) {
                Ok(tap) => {
                    self.pods_lost += self.pods.drops();
                    self.pods = Arc::new(tap);
                }
                Err(error) => tracing::error!(interface = self.tap_link, "cannot read packets on it: {error}"),
            }
        }
        self.core.reclaim();
        self.core.beside.refresh();
        let Core { shortcuts, beside, .. } = &mut self.core;
        if let Some(shortcuts) = shortcuts {
            shortcuts.forget(beside.ways());
        }
    }

    /// A few batches from one tap, each sent on before the next is read.
    fn read(&mut self, tap: &Tap, from: Side) {
        for _ in 0..TURN {
            let (core, mut out) = (&mut self.core, std::mem::take(&mut self.out));
            let now = clock::now();
            let read = self.reader.read(tap, &mut out, |packet, out| core.packet(from, packet, out, now));
            let frames = read.unwrap_or_else(|_| {
                core.counters.rx_errors += 1;
                0
            });
            core.counters.rx_batches += u64::from(frames > 0);
            match from {
                Side::Client => core.counters.rx_pods += frames as u64,
                Side::Server => core.counters.rx_outside += frames as u64,
            }
            self.send(out);
            self.reader.release();
            // Less than a batch: nothing waits any more.
            if frames < SEND_BATCH {
                return;
            }
        }
    }

    /// Makes the journal durable, then hands the packets to the kernel.
    fn send(&mut self, mut out: Outgoing) {
        self.core.flush();
        let mut made = Outgoing::new();
        self.hand_over(&out, Some(&mut made));
        // What was made because something did not fit is small, or already cut.
        self.hand_over(&made, None);
        // Whatever follows from what the sockets were given is made durable before it takes effect, too.
        let mut more = Outgoing::new();
        while self.core.act(&mut more, clock::now()) {
            self.core.flush();
            self.hand_over(&more, None);
            more.clear();
        }
        out.clear();
        self.out = out;
    }

    /// Batch by batch; what does not fit goes to the engine, if `made` is there for its answer.
    fn hand_over(&mut self, out: &Outgoing, mut made: Option<&mut Outgoing>) {
        let Self { core, emitter, reader, .. } = self;
        let now = clock::now();
        for batch in out.chunks(SEND_BATCH) {
            let mut packets: [&[u8]; SEND_BATCH] = [&[]; SEND_BATCH];
            for (packet, (place, _)) in packets.iter_mut().zip(batch) {
                *packet = reader.bytes(place);
            }
            let mut neighbours = [None; SEND_BATCH];
            core.neighbours(&packets[..batch.len()], &mut neighbours, now);
            let mut at = 0;
            while at < batch.len() {
                // As many as go the same way.
                let run = neighbours[at..batch.len()].iter().take_while(|to| to.is_some() == neighbours[at].is_some());
                let end = at + run.count();
                let straight: Vec<Neighbour> = neighbours[at..end].iter().copied().flatten().collect();
                let done = if straight.is_empty() { 0 } else { core.sent_straight(&packets[at..end], &straight) };
                if done == 0 {
                    // Whatever was to go straight and cannot is routed by itself: those behind it are tried again.
                    let end = if straight.is_empty() { end } else { at + 1 };
                    at += core.sent(emitter, &packets[at..end], batch[at].1, made.as_deref_mut());
                } else {
                    at += done;
                }
            }
        }
    }

    fn totals(&mut self) -> Totals {
        let core = &mut self.core;
        core.counters.rx_pods_overflow = self.pods_lost + self.pods.drops();
        core.counters.rx_truncated = self.reader.unreadable.truncated;
        core.counters.rx_offload = self.reader.unreadable.offload;
        core.totals()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_of_the_host_that_wait_are_one_and_come_before_all_questions_which_keep_their_order() {
        let calls = || Request::Ask(Question::Calls(tokio::sync::oneshot::channel().0));
        let refresh = || Request::Refresh;
        let waiting = [calls(), refresh(), refresh(), Request::Ask(Question::HandOver), refresh(), calls()];
        let (changed, questions) = sorted(waiting.into_iter());
        assert!(changed);
        assert!(matches!(questions[..], [Question::Calls(_), Question::HandOver, Question::Calls(_)]));
        let (changed, questions) = sorted([calls()].into_iter());
        assert!(!changed && matches!(questions[..], [Question::Calls(_)]));
    }
}
