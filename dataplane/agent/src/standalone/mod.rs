//! One host without a cluster: manifests from a directory, compiled and carried out, until a signal ends it.
//!
//! ```text
//!  DIR ── watch ─► manifests (what was good stays) ─► compile ─► directory: a `run::Source`
//! ```

mod directory;
mod manifests;
mod unfinished;
mod watch;

use std::sync::Arc;

use anyhow::Result;

use crate::args::Standalone;
use crate::run;

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// When it cannot start; the host is then as it was found. When it cannot go on: what carries tunnels is then left in place for
/// the next start, which goes on with them.
pub fn run(args: &Standalone) -> Result<()> {
    run::run(&args.common, args.keep, |state| directory::Directory::open(args, Arc::clone(state)))
}
