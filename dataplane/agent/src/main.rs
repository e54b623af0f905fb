//! `callgate-dataplane`: reads its flags, starts the log, runs, and says in one line why it ended.

use std::process::ExitCode;

use callgate_agent::args::{Args, Command};
use callgate_agent::{cleanup, cluster, log, standalone};
use clap::Parser;

fn main() -> ExitCode {
    let result = match Args::parse().command {
        Command::Standalone(args) => {
            log::start(args.common.log_format);
            standalone::run(&args)
        }
        Command::Agent(args) => {
            log::start(args.common.log_format);
            cluster::run(&args)
        }
        Command::Cleanup(args) => {
            log::start(args.log_format);
            cleanup::run(&args)
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("callgate-dataplane: {error:#}");
            ExitCode::FAILURE
        }
    }
}
