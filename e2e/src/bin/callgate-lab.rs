//! callgate-lab: the demo (`demo`), a cluster by hand (`cluster`), and the clean-up of what killed labs left behind (`sweep`).

use std::path::PathBuf;
use std::process::ExitCode;

use callgate_e2e::cluster::hand;
use callgate_e2e::{demo, demo_cluster, lab};
use clap::{Parser, Subcommand};

/// Labs by hand.
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Two PPTP clients behind one address: without Callgate, then with it
    Demo {
        /// On a Kubernetes cluster
        #[arg(long)]
        cluster: bool,
    },
    /// Remove namespaces and files of labs whose process is gone
    Sweep,
    /// A Kubernetes cluster that stays until it is told to go
    #[command(subcommand)]
    Cluster(Cluster),
}

#[derive(Subcommand)]
enum Cluster {
    /// Build it; returns when its nodes are Ready
    Up,
    /// The process behind `up`: stays in the foreground
    #[command(hide = true)]
    Hold {
        /// Where to say how it is reached
        #[arg(long)]
        state: Option<PathBuf>,
    },
    /// Run kubectl on it as administrator
    Kubectl {
        /// As kubectl takes them
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Remove it
    Down,
}

fn main() -> ExitCode {
    match Args::parse().command {
        Command::Demo { cluster } => match if cluster { demo_cluster::run() } else { demo::run() } {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => {
                eprintln!("\ndemo: {error:#}");
                println!("\nThe demo could not be carried out; everything it made is removed.");
                ExitCode::FAILURE
            }
        },
        Command::Sweep => {
            lab::names::sweep_dead();
            ExitCode::SUCCESS
        }
        Command::Cluster(command) => {
            let done = match command {
                Cluster::Up => hand::up(),
                Cluster::Hold { state } => hand::hold(state.as_deref()),
                Cluster::Kubectl { args } => hand::kubectl(&args),
                Cluster::Down => hand::down(),
            };
            match done {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    eprintln!("cluster: {error:#}");
                    ExitCode::FAILURE
                }
            }
        }
    }
}
