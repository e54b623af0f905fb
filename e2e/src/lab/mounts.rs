//! What a node sees of the file system: its own /sys and /run; a peer its own /dev, a machine of a cluster its own /var.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use anyhow::{Context as _, ensure};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::{Mode, SFlag, makedev, mknod, umask};

/// What the node is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A client, server or router: /dev with a few devices and its own log, so that programs can be fooled.
    Peer,
    /// Runs containers: the host's devices and cgroups, shared mounts, /var and /run of its own.
    Machine,
}

/// The namespaces made, and where the node's syslog arrives.
pub(super) struct Made {
    pub(super) mnt: OwnedFd,
    pub(super) uts: OwnedFd,
    pub(super) log: UnixDatagram,
}

/// Device nodes a program may need: name, major, minor (Documentation/admin-guide/devices.txt).
const DEVICES: [(&str, u64, u64); 8] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
    ("ptmx", 5, 2),
    ("net/tun", 10, 200),
];

/// Kernel settings that a kubelet wants and would else change for the whole host (its setupKernelTunables): in a machine these
/// files stand before the real ones.
const TUNABLES: [(&str, &str); 6] = [
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];

const NONE: Option<&str> = None;

/// In a thread of its own, which changes its namespaces for good.
pub(super) fn make(net: &OwnedFd, dir: &Path, name: &str, kind: Kind) -> anyhow::Result<Made> {
    setns(net, CloneFlags::CLONE_NEWNET).context("setns")?;
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS).context("unshare")?;
    nix::unistd::sethostname(name).context("sethostname")?;
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE).context("private /")?;
    let log = match kind {
        Kind::Peer => peer(dir)?,
        Kind::Machine => machine(dir)?,
    };
    let open = |kind: &str| File::open(format!("/proc/thread-self/ns/{kind}")).context("the new namespace");
    Ok(Made { mnt: open("mnt")?.into(), uts: open("uts")?.into(), log })
}

fn peer(dir: &Path) -> anyhow::Result<UnixDatagram> {
    mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), NONE).context("/sys")?;
    // Its own: what a killed agent has named there goes with the node.
    if Path::new("/sys/fs/bpf").exists() {
        mount(Some("bpf"), "/sys/fs/bpf", Some("bpf"), MsFlags::empty(), NONE).context("/sys/fs/bpf")?;
    }
    bind(&dir.join("run"), Path::new("/run"))?;
    let dev = dir.join("dev");
    fs::create_dir_all(&dev).context("dev")?;
    mount(Some("tmpfs"), &dev, Some("tmpfs"), MsFlags::empty(), Some("mode=755")).context("tmpfs for /dev")?;
    for sub in ["net", "pts", "shm"] {
        fs::create_dir(dev.join(sub)).with_context(|| sub.to_string())?;
    }
    umask(Mode::empty());
    for (name, major, minor) in DEVICES {
        let mode = Mode::from_bits_truncate(0o666);
        mknod(&dev.join(name), SFlag::S_IFCHR, mode, makedev(major, minor)).with_context(|| name.to_string())?;
    }
    bind(Path::new("/dev/pts"), &dev.join("pts"))?;
    mount(Some(&dev), "/dev", NONE, MsFlags::MS_MOVE, NONE).context("/dev")?;
    UnixDatagram::bind("/dev/log").context("/dev/log")
}

fn machine(dir: &Path) -> anyhow::Result<UnixDatagram> {
    ensure!(!dir.starts_with("/var"), "{}: a machine has its own /var; set TMPDIR elsewhere", dir.display());
    // A fresh sysfs shows this network namespace's links, but no cgroups: they are carried over.
    let cgroups = dir.join("cgroups");
    fs::create_dir_all(&cgroups).context("cgroups")?;
    mount(Some("/sys/fs/cgroup"), &cgroups, NONE, MsFlags::MS_BIND | MsFlags::MS_REC, NONE).context("keep cgroups")?;
    mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), NONE).context("/sys")?;
    mount(Some(&cgroups), "/sys/fs/cgroup", NONE, MsFlags::MS_MOVE, NONE).context("bring cgroups back")?;
    mount(Some("bpf"), "/sys/fs/bpf", Some("bpf"), MsFlags::empty(), NONE).context("/sys/fs/bpf")?;
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), Some("mode=755")).context("/run")?;
    let var = dir.join("var");
    for sub in ["lib/kubelet", "log", "tmp", "cache"] {
        fs::create_dir_all(var.join(sub)).with_context(|| sub.to_string())?;
    }
    std::os::unix::fs::symlink("/run", var.join("run")).context("/var/run")?;
    bind(&var, Path::new("/var"))?;
    for (name, value) in TUNABLES {
        let file = dir.join(name.replace('/', "."));
        fs::write(&file, format!("{value}\n")).with_context(|| file.display().to_string())?;
        bind(&file, &Path::new("/proc/sys").join(name))?;
    }
    // Mounts made by the kubelet for a pod have to reach containers that ask for them.
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_SHARED, NONE).context("shared /")?;
    UnixDatagram::bind("/run/log").context("/run/log")
}

fn bind(from: &Path, to: &Path) -> anyhow::Result<()> {
    mount(Some(from), to, NONE, MsFlags::MS_BIND, NONE)
        .with_context(|| format!("{} on {}", from.display(), to.display()))
}
