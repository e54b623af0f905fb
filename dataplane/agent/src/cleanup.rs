//! Puts a host back as it was before an agent that has ended: what lives is taken leave of, then everything its state directory
//! knows of is removed, and then that.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result};

use crate::alg::node::Shared;
use crate::args::Cleanup;
use crate::fast::Home;
use crate::kernel::{Keep, Kernel, Options, Record, permitted};
use crate::run::{SharedKernel, Ways, alone, farewell, take_over};
use crate::shared::Place;
use crate::state::{self, StateDir, write_whole};
use crate::{alg, clock, fast};

/// Between two looks whether the agent has ended.
const LOOK: Duration = Duration::from_millis(200);

/// Does it, once no agent runs any more. On a host where none ever ran there is nothing to do, and that is fine; whoever only named
/// another state directory is told what that means.
///
/// # Errors
/// When an agent still runs, or something could not be put back; what could is.
pub fn run(args: &Cleanup) -> Result<()> {
    permitted()?;
    let options = Options::from(&args.numbers);
    let boot = clock::boot_id().context("reading the boot id")?;
    let deadline = Instant::now() + Duration::from_secs(args.wait);
    let state = loop {
        match StateDir::open(&args.state_dir, &boot) {
            Err(state::Error::InUse { .. }) if Instant::now() < deadline => std::thread::sleep(LOOK),
            opened => break opened?,
        }
    };
    let mut record = kernel_record(&state);
    let known = record.is_some();
    let used = record.as_ref().and_then(|record| record.options.clone()).unwrap_or_else(|| options.clone());
    let _alone = alone()?;
    let home = Home::of(&state).unwrap_or_else(|| Home::here(&args.bpf_dir, &used.nft_table));
    if known {
        if let Err(error) = end_all(&used, record, &state, &home.bpf_dir) {
            tracing::warn!("nobody can be told that connections end: {error:#}");
        }
        record = kernel_record(&state);
    }
    // Where it was, and where it should be.
    let removed = fast::remove(&home.bpf_dir, &home.nft_table)
        .and_then(|()| fast::remove(&args.bpf_dir, &used.nft_table))
        .map_err(Error::msg)
        .context("removing the fast path");
    Kernel::clean(options, record, keep(&state)).context("putting the host back as it was")?;
    removed?;
    let _ = std::fs::remove_file(&args.api);
    if let Some(file) = &args.ready_file
        && let Err(error) = std::fs::remove_file(file)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        return Err(error).with_context(|| format!("removing --ready-file {}: remove it yourself", file.display()));
    }
    state.remove().with_context(|| format!("removing --state-dir {}", args.state_dir.display()))?;
    if known {
        tracing::info!("the host is as it was before Callgate");
    } else {
        tracing::warn!(
            "--state-dir {} says of no agent that ran on this host: what goes by the names of the flags is removed, sysctls \
             (net.ipv4.ip_forward) are left as they are, and nobody was told that connections end; if one ran here, name its \
             --state-dir",
            args.state_dir.display()
        );
    }
    Ok(())
}

/// Saves what the kernel part says where it was.
fn keep(state: &StateDir) -> Keep {
    let kept = state.kernel_record();
    Box::new(move |record: &Record| write_whole(&kept, &serde_json::to_vec(record)?))
}

/// What the kernel was before, and what was made in it.
fn kernel_record(state: &StateDir) -> Option<Record> {
    state.load("kernel.json").unwrap_or_else(|error| {
        tracing::warn!("kernel.json cannot be read ({error}): what goes by the names of the flags is removed");
        None
    })
}

/// Goes on with what the agent had, only to end it: both ends of every connection are told.
fn end_all(options: &Options, record: Option<Record>, state: &StateDir, bpf_dir: &Path) -> Result<()> {
    let kernel = Kernel::start(options.clone(), record, keep(state)).context("going on with what is there")?;
    let shared: SharedKernel = Arc::new(Mutex::new(Some(Shared { kernel, own: Vec::new() })));
    // Its calls are about to end: all of them by the ALG, and nothing beside it.
    let mut ways = Ways::default();
    ways.fast = fast::Setup { mode: fast::Mode::Off, root: bpf_dir.to_owned(), ..fast::Setup::default() };
    let setup = take_over(&ways, options, state, &shared)?;
    if setup.engine.connection_count() > 0 || Place::new(state.path()).is_there() {
        let running = alg::start(setup).context("starting the ALG")?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(farewell(&running.handle));
        running.stop();
    }
    Ok(())
}
