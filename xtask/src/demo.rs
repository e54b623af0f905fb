//! `cargo xtask demo`: installs what it needs, builds, and shows the main job on this host.

use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::{bin_dir, images, packages, process, root, tools};

/// Where.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// On a real Kubernetes control plane, as users install it; the first time builds that from source (about ten minutes)
    #[arg(long)]
    cluster: bool,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    if !nix::unistd::geteuid().is_root() {
        bail!("the demo makes network namespaces, which needs root: run it as root (sudo -E cargo xtask demo)");
    }
    process::forward_signals();
    let started = Instant::now();
    let mut lab = Command::new(bin_dir("debug").join("callgate-lab"));
    lab.arg("demo").env("CALLGATE_BIN_DIR", bin_dir("debug")).current_dir(root());
    if args.cluster {
        packages::ensure_cluster()?;
        let tools = tools::ensure(false)?.context("the demo on a cluster needs Go 1.24 or newer: https://go.dev/dl")?;
        lab.arg("--cluster").env(tools::VARIABLE, tools).env(images::VARIABLE, images::for_tests()?);
    } else {
        packages::ensure_lab()?;
    }
    build()?;
    println!("==> ready after {} s; nothing of this host's own network is touched\n", started.elapsed().as_secs());
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
