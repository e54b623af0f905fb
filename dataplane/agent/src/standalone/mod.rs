//! One host without a cluster: manifests from a directory, compiled and carried out, until a signal ends it.
//!
//! ```text
//!  DIR ── watch ─► manifests (what was good stays) ─► compile ─► programme: ALG, kernel ─► ready file
//!                                                        └── statuses ─► report ◄── api
//! ```

mod alone;
mod manifests;
mod programme;
mod report;
mod watch;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use callgate_pptp::{Change, Engine, Limits};
use futures::FutureExt as _;
use rand::TryRngCore;
use tokio::signal::unix::{Signal, SignalKind, signal};

pub use report::{Holders, Programmed, Report};

use crate::alg::node::{Host, Shared};
use crate::alg::{self, Setup};
use crate::args::Standalone;
use crate::kernel::{Kernel, Options, Record};
use crate::netlink::{Changes, Tables};
use crate::state::{Journal, StateDir, write_whole};
use crate::{api, clock};
use programme::Programme;

/// Between a change of nftables and the look whether our table is still as it was: whoever changes it may not be done yet, and
/// a CNI or kube-proxy that changes its own all the time must not keep us busy.
const TABLE_PAUSE: Duration = Duration::from_millis(200);

/// Kernel part, shared with the thread of the ALG and the local API; `None` once it is being stopped.
pub(crate) type SharedKernel = Arc<Mutex<Option<Shared>>>;

/// Between two looks at what nobody tells of: files on network file systems, a kernel that refused and may not any more.
const LOOK: Duration = Duration::from_secs(5);

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// When it cannot start; the host is then as it was found. When it cannot go on: what carries tunnels is then left in place for
/// the next start, which goes on with them.
pub fn run(args: &Standalone) -> Result<()> {
    if let Some(file) = &args.ready_file {
        // One of an earlier run would lie.
        let _ = std::fs::remove_file(file);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(serve(args))
}

async fn serve(args: &Standalone) -> Result<()> {
    let options = Options::from(&args.numbers);
    // Before anything is written anywhere.
    if !nix::unistd::geteuid().is_root() {
        return Err(crate::kernel::Error::Privilege(format!("running as user {}", nix::unistd::geteuid())).into());
    }
    let state = Arc::new(StateDir::open(&args.state_dir, &clock::boot_id().context("reading the boot id")?)?);
    if state.discarded() {
        tracing::info!("state of another boot was discarded");
    }
    let _alone = alone::alone(&options)?;
    let mut signals = Signals::new()?;
    // What can be wrong with flags is found out before the kernel is touched.
    let files = watch::watch(&args.manifests)?;
    let socket = api::bind(&args.api).await?;

    let record: Option<Record> = state.load("kernel.json").unwrap_or_else(|error| {
        tracing::warn!("kernel.json in the state directory cannot be read ({error}); starting without it");
        None
    });
    let mut worth_keeping = record.is_some();
    let kept = state.kernel_record();
    let keep = Box::new(move |record: &Record| write_whole(&kept, &serde_json::to_vec(record)?));
    let kernel = Kernel::start(options.clone(), record, keep)?;
    let shared: SharedKernel = Arc::new(Mutex::new(Some(Shared { kernel, own: Vec::new() })));
    let node = Node { args, options: &options, state: &state, shared: &shared };
    let result = node.carry_out(files, socket, &mut signals, &mut worth_keeping).await;
    if let Some(file) = &args.ready_file {
        let _ = std::fs::remove_file(file);
    }
    let _ = std::fs::remove_file(&args.api);
    if args.keep || (result.is_err() && worth_keeping) {
        tracing::info!("left in place for the next start: rules, links and state");
        return result;
    }
    let taken = shared.lock().ok().and_then(|mut shared| shared.take());
    let stopped = taken.map_or(Ok(()), |shared| shared.kernel.stop());
    if stopped.is_ok() {
        state.forget_kernel().context("removing state")?;
        tracing::info!("the host is as it was found");
    }
    result.and(stopped.context("putting the host back as it was"))
}

/// What everything between start and end works with.
struct Node<'a> {
    args: &'a Standalone,
    options: &'a Options,
    state: &'a Arc<StateDir>,
    shared: &'a SharedKernel,
}

impl Node<'_> {
    /// Runs until a signal. `worth_keeping` becomes true as soon as tunnels may depend on what is in the kernel.
    async fn carry_out(
        &self,
        mut files: watch::Watch,
        socket: tokio::net::UnixListener,
        signals: &mut Signals,
        worth_keeping: &mut bool,
    ) -> Result<()> {
        let Self { args, options, state, shared } = *self;
        let report = Arc::new(Report::new(options.clone(), args.external_address));
        let mut programme = Programme::new(args, Arc::clone(state), Arc::clone(shared), Arc::clone(&report));
        let setup = self.take_over()?;
        // The first configuration is in the kernel before the ALG reads its first packet.
        programme.reload().await;
        let mut running = alg::start(setup).context("starting the ALG")?;
        *worth_keeping = true;
        let handle = running.handle.clone();
        programme.attach(handle.clone()).await;
        let server = api::serve(socket, Arc::clone(&report), handle.clone(), Arc::clone(shared));
        let mut changes = Changes::open()?;
        let mut tables = Tables::open()?;
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // When to look earlier; one change of nftables causes many notifications.
        let mut early = None;
        loop {
            tokio::select! {
                () = signals.wait() => break,
                _ = &mut running.ended => bail!("the ALG's thread has ended unasked: its last words are in the log above"),
                Some(()) = files.recv() => {
                    files.settle().await;
                    programme.reload().await;
                }
                _ = look.tick() => programme.tick().await,
                told = tables.next(), if early.is_none() => match told {
                    Ok(()) => early = Some(tokio::time::Instant::now() + TABLE_PAUSE),
                    Err(error) => {
                        tracing::warn!("changes of nftables were not heard of: {error}");
                        tables = Tables::open()?;
                    }
                },
                () = tokio::time::sleep_until(early.unwrap_or_else(tokio::time::Instant::now)), if early.is_some() => {
                    while tables.next().now_or_never().is_some() {}
                    early = None;
                    programme.look().await;
                }
                change = changes.next() => {
                    if let Err(error) = change {
                        tracing::warn!("changes of links and routes were not heard of: {error}");
                        changes = Changes::open()?;
                    }
                    // They come in crowds: one look at routes for all of them.
                    let _ = tokio::time::timeout(Duration::from_millis(100), drain(&mut changes)).await;
                    handle.refresh();
                }
            }
        }
        tracing::info!("stopping");
        signals.exit_at_the_next();
        server.abort();
        let _ = tokio::task::spawn_blocking(move || running.stop()).await;
        Ok(())
    }

    /// The ALG as the journal has it.
    fn take_over(&self) -> Result<Setup> {
        let Self { args, options, state, shared } = self;
        let (journal, changes, damages) = Journal::open::<Change>(state.path()).context("reading the journal")?;
        for damage in damages {
            tracing::error!(file = damage.file, line = damage.line, "the journal is damaged: {}", damage.problem);
        }
        let limits = Limits {
            port_ranges: options.external_ports.0.iter().map(|range| (range.first, range.last)).collect(),
            half_open_per_client: args.half_open_per_client,
            half_open_per_server: args.half_open_per_server,
            ..Limits::default()
        };
        let seed = rand::rngs::OsRng.try_next_u64().context("asking the kernel for randomness")?;
        let engine = Engine::restore(limits, seed, changes, clock::now());
        tracing::info!(
            connections = engine.connection_count(),
            calls = engine.call_count(),
            "taken over from the journal"
        );
        Ok(Setup {
            engine,
            journal,
            node: Box::new(Host::new(Arc::clone(shared), options.sent.value, args.external_address)?),
            tap_link: options.tap_link.clone(),
            mark: options.sent.value,
            interfaces: args.interfaces.clone(),
            external_ports: options.external_ports.0.clone(),
        })
    }
}

/// Reads changes until there is an error.
async fn drain(changes: &mut Changes) {
    while changes.next().await.is_ok() {}
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
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }

    /// From now on a signal does not wait for anything.
    fn exit_at_the_next(&self) {
        tokio::spawn(async {
            if let Ok(mut again) = Self::new() {
                again.wait().await;
                eprintln!(
                    "callgate-dataplane: second signal: ended at once; the next start finds and adopts what is left"
                );
                std::process::exit(1);
            }
        });
    }
}
