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
    /// Also draw cost against calls into this file
    #[arg(long)]
    svg: Option<std::path::PathBuf>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let report = match bench::run(if args.quick { Size::QUICK } else { Size::FULL }) {
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
    ExitCode::SUCCESS
}
