//! Runs a command in a process group of its own, with a time limit; what it leaves behind in the group is ended.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{SigSet, Signal, killpg};
use nix::unistd::Pid;

/// Between SIGTERM, which lets labs remove their namespaces, and SIGKILL.
const GRACE: Duration = Duration::from_secs(20);

/// Runs to the end with inherited output.
pub(crate) fn run(command: Command, limit: Duration) -> Result<ExitStatus> {
    let (status, _) = spawn(command, limit, false)?;
    Ok(status)
}

/// Runs to the end; every line of standard output is shown as it comes and also returned.
pub(crate) fn run_tee(command: Command, limit: Duration) -> Result<(ExitStatus, Vec<String>)> {
    spawn(command, limit, true)
}

/// Set by SIGINT and SIGTERM: nothing new is started afterwards.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// The group that a signal to xtask has to reach; 0 when none runs.
static GROUP: AtomicI32 = AtomicI32::new(0);

/// SIGINT and SIGTERM, which xtask takes itself in order to pass them on.
fn handled() -> SigSet {
    let mut set = SigSet::empty();
    set.add(Signal::SIGINT);
    set.add(Signal::SIGTERM);
    set
}

/// Passes SIGINT and SIGTERM on to the running group, so that labs can remove their namespaces. Call once, early, from the
/// main thread.
pub(crate) fn forward_signals() {
    let _ = handled().thread_block();
    std::thread::spawn(|| {
        if handled().wait().is_err() {
            return;
        }
        INTERRUPTED.store(true, Ordering::SeqCst);
        eprintln!("xtask: interrupted; ending what runs and cleaning up");
        let group = GROUP.load(Ordering::SeqCst);
        if group != 0 {
            let _ = killpg(Pid::from_raw(group), Signal::SIGTERM);
            // The main thread goes on when the group has ended by itself, and then ends the process.
            std::thread::sleep(GRACE);
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
        std::process::exit(130);
    });
}

fn spawn(mut command: Command, limit: Duration, tee: bool) -> Result<(ExitStatus, Vec<String>)> {
    let name = command.get_program().to_string_lossy().into_owned();
    if INTERRUPTED.load(Ordering::SeqCst) {
        bail!("`{name}` was not started: interrupted");
    }
    command.process_group(0).stdin(Stdio::null());
    if tee {
        command.stdout(Stdio::piped());
    }
    // A child inherits the signal mask: it must be able to receive what we take ourselves.
    let was_blocked = SigSet::thread_get_mask().is_ok_and(|mask| mask.contains(Signal::SIGTERM));
    let _ = handled().thread_unblock();
    let spawned = command.spawn();
    if was_blocked {
        let _ = handled().thread_block();
    }
    let mut child = spawned.with_context(|| format!("start `{name}`"))?;
    GROUP.store(child.id().cast_signed(), Ordering::SeqCst);
    let lines = child.stdout.take().map(|pipe| {
        std::thread::spawn(move || {
            let mut lines = Vec::new();
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                println!("{line}");
                lines.push(line);
            }
            lines
        })
    });
    let status = wait(&mut child, limit);
    GROUP.store(0, Ordering::SeqCst);
    let status = status?;
    let lines = lines.map_or_else(Vec::new, |reader| reader.join().unwrap_or_default());
    match status {
        Some(status) => Ok((status, lines)),
        None => bail!("`{name}` was ended: it ran longer than {} minutes", limit.as_secs() / 60),
    }
}

/// `None`: the limit was reached and the group has been ended.
fn wait(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let group = Pid::from_raw(child.id().cast_signed());
    let (done, finished) = mpsc::channel::<()>();
    let watchdog = std::thread::spawn(move || {
        let started = Instant::now();
        if finished.recv_timeout(limit).is_ok() || started.elapsed() < limit {
            return false;
        }
        let _ = killpg(group, Signal::SIGTERM);
        if finished.recv_timeout(GRACE).is_err() {
            let _ = killpg(group, Signal::SIGKILL);
        }
        true
    });
    let status = child.wait().context("wait for a child")?;
    let _ = done.send(());
    let timed_out = watchdog.join().unwrap_or(false);
    // Whatever still runs in the group would hold the pipe open.
    let _ = killpg(group, Signal::SIGKILL);
    Ok(if timed_out { None } else { Some(status) })
}
