//! Runs a command in a process group of its own, with a time limit; what it leaves behind in the group is ended.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};
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

/// The groups that a signal to xtask has to reach.
static GROUPS: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

/// Changes which groups there are, or looks at them.
fn groups<T>(act: impl FnOnce(&mut Vec<Pid>) -> T) -> T {
    act(&mut GROUPS.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The group that `start` has made for it.
fn group_of(child: &Child) -> Pid {
    Pid::from_raw(child.id().cast_signed())
}

/// Sends all groups a signal; whether there are any.
fn signal_all(signal: Signal) -> bool {
    let all = groups(|groups| groups.clone());
    for group in &all {
        let _ = killpg(*group, signal);
    }
    !all.is_empty()
}

/// SIGINT and SIGTERM, which xtask takes itself in order to pass them on.
fn handled() -> SigSet {
    let mut set = SigSet::empty();
    set.add(Signal::SIGINT);
    set.add(Signal::SIGTERM);
    set
}

/// Passes SIGINT and SIGTERM on to the groups that run, so that labs can remove their namespaces. Call once, early, from the
/// main thread.
pub(crate) fn forward_signals() {
    let _ = handled().thread_block();
    std::thread::spawn(|| {
        if handled().wait().is_err() {
            return;
        }
        INTERRUPTED.store(true, Ordering::SeqCst);
        eprintln!("xtask: interrupted; ending what runs and cleaning up");
        if signal_all(Signal::SIGTERM) {
            // The main thread goes on when its group has ended by itself, and then ends the process.
            std::thread::sleep(GRACE);
            signal_all(Signal::SIGKILL);
        }
        std::process::exit(130);
    });
}

/// Starts it in a group of its own, without input; `wait` has to follow.
pub(crate) fn start(command: &mut Command) -> Result<Child> {
    begin(command.process_group(0))
}

/// Starts a command of `setsid`, which makes of it a session of its own and by that a group of its own; `wait` has to follow.
pub(crate) fn start_session(setsid: &mut Command) -> Result<Child> {
    // A leader of a group cannot begin a session: setsid would do it in a child, which no signal of ours would reach.
    begin(setsid)
}

fn begin(command: &mut Command) -> Result<Child> {
    let name = command.get_program().to_string_lossy().into_owned();
    if INTERRUPTED.load(Ordering::SeqCst) {
        bail!("`{name}` was not started: interrupted");
    }
    command.stdin(Stdio::null());
    // A child inherits the signal mask: it must be able to receive what we take ourselves.
    let was_blocked = SigSet::thread_get_mask().is_ok_and(|mask| mask.contains(Signal::SIGTERM));
    let _ = handled().thread_unblock();
    let spawned = command.spawn();
    if was_blocked {
        let _ = handled().thread_block();
    }
    let child = spawned.with_context(|| format!("start `{name}`"))?;
    groups(|groups| groups.push(group_of(&child)));
    Ok(child)
}

/// Waits for what is left of a group that was told to end: cargo does so at once, the lab behind it has namespaces to remove.
fn drain(group: Pid) {
    let until = Instant::now() + GRACE;
    while killpg(group, None).is_ok() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn spawn(mut command: Command, limit: Duration, tee: bool) -> Result<(ExitStatus, Vec<String>)> {
    let name = command.get_program().to_string_lossy().into_owned();
    if tee {
        command.stdout(Stdio::piped());
    }
    let mut child = start(&mut command)?;
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
    let status = wait(&mut child, limit)?;
    let lines = lines.map_or_else(Vec::new, |reader| reader.join().unwrap_or_default());
    match status {
        Some(status) => Ok((status, lines)),
        None => bail!("`{name}` was ended: it ran longer than {} minutes", limit.as_secs() / 60),
    }
}

/// `None`: the limit was reached and the group has been ended.
pub(crate) fn wait(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let group = group_of(child);
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
    let status = child.wait();
    let _ = done.send(());
    let timed_out = watchdog.join().unwrap_or(false);
    if timed_out || INTERRUPTED.load(Ordering::SeqCst) {
        drain(group);
    }
    // Whatever still runs in the group would hold the pipe open.
    let _ = killpg(group, Signal::SIGKILL);
    groups(|groups| groups.retain(|other| *other != group));
    let status = status.context("wait for a child")?;
    Ok(if timed_out { None } else { Some(status) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cleans_up_behind_a_command_that_has_ended_is_waited_for() {
        let dir = std::env::temp_dir().join(format!("callgate-xtask-process-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        // The leader dies of SIGTERM; who came with it has something to do first.
        let script =
            "(trap 'sleep 0.3; touch cleaned; exit' TERM; touch ready; while :; do sleep 0.05; done) & exec sleep 60";
        let mut child = start(Command::new("sh").args(["-c", script]).current_dir(&dir)).unwrap();
        let until = Instant::now() + Duration::from_secs(30);
        while !dir.join("ready").exists() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        let ended = wait(&mut child, Duration::ZERO).unwrap();
        let cleaned = dir.join("cleaned").exists();
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!((ended, cleaned), (None, true));
    }
}
