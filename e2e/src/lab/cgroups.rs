//! A cgroup of its own for each machine, in every hierarchy the host has: made, emptied, removed.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::signals;
use crate::wait;

/// How long killed processes may take to leave their cgroup.
const EMPTY: Duration = Duration::from_secs(10);

/// Makes the cgroup `name` at the top of every hierarchy.
///
/// # Errors
/// If the host has none, or one cannot be written.
pub fn make(name: &str) -> anyhow::Result<()> {
    let _making = signals::making();
    let tops = tops();
    anyhow::ensure!(!tops.is_empty(), "no cgroup hierarchy is mounted: containers cannot run here");
    for (top, _) in tops.iter().filter(|(_, one_for_all)| !*one_for_all || tops.len() == 1) {
        let dir = top.join(name);
        fs::create_dir(&dir).with_context(|| dir.display().to_string())?;
        // A new cpuset allows nothing; tasks can only enter one that does.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if let Ok(all) = fs::read(top.join(file)) {
                fs::write(dir.join(file), all).with_context(|| dir.join(file).display().to_string())?;
            }
        }
    }
    Ok(())
}

/// Names of cgroups at the top of any hierarchy.
pub(super) fn names() -> Vec<String> {
    let dirs = tops().into_iter().flat_map(|(top, _)| fs::read_dir(top).into_iter().flatten().flatten());
    let mut names: Vec<String> = dirs.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names.dedup();
    names
}

/// Kills everything in the cgroup `name` and removes it. What is gone already is no error.
pub fn remove(name: &str) {
    let dirs: Vec<PathBuf> = tops().into_iter().map(|(top, _)| top.join(name)).filter(|dir| dir.exists()).collect();
    let removed = wait::until_true("cgroup is empty", EMPTY, || {
        // Again at each look: what is killed may have had time for a child.
        dirs.iter().for_each(|dir| kill_all(dir));
        Ok(dirs.iter().filter(|dir| !remove_tree(dir)).count() == 0)
    });
    if let Err(error) = removed {
        eprintln!("{name}: {error:#}");
    }
}

/// Mounted hierarchies, and whether it is the one of version 2.
fn tops() -> Vec<(PathBuf, bool)> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    parse(&mounts)
}

/// fstab(5): device, directory, type. In a node, hierarchies may be seen twice.
fn parse(mounts: &str) -> Vec<(PathBuf, bool)> {
    let mut tops = Vec::new();
    for line in mounts.lines() {
        let mut words = line.split(' ').skip(1);
        let (Some(dir), Some(kind)) = (words.next(), words.next()) else { continue };
        if dir.starts_with("/sys/fs/cgroup") && ["cgroup", "cgroup2"].contains(&kind) {
            tops.push((PathBuf::from(dir), kind == "cgroup2"));
        }
    }
    tops
}

fn kill_all(dir: &Path) {
    for pid in fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default().lines() {
        if let Ok(pid) = pid.parse() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
    for sub in subs(dir) {
        kill_all(&sub);
    }
}

/// A cgroup can be removed when it has neither processes nor children. Whether it is gone.
fn remove_tree(dir: &Path) -> bool {
    for sub in subs(dir) {
        remove_tree(&sub);
    }
    fs::remove_dir(dir).is_ok() || !dir.exists()
}

fn subs(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_are_found_among_other_mounts() {
        let mounts = "proc /proc proc rw 0 0\ntmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\ncgroup2 /elsewhere cgroup2 rw 0 0\n";
        let expected = [(PathBuf::from("/sys/fs/cgroup/cpu"), false), (PathBuf::from("/sys/fs/cgroup/unified"), true)];
        assert_eq!(parse(mounts), expected);
    }
}
