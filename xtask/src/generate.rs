//! `cargo xtask generate [--check]`: files made from code.

use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::Result;

use crate::{bpf, chart, counters, process, root};

/// Which way round.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Write nothing; fail when a committed file differs from what the code says
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    Ok(if generate(args.check)? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs every generator; false when one of them found a difference.
pub(crate) fn generate(check: bool) -> Result<bool> {
    let mut command = Command::new("cargo");
    command
        .args(["run", "--quiet", "--locked", "-p", "callgate-crds", "--bin", "callgate-crdgen", "--"])
        .current_dir(root());
    if check {
        command.arg("--check");
    }
    let crds = process::run(command, Duration::from_secs(900))?.success();
    // The chart copies what the first generator writes.
    let chart = chart::generate(check)?;
    let counters = counters::generate(check)?;
    Ok(bpf::generate(check)? && counters && chart && crds)
}
