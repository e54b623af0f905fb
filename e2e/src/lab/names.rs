//! Names of namespaces and directories, and the sweep that removes what a dead run left behind.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::cgroups;
use crate::wait;

/// Where iproute2 keeps named network namespaces.
pub const NETNS_DIR: &str = "/run/netns";

/// How often a namespace is looked through for processes.
const ROUNDS: usize = 3;
/// How long the labs of this process are looked for on its way out; whoever told it to end may wait no longer than 20 s.
const GONE: Duration = Duration::from_secs(15);

static NEXT: AtomicU32 = AtomicU32::new(1);

/// One lab of one process: `cg-PID-N`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LabId {
    pid: u32,
    serial: u32,
}

impl LabId {
    /// The next lab of this process.
    pub fn next() -> Self {
        Self { pid: std::process::id(), serial: NEXT.fetch_add(1, Ordering::Relaxed) }
    }

    /// Name of the network namespace of a node, such as `cg-4711-1-gw`.
    pub fn netns(&self, node: &str) -> String {
        format!("cg-{}-{}-{node}", self.pid, self.serial)
    }

    /// Directory for everything the lab writes.
    pub fn dir(&self) -> PathBuf {
        std::env::temp_dir().join(format!("cg-{}-{}", self.pid, self.serial))
    }
}

/// The directory of a lab: dropped, it is removed. What writes there has to be dropped before.
#[derive(Debug)]
pub struct Files(PathBuf);

impl Files {
    /// Of this lab.
    pub fn of(lab: LabId) -> Self {
        Self(lab.dir())
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        if !kept() {
            drop(fs::remove_dir_all(&self.0));
        }
    }
}

/// Whether people want to look at what labs leave behind.
fn kept() -> bool {
    std::env::var_os("CALLGATE_KEEP_LABS").is_some()
}

/// The process that owns a name of ours: `cg-PID-N` or `cg-PID-N-NODE`.
fn owner(name: &str) -> Option<u32> {
    let mut parts = name.strip_prefix("cg-")?.split('-');
    let pid = parts.next()?.parse().ok()?;
    parts.next()?.parse::<u32>().ok()?;
    Some(pid)
}

/// Removes the labs of processes that are gone.
pub fn sweep_dead() {
    sweep(|pid| !Path::new("/proc").join(pid.to_string()).exists());
}

/// Removes all labs of this process: for the way out after a signal.
pub fn sweep_own() {
    // What was under way at one look is found by the next.
    let gone = wait::until_true("nothing of the lab is left", GONE, || Ok(sweep(|pid| pid == std::process::id()) == 0));
    if let Err(error) = gone {
        eprintln!("{error:#}; callgate-lab sweep removes it");
    }
}

/// Removes what there is of labs; how much that was.
fn sweep(ours: impl Fn(u32) -> bool) -> usize {
    let names = |dir: &Path| -> Vec<String> {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.retain(|name| owner(name).is_some_and(&ours));
        names.sort();
        names
    };
    let netns = names(Path::new(NETNS_DIR));
    netns.iter().for_each(|name| remove_netns(name));
    // Pods have network namespaces without a name of ours: they are found by cgroup.
    let mut cgroups = cgroups::names();
    cgroups.retain(|name| owner(name).is_some_and(&ours));
    cgroups.iter().for_each(|name| cgroups::remove(name));
    let temp = std::env::temp_dir();
    let dirs = if kept() { Vec::new() } else { names(&temp) };
    dirs.iter().for_each(|name| drop(fs::remove_dir_all(temp.join(name))));
    netns.len() + cgroups.len() + dirs.len()
}

/// Kills what runs in a namespace and removes it. What is gone already is no error.
pub fn remove_netns(name: &str) {
    let Ok(meta) = fs::metadata(Path::new(NETNS_DIR).join(name)) else { return };
    // A supervisor may start another one before it is its own turn.
    for _ in 0..ROUNDS {
        let pids = pids_in(meta.ino());
        if pids.is_empty() {
            break;
        }
        for pid in pids {
            let _ = kill(pid, Signal::SIGKILL);
        }
    }
    drop(Command::new("ip").args(["netns", "del", name]).output());
}

/// Processes whose network namespace has this inode; our own process is never among them.
pub fn pids_in(netns_inode: u64) -> Vec<Pid> {
    let wanted = format!("net:[{netns_inode}]");
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let link = fs::read_link(entry.path().join("ns/net"));
        if link.is_ok_and(|link| link.as_os_str() == wanted.as_str()) && pid != std::process::id() as i32 {
            pids.push(Pid::from_raw(pid));
        }
    }
    pids.sort_by_key(|pid| pid.as_raw());
    pids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_our_own_form_have_an_owner() {
        let owners: Vec<Option<u32>> =
            ["cg-12-3-gw", "cg-12-3", "cg-12", "cg-x-1-gw", "cg-12-gw", "cni-12-3", "cg--1-2"]
                .iter()
                .map(|name| owner(name))
                .collect();
        assert_eq!(owners, [Some(12), Some(12), None, None, None, None, None]);
    }
}
