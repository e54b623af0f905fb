//! However a cluster ends, the host is as it was: namespaces, processes, cgroups, mounts, directories, kernel settings.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Child, Command, Stdio};

use callgate_e2e::peers::program;
use callgate_e2e::wait;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::shared::{SOON, can_run};

/// What the kubelet and others would like to have otherwise.
const SETTINGS: [&str; 8] = [
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "net/ipv4/ip_forward",
    "net/netfilter/nf_conntrack_max",
    "net/ipv4/conf/all/route_localnet",
];

/// Everything a cluster of process `pid` could leave, and what it could change.
fn traces(pid: u32) -> BTreeSet<String> {
    let mark = format!("cg-{pid}-");
    let mut found = BTreeSet::new();
    let list =
        |dir: &str| fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path().display().to_string());
    let mut dirs =
        vec!["/run/netns".to_owned(), std::env::temp_dir().display().to_string(), "/sys/fs/cgroup".to_owned()];
    dirs.extend(list("/sys/fs/cgroup"));
    found.extend(dirs.iter().flat_map(|dir| list(dir)).filter(|path| path.contains(&mark)));
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    found.extend(mounts.lines().filter(|line| line.contains(&mark)).map(str::to_owned));
    for process in list("/proc") {
        let line = fs::read(format!("{process}/cmdline")).unwrap_or_default();
        let groups = fs::read_to_string(format!("{process}/cgroup")).unwrap_or_default();
        if String::from_utf8_lossy(&line).contains(&mark) || groups.contains(&mark) {
            found.insert(format!("{process} {}", String::from_utf8_lossy(&line).replace('\0', " ")));
        }
    }
    found
}

/// What of the host itself must not change.
fn host() -> Vec<String> {
    let mut host: Vec<String> = SETTINGS
        .iter()
        .map(|name| format!("{name}={}", fs::read_to_string(format!("/proc/sys/{name}")).unwrap_or_default().trim()))
        .collect();
    for args in [["-o", "link"], ["route", "show"], ["rule", "show"]] {
        let output = Command::new("ip").args(args).output().unwrap();
        // Other labs that run at the same time are in namespaces of their own.
        host.extend(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned));
    }
    for dir in [
        "/etc/cni",
        "/opt/cni",
        "/opt/containerd",
        "/var/lib/kubelet",
        "/var/lib/cni",
        "/var/log/pods",
        "/run/containerd",
    ] {
        host.push(format!("{dir} {}", fs::exists(dir).unwrap()));
    }
    host
}

/// A cluster in a process of its own, which is up.
fn hold() -> Child {
    let mut command = Command::new(program("callgate-lab").unwrap());
    let log = std::env::temp_dir().join(format!("callgate-hold-{}", std::process::id()));
    let file = fs::File::create(&log).unwrap();
    command.args(["cluster", "hold"]).stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
    let mut child = command.spawn().unwrap();
    let up = wait::until_true("a cluster is up", SOON * 3, || {
        anyhow::ensure!(child.try_wait()?.is_none(), "it has ended");
        Ok(fs::read_to_string(&log)?.contains("pods can be made"))
    });
    let said = fs::read_to_string(&log).unwrap();
    fs::remove_file(&log).unwrap();
    up.unwrap_or_else(|error| panic!("{error:#}\n{said}"));
    child
}

#[test]
fn a_cluster_that_is_told_to_end_removes_all_of_itself() {
    if !can_run("a_cluster_that_is_told_to_end_removes_all_of_itself") {
        return;
    }
    let before = host();
    let mut child = hold();
    assert!(traces(child.id()).len() > 10, "the search finds a living cluster");
    assert_eq!(host(), before, "while it runs");
    kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(128 + 15));
    assert_eq!(traces(child.id()), BTreeSet::new());
    assert_eq!(host(), before);
}

#[test]
fn what_a_killed_cluster_leaves_is_removed_by_the_sweep() {
    if !can_run("what_a_killed_cluster_leaves_is_removed_by_the_sweep") {
        return;
    }
    let before = host();
    let mut child = hold();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(traces(child.id()).len() > 10, "kubelets and pods go on without their parent");
    let status = Command::new(program("callgate-lab").unwrap()).arg("sweep").status().unwrap();
    assert!(status.success());
    assert_eq!(traces(child.id()), BTreeSet::new());
    assert_eq!(host(), before);
}
