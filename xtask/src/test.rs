//! `cargo xtask test`: every check and every test, then one line that adds them up.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::beside::Beside;
use crate::tally::Tally;
use crate::{bin_dir, checks, demo, generate, images, packages, process, root, tools};

/// What to run.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Also what takes too long for CI: soak, hundreds of repetitions, long silences
    #[arg(long)]
    long: bool,
    /// Only tests whose name contains this; leaves out the checks on the tree
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// All of it with the fast path switched off, but for the tests that are about it
    #[arg(long)]
    without_fast_path: bool,
}

/// Longest run of the tests without a lab.
const UNIT_LIMIT: Duration = Duration::from_secs(45 * 60);
/// Longest run of the labs in CI.
const E2E_LIMIT: Duration = Duration::from_secs(40 * 60);
/// Where the programs are that long tests measure.
const MEASURED: &str = "CALLGATE_SCALE_BIN_DIR";
/// Longest run of the labs with `--long`.
const LONG_LIMIT: Duration = Duration::from_secs(4 * 3600);

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    process::forward_signals();
    let ci = std::env::var_os("CI").is_some_and(|value| value != "false" && !value.is_empty());
    let skips = skip_file()?;
    let mut tally = Tally::default();
    let mut steps = Steps { started: Instant::now(), times: Vec::new() };

    if nix::unistd::geteuid().is_root() {
        steps.run("packages", packages::ensure_cluster)?;
        if !Path::new("/proc/sys/net/bridge/bridge-nf-call-iptables").exists() {
            // Not loaded here: every bridge of the machine would pass netfilter from then on.
            println!("no br_netfilter in the kernel: tests that need it skip themselves (docs/development.md)");
        }
    } else {
        println!("not root: tests that need network namespaces skip themselves (and CI counts that as failure)");
    }
    if args.only.is_none() {
        tree_checks(&mut steps, &mut tally);
    }
    steps.run("build", demo::build)?;
    // Not part of a demo; the chart's flags are compared with theirs.
    let more = ["build", "--locked", "-p", "callgate-operator", "-p", "callgate-hook", "--bins", "--example", "scale"];
    steps.run("build of what runs in pods", || cargo(&more, &[]))?;
    // Without Go the chart's tests skip themselves.
    let helm = steps.run("helm", tools::ensure_helm);
    held("helm", &mut tally, helm);
    steps.run("unit tests", || unit(args, &skips, &mut tally))?;
    let with_cluster = nix::unistd::geteuid().is_root() && cluster_has(args)?;
    let ahead = with_cluster.then(Beside::for_cluster).transpose()?;
    steps.run("labs", || labs(args, &skips, &mut tally))?;
    let (tools, images) = if let Some(ahead) = ahead {
        steps.run("rest of what was built beside", || ahead.finish(UNIT_LIMIT))?;
        let tools = steps.run("cluster programs", || tools::ensure(true));
        let tools = held("cluster programs", &mut tally, tools).flatten();
        let images = tools.as_ref().map(|_| steps.run("images", images::for_tests));
        (tools, images.and_then(|images| held("images", &mut tally, images)))
    } else {
        (None, None)
    };
    let measured = if args.long && tools.is_some() {
        let built = steps.run("what is measured", measured);
        held("what is measured", &mut tally, built)
    } else {
        None
    };
    let images = images.map(PathBuf::into_os_string);
    let envs = [(tools::VARIABLE, tools), (images::VARIABLE, images), (MEASURED, measured)];
    steps.run("cluster", || cluster(args, &skips, envs, &mut tally))?;
    sweep();
    tally.skips(&skips, ci);
    let _ = std::fs::remove_file(&skips);

    println!("\n{:<29} seconds", "step");
    for (name, seconds) in &steps.times {
        println!("{name:<29} {seconds:>7.1}");
    }
    for failure in &tally.failures {
        println!("FAILED: {failure}");
    }
    if args.only.is_some() && tally.passed + tally.failed + tally.skipped == 0 {
        bail!("no test has a name that contains {:?}", args.only.as_deref().unwrap_or_default());
    }
    println!("{tally}");
    Ok(if tally.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs steps in turn, says which, and remembers how long each took.
struct Steps {
    started: Instant,
    times: Vec<(&'static str, f64)>,
}

impl Steps {
    fn run<T>(&mut self, name: &'static str, step: impl FnOnce() -> Result<T>) -> Result<T> {
        println!("\n==> {name} ({} s since the start)", self.started.elapsed().as_secs());
        let begun = Instant::now();
        let result = step();
        self.times.push((name, begun.elapsed().as_secs_f64()));
        result
    }
}

/// Format, lints, docs, generated files, purity, sizes: each is one check.
fn tree_checks(steps: &mut Steps, tally: &mut Tally) {
    let mut check = |name: &'static str, step: &mut dyn FnMut() -> Result<()>| {
        let holds = match steps.run(name, step) {
            Ok(()) => true,
            Err(error) => {
                println!("{name} does not hold: {error:#}");
                false
            }
        };
        tally.check(name, holds);
    };
    check("format", &mut || cargo(&["fmt", "--all", "--check"], &[]));
    check("pure crates", &mut checks::purity);
    check("file sizes", &mut checks::files);
    check("nothing unfinished", &mut checks::unfinished);
    check("generated files", &mut || match generate::generate(true)? {
        true => Ok(()),
        false => bail!("run `cargo xtask generate` and commit what changed"),
    });
    check("lints", &mut || cargo(&["clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"], &[]));
    check("docs", &mut || cargo(&["doc", "--locked", "--workspace", "--no-deps"], &[("RUSTDOCFLAGS", "-D warnings")]));
}

fn cargo(args: &[&str], envs: &[(&str, &str)]) -> Result<()> {
    let mut command = Command::new("cargo");
    command.args(args).envs(envs.iter().copied()).current_dir(root());
    let status = process::run(command, UNIT_LIMIT)?;
    if !status.success() {
        bail!("`cargo {}` ended with {status}", args.join(" "));
    }
    Ok(())
}

fn unit(args: &Args, skips: &PathBuf, tally: &mut Tally) -> Result<()> {
    let mut command = Command::new("cargo");
    command.args(["test", "--locked", "--workspace", "--exclude", "callgate-e2e", "--no-fail-fast"]);
    command.args(args.only.as_slice());
    command.env("CALLGATE_SKIPS", skips).env("CALLGATE_BIN_DIR", bin_dir("debug")).current_dir(root());
    libtest("unit", command, UNIT_LIMIT, tally)
}

fn labs(args: &Args, skips: &PathBuf, tally: &mut Tally) -> Result<()> {
    let command = end_to_end(args, skips, &["--lib", "--bins", "--test", "e2e"]);
    libtest("labs", command, if args.long { LONG_LIMIT } else { E2E_LIMIT }, tally)
}

/// The tests of these targets of `e2e`, one at a time.
fn end_to_end(args: &Args, skips: &PathBuf, targets: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command.args(["test", "--locked", "-p", "callgate-e2e", "--no-fail-fast"]).args(targets);
    if args.long {
        command.args(["--features", "long"]);
    }
    command.args(args.only.as_slice()).args(["--", "--test-threads=1"]);
    command.env("CALLGATE_SKIPS", skips).env("CALLGATE_BIN_DIR", bin_dir("debug")).current_dir(root());
    if args.without_fast_path {
        // The agent's own variable, which a flag of a test goes before, and what the chart is installed with.
        command.env("CALLGATE_FAST_PATH", "off").env("CALLGATE_HELM_VALUES", "dataplane.fastPath=off");
    }
    command
}

/// Whether a test on a cluster is wanted: what it needs takes minutes to build.
fn cluster_has(args: &Args) -> Result<bool> {
    let Some(name) = &args.only else { return Ok(true) };
    let mut command = Command::new("cargo");
    command.args(["test", "-q", "--locked", "-p", "callgate-e2e", "--test", "cluster", name, "--", "--list"]);
    let output = command.current_dir(root()).output()?;
    Ok(!output.status.success() || String::from_utf8_lossy(&output.stdout).contains(": test"))
}

/// What a step has given; its failure is one of the run, which goes on.
fn held<T>(name: &str, tally: &mut Tally, result: Result<T>) -> Option<T> {
    result
        .inspect_err(|error| {
            println!("{error:#}");
            tally.check(name, false);
        })
        .ok()
}

/// A real Kubernetes control plane with nodes as namespaces. Without programs and images every test that needs them skips itself.
fn cluster(args: &Args, skips: &PathBuf, envs: [(&str, Option<OsString>); 3], tally: &mut Tally) -> Result<()> {
    let mut command = end_to_end(args, skips, &["--test", "cluster"]);
    command.envs(envs.into_iter().filter_map(|(name, value)| Some((name, value?))));
    libtest("cluster", command, if args.long { LONG_LIMIT } else { E2E_LIMIT }, tally)
}

/// The operator as users get it, but for the time linking takes, and who puts it to the test; where they are.
fn measured() -> Result<OsString> {
    let package = ["--locked", "-p", "callgate-operator", "--bins", "--example", "scale"];
    cargo(&[&["build", "--profile", "measure"][..], &package].concat(), &[])?;
    Ok(bin_dir("measure").into_os_string())
}

fn libtest(name: &'static str, command: Command, limit: Duration, tally: &mut Tally) -> Result<()> {
    match process::run_tee(command, limit) {
        Ok((status, lines)) => tally.libtest(name, &lines, status.success()),
        Err(error) => {
            println!("{error:#}");
            tally.check(name, false);
        }
    }
    Ok(())
}

/// Removes namespaces that an ended test could not remove itself.
fn sweep() {
    let lab = bin_dir("debug").join("callgate-lab");
    if nix::unistd::geteuid().is_root() && lab.exists() {
        let _ = Command::new(lab).arg("sweep").status();
    }
}

/// Where tests that cannot run here say so.
fn skip_file() -> Result<PathBuf> {
    let file = std::env::temp_dir().join(format!("callgate-skips-{}", std::process::id()));
    std::fs::write(&file, "")?;
    Ok(file)
}
