//! The lives of an operator: watch, wait for the Lease, lead until a signal; and again from the beginning when the Lease is lost.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use callgate_compile::world::World;
use callgate_compile::{LastGood, Since};
use jiff::Timestamp;
use kube::Client;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::args::Args;
use crate::client::in_time;
use crate::control::{self, Expected, Guard, Hub};
use crate::endpoint::Place;
use crate::facts::{self, Settings, cluster_nets};
use crate::http::{self, Health, Phase};
use crate::lease::Holder;
use crate::metrics::Metrics;
use crate::moment::Moment;
use crate::publish::{Published, SharedWorld};
use crate::status::apply::Writer;
use crate::tls::{Keeper, Lifetimes, Names};
use crate::watch::Watched;
use crate::{client, endpoint, last_good, local};

/// The latest compile.
type Latest = Option<Arc<Published>>;

/// Changes come in crowds: what comes within this time of the first is compiled with it.
const CROWD: Duration = Duration::from_millis(5);
/// While compiling takes longer than that, it may have this share of the time.
const COMPILE_SHARE: u32 = 2;
/// How long streams may take to end when the operator does.
const FAREWELL: Duration = Duration::from_secs(3);
/// Between two tries to read what ran before.
const PAUSE: Duration = Duration::from_secs(2);

/// How long what is dropped with a lost Lease may take to end: less than a candidate waits between two tries.
const DROP: Duration = Duration::from_secs(1);

/// Why a life has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// By a signal.
    Told,
    /// Another may lead already.
    LeaseLost,
}

/// Runs until SIGTERM or SIGINT. A leader that has lost the Lease begins anew, as a candidate that knows nothing.
///
/// # Errors
/// When it cannot start.
pub fn run(args: Args) -> Result<()> {
    // kube and rustls would each pick one; it is to be the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let lifetimes = args.lifetimes().map_err(anyhow::Error::msg)?;
    loop {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let end = runtime.block_on(live(args.clone(), lifetimes))?;
        match end {
            End::Told => return Ok(()),
            // All that was under way is dropped where it stands: nothing may be written any more, not even a farewell. Not by
            // ending the process: the kubelet would start the next one later each time, and nobody is to blame here.
            End::LeaseLost => {
                tracing::error!("the Lease was lost: beginning anew");
                runtime.shutdown_timeout(DROP);
            }
        }
    }
}

async fn live(args: Args, lifetimes: Lifetimes) -> Result<End> {
    let mut signals = Signals::new()?;
    let (health, metrics) = (Health::default(), Arc::new(Metrics::default()));
    let probes = TcpListener::bind(args.http).await.with_context(|| format!("--http {}", args.http))?;
    let people = TcpListener::bind(args.local).await.with_context(|| format!("--local {}", args.local))?;
    let hub = Arc::new(Hub::new(Arc::clone(&metrics)));
    tokio::spawn(http::serve(probes, health.clone(), Arc::clone(&hub)));
    let client = client::connect().await?;
    let watched = Watched::start(&client);
    let mut holder = Holder::new(client.clone(), &args.namespace, &args.lease, &args.pod_name);
    let (published, latest) = watch::channel(None);
    let settings = Settings { namespace: args.namespace.clone(), cluster_cidrs: args.cluster_cidrs.clone() };
    let desk = local::Desk {
        hub: Arc::clone(&hub),
        published: latest,
        settings: settings.clone(),
        watched: watched.clone(),
        leader: holder.leader(),
    };
    let _people = Task(tokio::spawn(local::serve(people, desk)));
    let leader = Leader {
        args: &args,
        lifetimes,
        client,
        watched,
        health: health.clone(),
        metrics: Arc::clone(&metrics),
        hub,
        settings,
    };
    tokio::select! {
        () = holder.acquire() => {}
        never = leader.stand_by() => match never {},
        () = signals.wait() => return Ok(End::Told),
    }
    tracing::info!("leading");
    metrics.leader.set(1);
    let result = tokio::select! {
        result = leader.lead(published, &mut signals) => result,
        () = holder.keep() => return Ok(End::LeaseLost),
    };
    holder.release().await;
    result.map(|()| End::Told)
}

/// What leading takes.
struct Leader<'a> {
    args: &'a Args,
    lifetimes: Lifetimes,
    client: Client,
    watched: Watched,
    health: Health,
    metrics: Arc<Metrics>,
    hub: Arc<Hub>,
    settings: Settings,
}

impl Leader<'_> {
    /// Says that it could take over, once everything is read that leading takes.
    async fn stand_by(&self) -> Infallible {
        self.read().await;
        self.health.set(Phase::Standby);
        pending().await
    }

    /// Leads until a signal.
    async fn lead(&self, published: watch::Sender<Latest>, signals: &mut Signals) -> Result<()> {
        let Self { args, lifetimes, client, watched, health, metrics, hub, settings } = self;
        let agents = TcpListener::bind(args.listen).await.with_context(|| format!("--listen {}", args.listen))?;
        let names = Names { namespace: args.namespace.clone(), ca: args.ca.clone(), server: args.names() };
        let keeper = Keeper::start(client.clone(), names, *lifetimes, Timestamp::now()).await?;
        let tls = keeper.subscribe();
        let keeping = Task(tokio::spawn(keeper.run()));
        // Nothing is served before everything was read: an agent must not be told that there is nothing to do.
        let first = tokio::select! {
            first = self.first() => first,
            () = signals.wait() => return Ok(()),
        };
        let (kept, to_keep) = watch::channel(Arc::new(first.clone().unwrap_or_default()));
        let _keeping = [keeping, Task(tokio::spawn(last_good::keep(client.clone(), args.namespace.clone(), to_keep)))];
        let compiler = callgate_compile::Compiler::new(first);
        let world = SharedWorld::new(World::cluster());
        let mut compiler = Compiler { hub, watched, settings, compiler, world, nets: Vec::new() };
        let mut changes = watched.changes();
        changes.mark_unchanged();
        let now = tokio::task::block_in_place(|| compiler.compile(metrics));
        kept.send_replace(Arc::new(now.compiled.last_good.clone()));
        published.send_replace(Some(Arc::new(now)));
        let writer = Writer::new(client.clone(), Arc::clone(hub), watched.clone(), Moment::now(), &args.pod_name);
        let _writing = Task(tokio::spawn(writer.run(published.subscribe())));
        let expected = Expected {
            audience: args.audience.clone(),
            user: format!("system:serviceaccount:{}:{}", args.namespace, args.agent_account),
        };
        let guard = Guard::new(client.clone(), expected);
        let (stop, stopping) = tokio::sync::oneshot::channel::<()>();
        let handshakes = Arc::clone(&metrics.handshakes);
        let end = async {
            // Sent or dropped: both mean to stop.
            let _ = stopping.await;
        };
        let mut server = Task(tokio::spawn(control::serve(agents, tls, handshakes, guard, Arc::clone(hub), end)));
        let _announcing = Task(tokio::spawn(announce(client.clone(), args.place())));
        health.set(Phase::Serving);
        let result = loop {
            tokio::select! {
                () = signals.wait() => break Ok(()),
                ended = &mut server.0 => break Err(anyhow::anyhow!("the server of agents has ended: {ended:?}")),
                _ = changes.changed() => {}
            }
            tokio::time::sleep(CROWD).await;
            changes.mark_unchanged();
            let began = Instant::now();
            let now = tokio::task::block_in_place(|| compiler.compile(metrics));
            if *kept.borrow().as_ref() != now.compiled.last_good {
                kept.send_replace(Arc::new(now.compiled.last_good.clone()));
            }
            published.send_replace(Some(Arc::new(now)));
            tokio::time::sleep((began.elapsed() * COMPILE_SHARE).saturating_sub(CROWD)).await;
        };
        tracing::info!("stopping");
        health.set(Phase::Stopping);
        drop(stop);
        if let Some(place) = args.place() {
            let withdrawn = tokio::time::timeout(FAREWELL, endpoint::withdraw(client, &place)).await;
            if !matches!(withdrawn, Ok(Ok(()))) {
                tracing::warn!("the Service leads here until another operator leads: {withdrawn:?}");
            }
        }
        // Streams are told that it is over; agents go on with what they have.
        hub.hang_up();
        let _ = tokio::time::timeout(FAREWELL, &mut server.0).await;
        result
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

    /// Waits until every kind has been read, and reads what ran before.
    async fn first(&self) -> Option<LastGood> {
        self.read().await;
        loop {
            match in_time(last_good::load(&self.client, &self.args.namespace)).await {
                Ok(last_good) => return last_good,
                Err(error) => {
                    tracing::error!("what ran before cannot be read: {error:#}");
                    self.health.set(Phase::Waiting(format!("{error:#}")));
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

/// Leads the Service here, again and again until it is done.
async fn announce(client: Client, place: Option<Place>) {
    let Some(place) = place else { return };
    while let Err(error) = in_time(endpoint::announce(&client, &place)).await {
        tracing::warn!("leading Service {}/{} here: {error}", place.namespace, place.service);
        tokio::time::sleep(PAUSE).await;
    }
}

/// Compiles and publishes.
struct Compiler<'a> {
    hub: &'a Hub,
    watched: &'a Watched,
    settings: &'a Settings,
    compiler: callgate_compile::Compiler,
    world: SharedWorld,
    nets: Vec<facts::ClusterNet>,
}

impl Compiler<'_> {
    fn compile(&mut self, metrics: &Metrics) -> Published {
        let began = Instant::now();
        let (since, nets, uids) = {
            let mut facts = self.watched.facts();
            let since = facts::update(&mut self.world.write(), &mut facts, self.settings);
            // They are not made of pods.
            let nets = (since == Since::Everything).then(|| cluster_nets(&facts, &self.settings.cluster_cidrs));
            (since, nets, facts.uids())
        };
        let world = self.world.read();
        if let Some(nets) = nets.filter(|nets| *nets != self.nets) {
            let named = |nets: &[facts::ClusterNet], others: &[facts::ClusterNet]| {
                let only = nets.iter().filter(|net| others.binary_search(net).is_err());
                let told: Vec<String> = only.map(|net| format!("{} ({})", net.net, net.found)).collect();
                if told.is_empty() { "none".to_owned() } else { told.join(", ") }
            };
            let (new, gone) = (named(&nets, &self.nets), named(&self.nets, &nets));
            tracing::info!(known = nets.len(), new, gone, "networks of the cluster, which are never looked at");
            self.nets = nets;
        }
        let compiled = self.compiler.compile_since(&world, &since);
        let changed = self.hub.board.publish(&world, &compiled.nodes, &since);
        self.hub.change(|fleet| fleet.retain(|node| world.nodes.contains(node)));
        let took = began.elapsed();
        metrics.compile.observe(took.as_secs_f64());
        tracing::debug!(?took, pods = world.pods.len(), nodes = changed.len(), "compiled");
        drop(world);
        Published { world: self.world.clone(), compiled: Arc::new(compiled), uids: Arc::new(uids) }
    }
}

/// A task that ends with whoever holds it.
struct Task<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// SIGTERM and SIGINT.
struct Signals {
    term: Signal,
    int: Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        Ok(Self { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())? })
    }

    /// Waits for either. Cancel-safe.
    async fn wait(&mut self) {
        tokio::select! {
            told = self.term.recv() => if told.is_none() { pending().await },
            told = self.int.recv() => if told.is_none() { pending().await },
        }
    }
}
