//! `cargo xtask demo`: installs what it needs, builds, and shows the main job on this host.

use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::{bin_dir, packages, process, root};

/// Nothing to choose yet.
#[derive(clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(Args {}: &Args) -> Result<ExitCode> {
    if !nix::unistd::geteuid().is_root() {
        bail!("the demo makes network namespaces, which needs root: run it as root (sudo -E cargo xtask demo)");
    }
    process::forward_signals();
    let started = Instant::now();
    packages::ensure_lab()?;
    build()?;
    println!("==> ready after {} s; nothing of this host's own network is touched\n", started.elapsed().as_secs());
    let mut lab = Command::new(bin_dir("debug").join("callgate-lab"));
    lab.arg("demo").env("CALLGATE_BIN_DIR", bin_dir("debug")).current_dir(root());
    let status = process::run(lab, Duration::from_secs(900))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Builds the programs that labs start.
pub(crate) fn build() -> Result<()> {
    println!("==> building (a first build takes a few minutes)");
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--locked", "-p", "callgate-agent", "-p", "kubectl-callgate", "-p", "callgate-e2e", "--bins"]);
    cargo.current_dir(root());
    let status = process::run(cargo, Duration::from_secs(3600))?;
    if !status.success() {
        bail!("the build ended with {status}");
    }
    Ok(())
}
