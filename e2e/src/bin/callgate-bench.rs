//! callgate-bench: the figures of docs/performance.md, in one interleaved run.

use std::process::ExitCode;

use callgate_e2e::bench::{self, Size};
use clap::Parser;

/// Run it as root, built in release: cargo xtask bench.
#[derive(Parser)]
struct Args {
    /// Fewer rounds
    #[arg(long)]
    quick: bool,
    /// `text` for people, `json` for programs
    #[arg(long, default_value = "text")]
    output: String,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let size = if args.quick { Size { rounds: 4, ms: 300 } } else { Size { rounds: 12, ms: 350 } };
    match bench::run(size) {
        Ok(report) if args.output == "json" => println!("{:#}", report.json()),
        Ok(report) => print!("{}", report.text()),
        Err(error) => {
            eprintln!("callgate-bench: {error:#}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
