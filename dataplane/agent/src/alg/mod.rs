//! The PPTP ALG at work: one thread that owns the engine and its sockets, and the handle others talk to it by.
//!
//! ```text
//!  run, api ── Handle ── Request ─► worker (thread): taps ─► core ─► emitter
//!                                       gate (rules) ── engine ┤ └► journal
//!                                       outlets (routes, taps) ┤    notes (thread) ─► log
//!                                       beside ─► fast (eBPF)  ┘
//! ```

mod beside;
mod core;
pub mod counters;
pub(crate) mod gate;
pub mod node;
mod notes;
mod outlets;
pub mod policy;
mod restraint;
#[cfg(test)]
pub(crate) mod scripted;
pub(crate) mod seldom;
mod shortcut;
mod worker;

use std::collections::BTreeSet;
use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use callgate_pptp::shared::{Learned, TunnelView};
use callgate_pptp::{CallView, CallsByObject, Engine, Now};
use callgate_proto::model::{NodeConfig, PortRange};
use nix::sys::eventfd::{EfdFlags, EventFd};
use tokio::sync::oneshot;

pub use outlets::{Node, Way};

use crate::fast;
use crate::state::Journal;

/// What the worker needs to begin.
pub struct Setup {
    /// The engine, as the journal left it.
    pub engine: Engine,
    /// Where its changes are written.
    pub journal: Journal,
    /// Routes, devices and address sets of this host.
    pub node: Box<dyn Node>,
    /// Name of the link steered packets come in by.
    pub tap_link: String,
    /// Packet mark of what is sent.
    pub mark: u32,
    /// Packet mark of what is for the kernel's sockets of the shared mode.
    pub inward_mark: u32,
    /// Randomness of the shared mode.
    pub seed: u64,
    /// What the shared mode keeps across restarts is in this directory.
    pub state: PathBuf,
    /// `--interface`: read these external devices and no others.
    pub interfaces: Vec<String>,
    /// External ports of control connections.
    pub external_ports: Vec<PortRange>,
    /// GRE of live calls beside us.
    pub fast: fast::Setup,
}

/// Totals of the worker and its engine.
#[derive(Debug, Clone, Default)]
pub struct Totals {
    /// Live control connections.
    pub connections: usize,
    /// Live calls.
    pub calls: usize,
    /// Every counter as (name, value), sorted by name.
    pub counters: Vec<(String, u64)>,
    /// Live calls by rule, service and ALG.
    pub by: CallsByObject,
    /// Connections to servers in the shared mode, each with its external port.
    pub tunnels: Vec<(TunnelView, u16)>,
    /// What Auto has learned about servers.
    pub learned: Vec<Learned>,
    /// When this was so.
    pub at: Now,
}

/// What the worker is sent.
pub(crate) enum Request {
    /// Links, addresses or routes have changed.
    Refresh,
    /// The rest, in order.
    Ask(Question),
}

/// What the worker can be asked.
pub(crate) enum Question {
    /// The kernel is about to be given these rules, or is not any more.
    Expect(Option<Arc<NodeConfig>>, oneshot::Sender<()>),
    /// Rules are these from now on.
    Configure(Arc<NodeConfig>, oneshot::Sender<()>),
    /// Nothing begins any more, and everything ends.
    ShutDown(oneshot::Sender<()>),
    /// These clients are gone: what they had ends.
    EndClients(BTreeSet<Ipv4Addr>, oneshot::Sender<()>),
    /// All calls, and the time they were listed at.
    Calls(oneshot::Sender<(Vec<CallView>, callgate_pptp::Now)>),
    /// Counters.
    Totals(oneshot::Sender<Totals>),
    /// Whether it works at all.
    Alive(oneshot::Sender<()>),
    /// End.
    Stop,
    /// End, and leave to the next process what would end with the sockets.
    HandOver,
}

/// The way to the worker. Clones talk to the same one.
#[derive(Clone)]
pub struct Handle {
    requests: Sender<Request>,
    wake: Arc<EventFd>,
}

/// The worker thread, as its owner sees it.
pub struct Running {
    /// The way to it.
    pub handle: Handle,
    /// Completes when the thread ends, for whatever reason.
    pub ended: oneshot::Receiver<()>,
    thread: JoinHandle<()>,
}

impl Running {
    /// Ends the worker after what it is doing, and waits until its journal and events are written.
    pub fn stop(self) {
        self.handle.ask(Question::Stop);
        let _ = self.thread.join();
    }

    /// The same, but nothing ends by it: the next process on this host goes on, also with connections that end in sockets of ours.
    pub fn hand_over(self) {
        self.handle.ask(Question::HandOver);
        let _ = self.thread.join();
    }
}

/// Starts the worker thread.
///
/// # Errors
/// When a socket cannot be opened or the thread not be made.
pub fn start(setup: Setup) -> io::Result<Running> {
    let (requests, received) = channel();
    let wake = Arc::new(EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?);
    let (ready, started) = channel();
    let waker = Arc::clone(&wake);
    let (alive, ended) = oneshot::channel();
    // Made in its own thread: the batches of the sockets point into themselves and stay where they are made.
    let thread = std::thread::Builder::new().name("alg".into()).spawn(move || {
        // Dropped at the end, a panic's too.
        let _alive: oneshot::Sender<()> = alive;
        match worker::Worker::new(setup, received, waker) {
            Ok(worker) => {
                let _ = ready.send(Ok(()));
                worker.run();
            }
            Err(error) => drop(ready.send(Err(error))),
        }
    })?;
    started.recv().unwrap_or_else(|_| Err(io::Error::other("the ALG's thread panicked at its start")))?;
    Ok(Running { handle: Handle { requests, wake }, ended, thread })
}

impl Handle {
    /// New connections are judged by these rules too from now on, which the kernel is about to be given; `None`: it has refused them.
    /// Nothing ends by it. Returns when that is done; false when the worker has ended.
    pub async fn expect(&self, next: Option<Arc<NodeConfig>>) -> bool {
        self.answer(|sender| Question::Expect(next, sender)).await.is_some()
    }

    /// Puts rules into force that the kernel has: new connections are judged by them, live ones get their new limits or end with their rule.
    /// Returns when that is done; false when the worker has ended.
    pub async fn configure(&self, config: Arc<NodeConfig>) -> bool {
        self.answer(|sender| Question::Configure(config, sender)).await.is_some()
    }

    /// Begins to end everything, as the gateway is being stopped: both ends are told, and have a moment to close. False when the
    /// worker has ended.
    pub async fn shut_down(&self) -> bool {
        self.answer(Question::ShutDown).await.is_some()
    }

    /// Ends connections and calls of clients that are gone. Returns when that is done; false when the worker has ended.
    pub async fn end_clients(&self, gone: BTreeSet<Ipv4Addr>) -> bool {
        if gone.is_empty() {
            return true;
        }
        self.answer(|sender| Question::EndClients(gone, sender)).await.is_some()
    }

    /// The same without waiting for it.
    pub fn let_go(&self, gone: BTreeSet<Ipv4Addr>) {
        let (sender, _) = oneshot::channel();
        self.ask(Question::EndClients(gone, sender));
    }

    /// All live calls and when they were listed; `None` when the worker has ended.
    pub async fn calls(&self) -> Option<(Vec<CallView>, callgate_pptp::Now)> {
        self.answer(Question::Calls).await
    }

    /// Counters; `None` when the worker has ended.
    pub async fn totals(&self) -> Option<Totals> {
        self.answer(Question::Totals).await
    }

    /// Tells the worker that links, addresses or routes have changed.
    pub fn refresh(&self) {
        self.send(Request::Refresh);
    }

    /// Returns once the worker has had a turn; false when it has ended.
    pub async fn alive(&self) -> bool {
        self.answer(Question::Alive).await.is_some()
    }

    /// One whose worker hangs: what it is sent waits.
    #[cfg(test)]
    pub(crate) fn unheard(requests: Sender<Request>) -> Self {
        Self { requests, wake: Arc::new(EventFd::new().unwrap()) }
    }

    /// What the worker says to it; `None` when it has ended.
    async fn answer<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Question) -> Option<T> {
        let (sender, reply) = oneshot::channel();
        self.ask(question(sender));
        reply.await.ok()
    }

    fn ask(&self, question: Question) {
        self.send(Request::Ask(question));
    }

    fn send(&self, request: Request) {
        // A worker that has ended drops the reply channel, which is how callers learn of it.
        if self.requests.send(request).is_ok() {
            let _ = self.wake.write(1);
        }
    }
}
