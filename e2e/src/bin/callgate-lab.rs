//! callgate-lab: the demo (`demo`), and the clean-up of what killed labs left behind (`sweep`).

use std::process::ExitCode;

use callgate_e2e::{demo, lab};
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
    Demo,
    /// Remove namespaces and files of labs whose process is gone
    Sweep,
}

fn main() -> ExitCode {
    match Args::parse().command {
        Command::Demo => match demo::run() {
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
    }
}
