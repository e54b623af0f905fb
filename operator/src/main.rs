//! `callgate-operator`: reads its flags, starts the log, runs, and says in one line why it ended.

use std::process::ExitCode;

use callgate_operator::args::Args;
use callgate_operator::{log, run};
use clap::Parser as _;

fn main() -> ExitCode {
    let args = Args::parse();
    log::start(args.log_format);
    match run::run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("callgate-operator: {error:#}");
            ExitCode::FAILURE
        }
    }
}
