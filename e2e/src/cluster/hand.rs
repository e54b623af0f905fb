//! A cluster by hand: one that stays until it is told to go (`cargo xtask cluster up|kubectl|down`).

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::tools;
use super::up::{Cluster, Plan};
use crate::lab::{names, signals};
use crate::wait;

/// Says where the cluster is. Only root can write there.
const STATE: &str = "/run/callgate-cluster.json";
/// What the holding process says.
const LOG: &str = "/run/callgate-cluster.log";
/// From nothing to Ready on a very busy machine.
const UP: Duration = Duration::from_secs(300);
/// Everything is killed and removed by then.
const DOWN: Duration = Duration::from_secs(60);

#[derive(Serialize, Deserialize)]
struct State {
    pid: i32,
    netns: String,
    kubeconfig: PathBuf,
    dir: PathBuf,
}

/// The process behind `up`, as long as that is under way: dropped, it is told to end, which removes what there is of its cluster,
/// and waited for.
struct Holder(Option<Child>);

impl Holder {
    fn has_ended(&mut self) -> anyhow::Result<bool> {
        self.0.as_mut().map_or(Ok(true), |child| Ok(child.try_wait().context("wait")?.is_some()))
    }

    /// It goes on without us.
    fn leave(mut self) {
        self.0 = None;
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let Some(child) = &mut self.0 else { return };
        // One that was waited for has given its number back.
        if matches!(child.try_wait(), Ok(None)) {
            let _ = kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM);
            let ended = wait::until_true("the holding process ends", DOWN, || Ok(child.try_wait()?.is_some()));
            if let Err(error) = ended {
                eprintln!("{error:#}: {LOG} says more");
            }
        }
    }
}

/// Starts a process that holds a cluster, and returns when that is Ready. On an error, and on the first signal, that process ends.
///
/// # Errors
/// If there is one already, or it cannot be built.
pub fn up() -> anyhow::Result<()> {
    signals::install_patient();
    if let Ok(state) = read() {
        ensure!(!runs(state.pid), "a cluster is up already: {}", state.dir.display());
        fs::remove_file(STATE).context(STATE)?;
    }
    let log = File::create(LOG).context(LOG)?;
    let mut command = Command::new(std::env::current_exe().context("this program")?);
    command
        .args(["cluster", "hold", "--state", STATE])
        .stdin(Stdio::null())
        .stdout(log.try_clone().context(LOG)?)
        .stderr(log);
    // SAFETY: between fork and exec only setsid(2) is called, a bare system call: what ends our group must not end the holder.
    unsafe { command.pre_exec(|| nix::unistd::setsid().map(|_| ()).map_err(std::io::Error::from)) };
    let mut holder = Holder(Some(command.spawn().context("the holding process")?));
    let mut shown = 0;
    wait::until_true("the cluster is up", UP, || {
        let text = fs::read_to_string(LOG).unwrap_or_default();
        print!("{}", &text[shown..]);
        shown = text.len();
        ensure!(!signals::asked_to_end(), "ended by a signal before the cluster was up");
        ensure!(!holder.has_ended()?, "the cluster could not be built");
        Ok(read().is_ok())
    })?;
    let state = read()?;
    holder.leave();
    println!(
        "\n  cargo xtask cluster kubectl get nodes -o wide\n  files: {}\n  cargo xtask cluster down",
        state.dir.display()
    );
    Ok(())
}

/// The process behind `up`: builds a cluster, says in `file` where it is, and keeps it until a signal comes (`lab::signals`).
///
/// # Errors
/// If it cannot be built.
pub fn hold(file: Option<&Path>) -> anyhow::Result<()> {
    let plan = Plan { nodes: 2, servers: 1, masquerade: false };
    let cluster = Cluster::up(&plan, &mut |line| println!("{line}"))?;
    let state = State {
        pid: std::process::id() as i32,
        netns: cluster.control_plane.netns().into(),
        kubeconfig: cluster.kubeconfig.clone(),
        dir: cluster.dir.clone(),
    };
    if let Some(file) = file {
        let partial = file.with_extension("part");
        fs::write(&partial, serde_json::to_vec(&state)?).context("state")?;
        fs::rename(&partial, file).with_context(|| file.display().to_string())?;
    }
    loop {
        std::thread::park();
    }
}

/// Runs kubectl as administrator in place of this process.
///
/// # Errors
/// If no cluster is up.
pub fn kubectl(args: &[String]) -> anyhow::Result<()> {
    let state = read()?;
    ensure!(runs(state.pid), "the cluster is gone; cargo xtask cluster down removes what it left");
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={}/{}", names::NETNS_DIR, state.netns)).arg("--").arg(tools::tool("kubectl")?);
    Err(command.args(args).env("KUBECONFIG", state.kubeconfig).exec()).context("nsenter")
}

/// Ends the cluster and returns when all of it is removed.
///
/// # Errors
/// If it does not end in time.
pub fn down() -> anyhow::Result<()> {
    let Ok(state) = read() else { bail!("no cluster is up ({STATE} is not there)") };
    if runs(state.pid) {
        kill(Pid::from_raw(state.pid), Signal::SIGTERM).context("tell it to end")?;
        wait::until_true("the cluster is down", DOWN, || Ok(!runs(state.pid)))?;
    }
    names::sweep_dead();
    fs::remove_file(STATE).context(STATE)
}

fn read() -> anyhow::Result<State> {
    let text = fs::read(STATE).with_context(|| format!("no cluster is up ({STATE}): cargo xtask cluster up"))?;
    serde_json::from_slice(&text).context(STATE)
}

/// Whether this is a living process that holds a cluster, and not another one that has got its number since.
fn runs(pid: i32) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).contains("cluster\0hold")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Something that cleans up when it is told to end, up to where it listens.
    fn holder(dir: &Path) -> Holder {
        let script = "trap 'touch cleaned; exit' TERM; touch ready; while :; do sleep 0.02; done";
        let child = Command::new("sh").args(["-c", script]).current_dir(dir).spawn().unwrap();
        wait::until_true("it listens", DOWN, || Ok(dir.join("ready").exists())).unwrap();
        Holder(Some(child))
    }

    #[test]
    fn who_holds_a_cluster_that_is_not_wanted_any_more_ends_and_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        drop(holder(dir.path()));
        assert!(dir.path().join("cleaned").exists());
    }

    #[test]
    fn who_holds_a_cluster_that_is_up_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let holder = holder(dir.path());
        let pid = Pid::from_raw(holder.0.as_ref().unwrap().id() as i32);
        holder.leave();
        assert_eq!((kill(pid, None), dir.path().join("cleaned").exists()), (Ok(()), false));
        kill(pid, Signal::SIGTERM).unwrap();
        nix::sys::wait::waitpid(pid, None).unwrap();
    }
}
