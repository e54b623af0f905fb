//! One leadership: what must be there first, serving, a compile at each change, and the farewell.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use callgate_compile::LastGood;
use jiff::Timestamp;
use kube::Client;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};

use super::compile::{Compiler, Latest};
use super::{Signals, Task};
use crate::args::Args;
use crate::client::in_time;
use crate::control::{self, Expected, Guard, Hub};
use crate::endpoint::Place;
use crate::facts::Settings;
use crate::http::{Health, Phase};
use crate::metrics::Metrics;
use crate::moment::Moment;
use crate::status::apply::Writer;
use crate::tls::{Keeper, Lifetimes, Names};
use crate::watch::Watched;
use crate::{endpoint, last_good};

/// How long streams may take to end when the operator does.
const FAREWELL: Duration = Duration::from_secs(3);
/// Between two tries of what cannot be done without.
const PAUSE: Duration = Duration::from_secs(2);
/// Between two looks at where the Service leads.
const LOOK: Duration = Duration::from_secs(20);

/// What leading takes.
pub(super) struct Leader {
    pub(super) args: Args,
    pub(super) lifetimes: Lifetimes,
    pub(super) client: Client,
    pub(super) watched: Watched,
    pub(super) health: Health,
    pub(super) metrics: Arc<Metrics>,
    pub(super) hub: Arc<Hub>,
    pub(super) settings: Settings,
}

impl Leader {
    /// Says that it could take over, once everything is read that leading takes.
    pub(super) async fn stand_by(&self) -> Infallible {
        self.read().await;
        self.health.set(Phase::Standby);
        pending().await
    }

    /// Leads until a signal.
    pub(super) async fn lead(self, published: watch::Sender<Latest>, mut signals: Signals) -> Result<()> {
        let Self { args, client, watched, hub, health, .. } = &self;
        let agents = TcpListener::bind(args.listen).await.with_context(|| format!("--listen {}", args.listen))?;
        let (keeper, first) = tokio::select! {
            ready = self.prepare() => ready,
            () = signals.wait() => return Ok(()),
        };
        let tls = keeper.subscribe();
        let read = Arc::new(first.clone().unwrap_or_default());
        let (kept, to_keep) = watch::channel(Arc::clone(&read));
        let _certificates = Task(tokio::spawn(keeper.run()));
        let keeping = Keeping::begin(client.clone(), args.namespace.clone(), read, to_keep);
        let mut changes = watched.changes();
        changes.mark_unchanged();
        let mut compiler = Compiler::new(&self, first, kept, published);
        health.set(Phase::Waiting("compiling for the first time".to_owned()));
        tokio::select! {
            () = compiler.publish() => {}
            () = signals.wait() => return Ok(()),
        }
        let writer = Writer::new(client.clone(), Arc::clone(hub), watched.clone(), Moment::now(), &args.pod_name);
        let writing = Task(tokio::spawn(writer.run(compiler.subscribe())));
        let mut server = self.serve(agents, tls);
        let announcing = Task(tokio::spawn(announce(client.clone(), args.place())));
        health.set(Phase::Serving);
        let result = tokio::select! {
            () = signals.wait() => Ok(()),
            ended = &mut server.task.0 => Err(anyhow::anyhow!("the server of agents has ended: {ended:?}")),
            never = compiler.follow(changes) => match never {},
        };
        // Not again, once it leads nowhere.
        drop(announcing);
        self.farewell(server, writing, keeping).await;
        result
    }

    /// What must be there before anything is served: the authority, and everything read. An agent must not be told that there is nothing
    /// to do. What cannot be had yet is tried again, for as long as it leads.
    async fn prepare(&self) -> (Keeper, Option<LastGood>) {
        let keeper = self.authority().await;
        self.read().await;
        let load = || in_time(last_good::load(&self.client, &self.args.namespace));
        (keeper, self.insist("what ran before cannot be read", load).await)
    }

    async fn authority(&self) -> Keeper {
        let args = &self.args;
        let names = || Names { namespace: args.namespace.clone(), ca: args.ca.clone(), server: args.names() };
        let start = || Keeper::start(self.client.clone(), names(), self.lifetimes, Timestamp::now());
        self.insist("the authority cannot be had", start).await
    }

    /// Tries until it is done; why it is not is told by the log and by `/readyz`.
    async fn insist<T, F: Future<Output = Result<T>>>(&self, what: &str, mut attempt: impl FnMut() -> F) -> T {
        loop {
            match attempt().await {
                Ok(done) => return done,
                Err(error) => {
                    tracing::error!("{what}: {error:#}");
                    self.health.set(Phase::Waiting(format!("{error:#}")));
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Begins to serve agents.
    fn serve(&self, agents: TcpListener, tls: watch::Receiver<Arc<ServerConfig>>) -> Server {
        let Self { args, client, metrics, hub, .. } = self;
        let expected = Expected {
            audience: args.audience.clone(),
            user: format!("system:serviceaccount:{}:{}", args.namespace, args.agent_account),
        };
        let guard = Guard::new(client.clone(), expected);
        let handshakes = Arc::clone(&metrics.handshakes);
        let (stop, stopping) = oneshot::channel::<()>();
        let end = async {
            // Sent or dropped: both mean to stop.
            let _ = stopping.await;
        };
        let task = Task(tokio::spawn(control::serve(agents, tls, handshakes, guard, Arc::clone(hub), end)));
        Server { task, stop }
    }

    /// Leads the Service nowhere, and tells streams that it is over; agents go on with what they have. The next leader is to find what
    /// they have.
    async fn farewell(&self, server: Server, mut writing: Task<()>, keeping: Keeping) {
        let Server { mut task, stop } = server;
        tracing::info!("stopping");
        self.health.set(Phase::Stopping);
        drop(stop);
        let Keeping { task: mut kept, farewell } = keeping;
        // Where it has ended there is nothing to tell.
        let _ = farewell.send(());
        if let Some(place) = self.args.place() {
            let withdrawn = tokio::time::timeout(FAREWELL, endpoint::withdraw(&self.client, &place)).await;
            if !matches!(withdrawn, Ok(Ok(()))) {
                tracing::warn!("the Service leads here until another operator leads: {withdrawn:?}");
            }
        }
        // That agents have gone because of this is nobody's news: the next leader goes on with what is written.
        writing.0.abort();
        if !writing.0.is_finished() {
            let _ = (&mut writing.0).await;
        }
        self.hub.hang_up();
        // Its end may be why this is called.
        if !task.0.is_finished() {
            let _ = tokio::time::timeout(FAREWELL, &mut task.0).await;
        }
        if tokio::time::timeout(FAREWELL, &mut kept.0).await.is_err() {
            tracing::warn!("what runs now could not be kept: the next leader finds what was kept before");
        }
    }

    /// Waits until every kind has been read.
    async fn read(&self) {
        let mut changes = self.watched.changes();
        let mut told = Instant::now();
        loop {
            let missing = self.watched.facts().missing();
            if missing.is_empty() {
                return;
            }
            let why = format!("not read yet: {}", missing.join(", "));
            if told.elapsed() >= Duration::from_secs(10) {
                tracing::warn!("{why}: are the definitions installed, and may this service account list them?");
                told = Instant::now();
            }
            self.health.set(Phase::Waiting(why));
            let _ = tokio::time::timeout(PAUSE, changes.changed()).await;
        }
    }
}

/// Keeps what runs for the next leader.
struct Keeping {
    /// Dropped before the other: where the Lease was lost nothing is written any more.
    task: Task<()>,
    /// What is left is written when this is told.
    farewell: oneshot::Sender<()>,
}

impl Keeping {
    fn begin(client: Client, namespace: String, read: Arc<LastGood>, latest: watch::Receiver<Arc<LastGood>>) -> Self {
        let (farewell, told) = oneshot::channel();
        Self { task: Task(tokio::spawn(last_good::keep(client, namespace, read, latest, told))), farewell }
    }
}

/// The server of agents.
struct Server {
    task: Task<Result<(), tonic::transport::Error>>,
    /// It stops when this is dropped.
    stop: oneshot::Sender<()>,
}

/// Leads the Service here, and looks again and again: so whoever deletes the EndpointSlice or writes into it does no lasting harm.
async fn announce(client: Client, place: Option<Place>) {
    let Some(place) = place else { return };
    loop {
        let pause = match in_time(endpoint::announce(&client, &place)).await {
            Ok(()) => LOOK,
            Err(error) => {
                tracing::warn!("leading Service {}/{} here: {error:#}", place.namespace, place.service);
                PAUSE
            }
        };
        tokio::time::sleep(pause).await;
    }
}

#[cfg(test)]
mod tests;
