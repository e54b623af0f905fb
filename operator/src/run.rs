//! The lives of an operator: watch, wait for the Lease, lead until a signal; and again from the beginning when the Lease is lost.
//!
//! ```text
//!  run ─► live: watch ─► Lease ─► lead: authority, what ran before ─► serve, announce ─► compile at each change ─► farewell
//!    ▲                     │ lost, at any time                                      (compile, in a thread)    (a signal)
//!    └─────────────────────┘
//! ```

mod compile;
mod lead;

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::args::Args;
use crate::control::Hub;
use crate::facts::Settings;
use crate::http::{self, Health};
use crate::lease::Holder;
use crate::metrics::Metrics;
use crate::tls::Lifetimes;
use crate::watch::Watched;
use crate::{client, local};
use lead::Leader;

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
    descriptors();
    let lifetimes = args.lifetimes().map_err(anyhow::Error::msg)?;
    loop {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let end = runtime.block_on(live(args.clone(), lifetimes));
        if matches!(end, Ok(End::LeaseLost)) {
            tracing::error!("the Lease was lost: beginning anew");
        }
        // All that was under way is dropped where it stands: where the Lease was lost nothing may be written any more, not even a
        // farewell. Not by ending the process: the kubelet would start the next one later each time, and nobody is to blame here.
        // A compile cannot be dropped, so it goes on; nobody waits for it, and nobody gets what it comes to.
        runtime.shutdown_timeout(DROP);
        if end? == End::Told {
            return Ok(());
        }
    }
}

/// Every connection is a descriptor: as many as the process may have.
fn descriptors() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| match soft < hard {
        true => setrlimit(Resource::RLIMIT_NOFILE, hard, hard),
        false => Ok(()),
    });
    if let Err(error) = raised {
        tracing::warn!("raising the limit of open files: {error}");
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
        args,
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
    reign(&mut holder, leader.lead(published, signals)).await
}

/// Leads for as long as the Lease is kept, and gives it up afterwards. Leading is a task of its own: whatever it is at, the Lease is
/// renewed, and once that is lost nothing is waited for.
async fn reign(holder: &mut Holder, lead: impl Future<Output = Result<()>> + Send + 'static) -> Result<End> {
    let mut leading = Task(tokio::spawn(lead));
    let ended = tokio::select! {
        ended = &mut leading.0 => ended,
        () = holder.keep() => return Ok(End::LeaseLost),
    };
    let result = ended.context("leading")?;
    holder.release().await;
    result.map(|()| End::Told)
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
