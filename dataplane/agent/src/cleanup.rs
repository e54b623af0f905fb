//! Puts a host back as it was before an agent that has ended: everything its state directory knows of, and then that.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::args::Cleanup;
use crate::clock;
use crate::kernel::{Kernel, Options, Record, permitted};
use crate::run::alone;
use crate::state::{Error, StateDir, write_whole};

/// Between two looks whether the agent has ended.
const LOOK: Duration = Duration::from_millis(200);

/// Does it, once no agent runs any more. On a host where none ever ran there is nothing to do, and that is fine.
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
            Err(Error::InUse { .. }) if Instant::now() < deadline => std::thread::sleep(LOOK),
            opened => break opened?,
        }
    };
    let record: Option<Record> = state.load("kernel.json").unwrap_or_else(|error| {
        tracing::warn!("kernel.json cannot be read ({error}): what goes by the names of the flags is removed");
        None
    });
    let used = record.as_ref().and_then(|record| record.options.clone()).unwrap_or_else(|| options.clone());
    let _alone = alone(&used)?;
    let kept = state.kernel_record();
    let keep = Box::new(move |record: &Record| write_whole(&kept, &serde_json::to_vec(record)?));
    Kernel::clean(options, record, keep).context("putting the host back as it was")?;
    let _ = std::fs::remove_file(&args.api);
    state.remove().with_context(|| format!("removing --state-dir {}", args.state_dir.display()))?;
    tracing::info!("the host is as it was before Callgate");
    Ok(())
}
