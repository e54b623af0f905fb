//! Processes of pods, as the host sees them.

use std::fs;
use std::path::Path;

use nix::unistd::Pid;

/// Those of the pod with this uid whose program has this name. A container's cgroup is below its pod's, which has the uid in its name.
pub(super) fn pids(uid: &str, program: &str) -> Vec<Pid> {
    let pod = format!("/pod{uid}/");
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut pids: Vec<Pid> = processes
        .filter(|entry| is(&entry.path(), &pod, program))
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok().map(Pid::from_raw))
        .collect();
    pids.sort_by_key(|pid| pid.as_raw());
    pids
}

fn is(process: &Path, pod: &str, program: &str) -> bool {
    let cgroups = fs::read_to_string(process.join("cgroup")).unwrap_or_default();
    let line = fs::read(process.join("cmdline")).unwrap_or_default();
    let first = line.split(|octet| *octet == 0).next().unwrap_or_default();
    cgroups.contains(pod) && Path::new(&*String::from_utf8_lossy(first)).file_name().is_some_and(|name| name == program)
}
