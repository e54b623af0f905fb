//! `callgate-dataplane`: reads its flags, starts the log, runs, and says in one line why it ended.

use std::process::ExitCode;

use callgate_agent::args::{Args, Command};
use callgate_agent::{log, standalone};
use clap::Parser;

fn main() -> ExitCode {
    let Command::Standalone(args) = Args::parse().command;
    log::start(args.log_format);
    match standalone::run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("callgate-dataplane: {error:#}");
            ExitCode::FAILURE
        }
    }
}
