//! callgate-bench: the figures of docs/performance.md, in one interleaved run.

use std::process::ExitCode;

use callgate_e2e::bench::bed::Kind;
use callgate_e2e::bench::{self, Part, Plan, Size};
use clap::{Parser, ValueEnum as _};

/// Run it as root, built in release: cargo xtask bench.
#[derive(Parser)]
struct Args {
    /// Fewer rounds
    #[arg(long)]
    quick: bool,
    /// So many rounds
    #[arg(long)]
    rounds: Option<usize>,
    /// These parts and no others
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// These gateways and no others
    #[arg(long, value_enum, value_delimiter = ',')]
    gateways: Vec<Kind>,
    /// Over so many calls, in place of 1 to 60000
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=60_000))]
    calls: Vec<u32>,
    /// `text` for people, `json` for programs
    #[arg(long, default_value = "text")]
    output: String,
    /// Also draw cost against calls into this file
    #[arg(long)]
    svg: Option<std::path::PathBuf>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let size = if args.quick { Size::QUICK } else { Size::FULL };
    let calls = match args.calls.is_empty() {
        true => size.calls,
        // Once in a process, for all of its life.
        false => args.calls.iter().map(|calls| *calls as usize).collect::<Vec<_>>().leak(),
    };
    let size = Size { rounds: args.rounds.unwrap_or(size.rounds), calls, ..size };
    let parts = if args.only.is_empty() { Part::value_variants().to_vec() } else { args.only };
    let kinds = if args.gateways.is_empty() { Kind::ALL.to_vec() } else { args.gateways };
    let report = match bench::run(&Plan { size, parts, kinds }) {
        Ok(report) => report,
        Err(error) => {
            eprintln!("callgate-bench: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    match args.output.as_str() {
        "json" => println!("{:#}", report.json()),
        _ => print!("{}", report.text()),
    }
    if let Some(path) = &args.svg
        && let Err(error) = std::fs::write(path, bench::chart::svg(&report))
    {
        eprintln!("callgate-bench: --svg {}: {error}", path.display());
        return ExitCode::FAILURE;
    }
    match report.rounds == report.wanted {
        true => ExitCode::SUCCESS,
        // As shells have it for SIGINT.
        false => ExitCode::from(130),
    }
}
