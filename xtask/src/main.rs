//! `cargo xtask`: demo, test, bench, cluster, images and generated files, the same for people and for CI.
//!
//! ```text
//!  demo ─┐                       ┌─ packages   what Debian has to provide
//!  test ─┼─► steps, one by one ──┼─ process    run, stream, time limit, end the whole group
//!  bench ┤                       ├─ beside     builds that run while labs wait
//!  cluster                       ├─ tools      the Go programs of a cluster
//!                                ├─ checks     purity, file sizes, generated files
//!                                └─ tally      N passed, M failed, K skipped
//! ```
#![forbid(unsafe_code)]

mod bench;
mod beside;
mod bpf;
mod chart;
mod checks;
mod cluster;
mod counters;
mod demo;
mod generate;
mod images;
mod packages;
mod process;
mod tally;
mod test;
mod tools;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Callgate's developer commands.
#[derive(Parser)]
#[command(name = "cargo xtask", disable_version_flag = true)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show the main job on this host: two PPTP clients behind one address, first without Callgate, then with it
    Demo(demo::Args),
    /// Run all checks and tests; the last line says N passed, M failed, K skipped
    Test(test::Args),
    /// Measure Callgate, plain forwarding and the kernel's own ALG, interleaved in one run
    Bench(bench::Args),
    /// A real Kubernetes cluster on this machine: up, kubectl, down
    #[command(subcommand)]
    Cluster(cluster::Args),
    /// Make the container images as OCI layouts in tars, the same bytes at every run
    Images(images::Args),
    /// Write the files that are made from code (CRDs, tables of conditions and counters, parts of the chart)
    Generate(generate::Args),
}

fn main() -> ExitCode {
    let result = match Args::parse().command {
        Command::Demo(args) => demo::run(&args),
        Command::Test(args) => test::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Cluster(args) => cluster::run(&args),
        Command::Images(args) => images::run(&args),
        Command::Generate(args) => generate::run(&args),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The root of the checkout.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// Where cargo puts what it builds with the given profile directory (`debug`, `release`).
fn bin_dir(profile: &str) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from).join(profile)
}
