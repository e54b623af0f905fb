//! `cargo xtask cluster`: a real Kubernetes cluster on this machine, by hand.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::{bin_dir, demo, packages, process, tools};

/// What to do with it.
#[derive(clap::Subcommand)]
pub(crate) enum Args {
    /// Build what it needs and start it; returns when its nodes are Ready
    Up,
    /// Run kubectl on it as administrator
    Kubectl {
        /// As kubectl takes them
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Remove it
    Down,
    /// Build the Go programs only, and print where they are
    Tools {
        /// Also kwok, for tests of scale
        #[arg(long)]
        kwok: bool,
    },
}

/// After it was said why.
const NO_GO: &str = "there is no Go 1.24 or newer";

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    if let Args::Tools { kwok } = args {
        process::forward_signals();
        let dirs = tools::ensure(*kwok)?.context(NO_GO)?;
        println!("{}={}", tools::VARIABLE, dirs.display());
        return Ok(ExitCode::SUCCESS);
    }
    if !nix::unistd::geteuid().is_root() {
        bail!("a cluster needs network namespaces, cgroups and containers, so root: sudo -E cargo xtask cluster …");
    }
    match args {
        Args::Up => {
            process::forward_signals();
            packages::ensure_cluster()?;
            let tools = tools::ensure(false)?.context(NO_GO)?;
            demo::build()?;
            let status = process::run(lab(&["up"], &tools), Duration::from_secs(600))?;
            Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Args::Kubectl { args } => {
            let tools = tools::ensure(false)?.context(NO_GO)?;
            Err(lab(&["kubectl", "--"], &tools).args(args).exec()).context("callgate-lab")
        }
        Args::Down => Err(lab(&["down"], &OsString::new()).exec()).context("callgate-lab"),
        Args::Tools { .. } => Ok(ExitCode::SUCCESS),
    }
}

fn lab(args: &[&str], tools: &OsString) -> Command {
    let mut command = Command::new(bin_dir("debug").join("callgate-lab"));
    command.arg("cluster").args(args).env(tools::VARIABLE, tools).env("CALLGATE_BIN_DIR", bin_dir("debug"));
    command
}
