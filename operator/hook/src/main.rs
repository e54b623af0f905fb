//! `callgate-hook`: what helm has to have done inside the cluster, each a pod's whole life.
//!
//! ```text
//!  helm install, upgrade ─► Job ─► predefined   waits for the kinds, applies the services everybody names
//!  helm test ─────────────► Pod ─► selftest     makes a rule, proves by a packet that it is in force
//!  dataplane.cleanup ─► DaemonSet ─► idle       stays, so that a node that is clean counts as ready
//! ```
#![forbid(unsafe_code)]

mod predefined;
mod selftest;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

/// What helm has done inside the cluster: predefined objects, `helm test`, the pod that stays where a node is clean.
#[derive(Debug, Parser)]
#[command(name = "callgate-hook", version)]
struct Args {
    /// Namespace of this pod
    #[arg(long, env = "POD_NAMESPACE", global = true, default_value = callgate_crds::SYSTEM_NAMESPACE)]
    namespace: String,
    /// Seconds for all of it
    #[arg(long, env = "CALLGATE_TIMEOUT", global = true, default_value_t = 60)]
    timeout: u64,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Apply the predefined objects to the namespace, once the API server knows their kinds
    Predefined(predefined::Args),
    /// Make a rule for this pod alone and see whether packets obey it
    Selftest(selftest::Args),
    /// Do nothing until SIGTERM
    Idle,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = Args::parse();
    if matches!(args.command, Command::Idle) {
        return idle().await;
    }
    let time = Duration::from_secs(args.timeout);
    let work = async {
        let client = kube::Client::try_default().await.context("find the API server; this runs as a pod, by helm")?;
        match &args.command {
            Command::Predefined(more) => predefined::run(client, &args.namespace, more).await,
            Command::Selftest(more) => selftest::run(client, &args.namespace, more, time).await,
            Command::Idle => Ok(()),
        }
    };
    let outcome = tokio::time::timeout(time, work).await;
    match outcome.unwrap_or_else(|_| {
        Err(anyhow!("not done after {} s; the last line above says what was awaited", args.timeout))
    }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("FAILED: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The first process of a container is not ended by a signal that it does not ask for.
async fn idle() -> ExitCode {
    match signal(SignalKind::terminate()) {
        Ok(mut term) => {
            term.recv().await;
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("FAILED: wait for SIGTERM: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Between two looks at the API server: a few times a second for a minute, once in a release's life.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn flags_are_consistent() {
        super::Args::command().debug_assert();
    }
}
