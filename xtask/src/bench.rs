//! `cargo xtask bench`: builds in release and runs the interleaved benchmark.

use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Result, bail};

use crate::{bin_dir, packages, process, root};

/// How long, and for whom.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Fewer rounds: about two minutes
    #[arg(long)]
    quick: bool,
    /// So many rounds
    #[arg(long)]
    rounds: Option<usize>,
    /// These parts and no others: gre, cards, latency, ordinary, set-ups, tables (comma-separated)
    #[arg(long)]
    only: Option<String>,
    /// These gateways and no others: plain, masquerade, kernel-alg, slow, fast, xdp (comma-separated)
    #[arg(long)]
    gateways: Option<String>,
    /// Over so many calls, in place of 1 to 60000 (comma-separated)
    #[arg(long)]
    calls: Option<String>,
    /// `text` for people, `json` for programs
    #[arg(short, long, default_value = "text", value_parser = ["text", "json"])]
    output: String,
    /// Also draw cost against calls into this file
    #[arg(long)]
    svg: Option<std::path::PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    if !nix::unistd::geteuid().is_root() {
        bail!("the benchmark makes network namespaces, which needs root: run it as root (sudo -E cargo xtask bench)");
    }
    process::forward_signals();
    packages::ensure_lab()?;
    eprintln!("==> building in release (a first build takes several minutes)");
    let mut cargo = Command::new("cargo");
    cargo.args([
        "build",
        "--locked",
        "--release",
        "-p",
        "callgate-agent",
        "-p",
        "callgate-e2e",
        "-p",
        "callgate-pptp",
        "--bins",
    ]);
    let status = process::run(
        {
            cargo.current_dir(root());
            cargo
        },
        Duration::from_secs(3600),
    )?;
    if !status.success() {
        bail!("the build ended with {status}");
    }
    let mut bench = Command::new(bin_dir("release").join("callgate-bench"));
    bench.args(["--output", &args.output]).env("CALLGATE_BIN_DIR", bin_dir("release")).current_dir(root());
    if args.quick {
        bench.arg("--quick");
    }
    let rounds = args.rounds.map(|rounds| rounds.to_string());
    for (flag, value) in
        [("--rounds", &rounds), ("--only", &args.only), ("--gateways", &args.gateways), ("--calls", &args.calls)]
    {
        bench.args(value.iter().flat_map(|value| [flag, value.as_str()]));
    }
    if let Some(path) = &args.svg {
        bench.arg("--svg").arg(std::path::absolute(path)?);
    }
    let status = process::run(bench, Duration::from_secs(3600))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
