//! One node's work, wherever its configurations come from: start, what happens meanwhile, end.
//!
//! ```text
//!  Source (directory | operator) ─► programme: ALG, kernel ─► report ◄── api, health
//!       ▲          outcome ────────────┘   ▲                    └─► ready file
//!       └─ attached (Answers)              ├── changes of links, routes, nftables; a look every 5 s
//!                                          └── guests ◄── doorkeeper (a thread): pods whose links have gone
//! ```

mod alone;
mod astray;
mod doorkeeper;
mod ends;
mod external;
mod farewell;
mod guests;
mod health;
mod heart;
mod programme;
mod ready;
mod report;
mod signals;
mod source;
mod spared;
mod takeover;
mod tenants;
mod unheard;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Error, Result, bail};
use futures::FutureExt as _;

pub use report::{Holders, Programmed, Report};

pub(crate) use alone::alone;
pub(crate) use farewell::farewell;
pub(crate) use source::{Refused, Source, Wanted};
pub(crate) use takeover::{Ways, take_over};
pub(crate) use tenants::Tenant;

use crate::alg::node::Shared;
use crate::args::Common;
use crate::fast::Home;
use crate::kernel::{Kernel, Options, Record};
use crate::netlink::{Changes, Doors, Tables};
use crate::shared::Place;
use crate::state::{StateDir, write_whole};
use crate::{alg, api, clock, fast, kernel};
use astray::Astray;
use doorkeeper::Doorkeeper;
use external::External;
use guests::Guests;
use heart::{Heart, Pulse};
use programme::Programme;
use ready::Ready;
use signals::Signals;
use unheard::Unheard;

/// Between a change of nftables and the look whether our table is still as it was: whoever changes it may not be done yet, and
/// a CNI or kube-proxy that changes its own all the time must not keep us busy.
const TABLE_PAUSE: Duration = Duration::from_millis(200);

/// Between a change of links or routes and the look at them: one look for a whole crowd.
const CROWD_PAUSE: Duration = Duration::from_millis(100);

/// Kernel part, shared with the thread of the ALG and the local API; `None` once it is being stopped.
pub(crate) type SharedKernel = Arc<Mutex<Option<Shared>>>;

/// Between two looks at what nobody tells of: files on network file systems, a kernel that refused and may not any more.
const LOOK: Duration = Duration::from_secs(5);

/// Between two looks whether answers of servers come by links that nobody reads: all live calls are added up for it.
const UNHEARD: Duration = Duration::from_secs(60);

/// Runs until SIGTERM or SIGINT. `open` gives the source of configurations once the state directory is ours and before the
/// kernel is touched: what can be wrong with its flags is found out there. `keep`: at the end everything is left in place for the
/// next start.
///
/// # Errors
/// When it cannot start; the host is then as it was found. When it cannot go on: what carries tunnels is then left in place for
/// the next start, which goes on with them.
pub(crate) fn run<S: Source>(args: &Common, keep: bool, open: impl FnOnce(&Arc<StateDir>) -> Result<S>) -> Result<()> {
    let ready = Ready::not_yet(args.ready_file.as_deref());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(serve(args, keep, ready, open))
}

async fn serve<S: Source>(
    args: &Common,
    keep: bool,
    ready: Ready,
    open: impl FnOnce(&Arc<StateDir>) -> Result<S>,
) -> Result<()> {
    let options = Options::from(&args.numbers);
    // Before anything is written anywhere.
    kernel::permitted()?;
    let state = Arc::new(StateDir::open(&args.state_dir, &clock::boot_id().context("reading the boot id")?)?);
    if state.discarded() {
        tracing::info!("state of another boot was discarded");
    }
    let _alone = alone()?;
    let mut signals = Signals::new()?;
    // What can be wrong with flags is found out before the kernel is touched.
    let source = open(&state)?;
    let health = match args.health_address {
        Some(address) => {
            Some(tokio::net::TcpListener::bind(address).await.context(format!("--health-address {address}"))?)
        }
        None => None,
    };
    let socket = api::bind(&args.api).await?;
    let record: Option<Record> = state.load("kernel.json").unwrap_or_else(|error| {
        tracing::warn!("kernel.json in the state directory cannot be read ({error}); starting without it");
        None
    });
    let mut worth_keeping = record.is_some();
    let before = Home::of(&state).or_else(|| {
        let options = record.as_ref()?.options.as_ref()?;
        Some(Home::here(&args.bpf_dir, &options.nft_table))
    });
    Home::move_in(&Home::here(&args.bpf_dir, &options.nft_table), before, &state)
        .map_err(Error::msg)
        .context("removing the fast path of the run before")?;
    let kept = state.kernel_record();
    let save = Box::new(move |record: &Record| write_whole(&kept, &serde_json::to_vec(record)?));
    let mut kernel = match Kernel::start(options.clone(), record, save) {
        Ok(kernel) => kernel,
        Err(error) => {
            let _ = std::fs::remove_file(&args.api);
            return Err(error.into());
        }
    };
    if Place::new(state.path()).is_there() {
        kernel.keep_sockets();
    }
    let features = kernel.features(&args.without.iter().copied().collect());
    for feature in features.iter().filter(|feature| !feature.available) {
        tracing::warn!(feature = feature.name, "this kernel lacks it: {}", feature.detail);
    }
    let report = Arc::new(Report::new(options.clone(), args.external_address, features));
    let shared: SharedKernel = Arc::new(Mutex::new(Some(Shared { kernel, own: Vec::new() })));
    // First who hears of changes, then a look at how things are: nothing goes unseen between the two.
    let (guests, doors) = (Guests::open(&state), Doors::open()?);
    let doorkeeper = Doorkeeper::start(&options, &guests).context("starting what notices pods that go")?;
    guests.check(&doors);
    let places = (Arc::clone(&guests), doors);
    let programme = Programme::new(source, places, ready, Arc::clone(&shared), Arc::clone(&report));
    let node = Node { args, keep, options: &options, state: &state, shared: &shared, report: &report, guests: &guests };
    let result = node.carry_out(programme, socket, health, &mut signals, &mut worth_keeping).await;
    drop(doorkeeper);
    let _ = std::fs::remove_file(&args.api);
    if keep || (result.is_err() && worth_keeping) {
        tracing::info!("left in place for the next start: rules, links and state");
        return result;
    }
    let taken = shared.lock().ok().and_then(|mut shared| shared.take());
    let stopped = taken.map_or(Ok(()), |shared| shared.kernel.stop()).map_err(Error::from);
    let removed = fast::remove(&args.bpf_dir, &options.nft_table).map_err(Error::msg).context("removing the fast path");
    let stopped = stopped.and(removed);
    if stopped.is_ok() {
        state.forget_kernel().context("removing state")?;
        tracing::info!("the host is as it was found");
    }
    result.and(stopped.context("putting the host back as it was"))
}

/// What everything between start and end works with.
struct Node<'a> {
    args: &'a Common,
    /// Nothing is taken away at the end.
    keep: bool,
    options: &'a Options,
    state: &'a Arc<StateDir>,
    shared: &'a SharedKernel,
    report: &'a Arc<Report>,
    guests: &'a Arc<Guests>,
}

impl Node<'_> {
    /// Runs until a signal. `worth_keeping` becomes true as soon as tunnels may depend on what is in the kernel.
    async fn carry_out<S: Source>(
        &self,
        mut programme: Programme<S>,
        socket: tokio::net::UnixListener,
        health: Option<tokio::net::TcpListener>,
        signals: &mut Signals,
        worth_keeping: &mut bool,
    ) -> Result<()> {
        let Self { args, keep, options, state, shared, report, guests } = *self;
        let mut ways = Ways::from(args);
        ways.fast.status = report.fast.clone();
        // First who hears of changes, then a look at how things are.
        let mut changes = Changes::open()?;
        let setup = take_over(&ways, options, state, shared)?;
        let external = External::of(report)?;
        external.look();
        // The first configuration is in the kernel before the ALG reads its first packet.
        programme.reload().await;
        let mut running = alg::start(setup).context("starting the ALG")?;
        *worth_keeping = true;
        let handle = running.handle.clone();
        programme.attach(handle.clone()).await;
        let server = api::serve(socket, api::Answers::new(report, handle.clone(), shared));
        let heart = Arc::new(Heart::default());
        let mut pulse = Pulse::new(Arc::clone(&heart), handle.clone());
        let health = health.map(|listener| health::serve(listener, Arc::clone(report), Arc::clone(&heart)));
        let mut tables = Tables::open()?;
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut astray = Astray::default();
        let (mut unheard, mut listen) = (Unheard::default(), tokio::time::interval(UNHEARD));
        listen.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // When to look earlier: one change of nftables causes many notifications, and changes of links come in crowds.
        let (mut early, mut crowd) = (None, None);
        loop {
            tokio::select! {
                () = signals.wait() => break,
                _ = &mut running.ended => bail!("the ALG's thread has ended unasked: its last words are in the log above"),
                () = programme.source.news() => programme.reload().await,
                _ = look.tick() => {
                    programme.tick().await;
                    pulse.feel(report.is_programmed());
                    astray.look(shared);
                }
                _ = listen.tick() => unheard.look(shared, &handle).await,
                told = tables.next(), if early.is_none() => match told {
                    Ok(()) => early = Some(tokio::time::Instant::now() + TABLE_PAUSE),
                    Err(error) => {
                        tracing::warn!("changes of nftables were not heard of: {error}");
                        tables = Tables::open()?;
                    }
                },
                () = at(early), if early.is_some() => {
                    while tables.next().now_or_never().is_some() {}
                    early = None;
                    programme.look().await;
                }
                () = guests.told() => programme.reload().await,
                change = changes.next(), if crowd.is_none() => {
                    if let Err(error) = change {
                        tracing::warn!("changes of links and routes were not heard of: {error}");
                        changes = Changes::open()?;
                    }
                    crowd = Some(tokio::time::Instant::now() + CROWD_PAUSE);
                }
                () = at(crowd), if crowd.is_some() => {
                    while changes.next().now_or_never().is_some_and(|change| change.is_ok()) {}
                    crowd = None;
                    programme.mend();
                    external.look();
                    handle.refresh();
                }
            }
        }
        tracing::info!("stopping");
        heart.rest();
        signals.exit_at_the_next();
        if !keep {
            farewell(&handle).await;
        }
        server.abort();
        if let Some(health) = health {
            health.abort();
        }
        drop(programme);
        let _ = tokio::task::spawn_blocking(move || if keep { running.hand_over() } else { running.stop() }).await;
        Ok(())
    }
}

/// Waits until then.
async fn at(then: Option<tokio::time::Instant>) {
    match then {
        Some(then) => tokio::time::sleep_until(then).await,
        None => std::future::pending().await,
    }
}
