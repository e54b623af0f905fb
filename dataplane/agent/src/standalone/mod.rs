//! One host without a cluster: manifests from a directory, compiled and carried out, until a signal ends it.
//!
//! ```text
//!  DIR ── watch ─► manifests (what was good stays) ─► compile ─► programme: kernel, ALG ─► ready file
//!                                                        └── statuses ─► report ◄── api
//! ```

mod alone;
mod manifests;
mod programme;
mod report;
mod watch;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result};
use callgate_pptp::{Change, Engine, Limits};
use futures::FutureExt as _;
use rand::TryRngCore;
use tokio::signal::unix::{SignalKind, signal};

pub use report::{Programmed, Report};

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

/// Kernel part, shared with the thread of the ALG; `None` once it is being stopped.
pub(crate) type SharedKernel = Arc<Mutex<Option<Shared>>>;

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// When it cannot start; the host is then as it was found.
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
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;

    let record: Option<Record> = state.load("kernel.json").unwrap_or_else(|error| {
        tracing::warn!("kernel.json in the state directory cannot be read ({error}); starting without it");
        None
    });
    let kept = state.kernel_record();
    let keep = Box::new(move |record: &Record| write_whole(&kept, &serde_json::to_vec(record)?));
    let kernel = Kernel::start(options.clone(), record, keep)?;
    let shared: SharedKernel = Arc::new(Mutex::new(Some(Shared { kernel, own: Vec::new() })));
    let result = carry_out(args, &options, &state, &shared, &mut term, &mut int).await;
    if let Some(file) = &args.ready_file {
        let _ = std::fs::remove_file(file);
    }
    if args.keep {
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

async fn carry_out(
    args: &Standalone,
    options: &Options,
    state: &Arc<StateDir>,
    shared: &SharedKernel,
    term: &mut tokio::signal::unix::Signal,
    int: &mut tokio::signal::unix::Signal,
) -> Result<()> {
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
        connections = engine.connections().len(),
        calls = engine.call_count(),
        "taken over from the journal"
    );
    let setup = Setup {
        engine,
        journal,
        node: Box::new(Host::new(Arc::clone(shared), options.sent.value, args.external_address)?),
        tap_link: options.tap_link.clone(),
        mark: options.sent.value,
        interfaces: args.interfaces.clone(),
        external_ports: options.external_ports.0.clone(),
    };
    // The first configuration is in the kernel before the ALG reads its first packet.
    let report = Arc::new(Report::new(options.clone()));
    let mut programme = Programme::new(args, Arc::clone(state), Arc::clone(shared), Arc::clone(&report));
    programme.reload_kernel();
    let (handle, thread) = alg::start(setup).context("starting the ALG")?;
    programme.attach(handle.clone()).await;
    let server = api::serve(&args.api, Arc::clone(&report), handle.clone()).await?;
    let mut files = watch::watch(&args.manifests)?;
    let mut changes = Changes::open()?;
    let mut tables = Tables::open()?;
    // When to look at our table; one change of nftables causes many notifications.
    let mut look = None;
    loop {
        tokio::select! {
            _ = term.recv() => break,
            _ = int.recv() => break,
            Some(()) = files.recv() => {
                // An editor writes in several steps.
                tokio::time::sleep(Duration::from_millis(50)).await;
                while files.try_recv().is_ok() {}
                files.renew();
                programme.reload().await;
            }
            told = tables.next(), if look.is_none() => match told {
                Ok(()) => look = Some(tokio::time::Instant::now() + TABLE_PAUSE),
                Err(error) => {
                    tracing::warn!("changes of nftables are not heard of any more: {error}");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            },
            () = tokio::time::sleep_until(look.unwrap_or_else(tokio::time::Instant::now)), if look.is_some() => {
                while tables.next().now_or_never().is_some() {}
                look = None;
                programme.look().await;
            }
            change = changes.next() => match change {
                Ok(_) => handle.refresh(),
                Err(error) => {
                    tracing::warn!("changes of links and routes are not heard of any more: {error}");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            },
        }
    }
    tracing::info!("stopping");
    // A second signal does not wait.
    tokio::spawn(async {
        if let Ok(mut again) = signal(SignalKind::terminate()) {
            again.recv().await;
            std::process::exit(1);
        }
    });
    server.abort();
    let _ = std::fs::remove_file(&args.api);
    handle.stop();
    let _ = tokio::task::spawn_blocking(move || thread.join()).await;
    Ok(())
}
