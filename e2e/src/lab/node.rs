//! A node: a network namespace with mount and UTS namespaces of its own, so that it has its own /run, /sys, syslog and name.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, anyhow, bail};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::mounts::{self, Kind};
use super::names::{self, LabId};
use super::process::Process;
use super::signals;
use super::syslog::Syslog;

/// A host of the lab.
#[derive(Debug)]
pub struct Node {
    /// Short name, such as `gw` or `c1`.
    pub name: String,
    /// Where its files are: logs, and `run/`, which programs in the node see as /run.
    pub dir: PathBuf,
    /// What its programs log.
    pub syslog: Syslog,
    netns: String,
    net: OwnedFd,
    mnt: OwnedFd,
    uts: OwnedFd,
    serial: std::sync::atomic::AtomicU32,
}

impl Node {
    /// Makes a node for peers with only a loopback device, up; no IPv6.
    ///
    /// # Errors
    /// Without root, or if iproute2 is missing.
    pub fn create(lab: LabId, name: &str) -> anyhow::Result<Self> {
        Self::create_as(lab, name, Kind::Peer)
    }

    /// As `create`, with the files that a node of this kind sees.
    ///
    /// # Errors
    /// As `create`.
    pub fn create_as(lab: LabId, name: &str, kind: Kind) -> anyhow::Result<Self> {
        let _making = signals::making();
        let netns = lab.netns(name);
        let dir = lab.dir().join(name);
        fs::create_dir_all(dir.join("run/pptp")).with_context(|| format!("{}", dir.display()))?;
        run(Command::new("ip").args(["netns", "add", &netns]))?;
        let net: OwnedFd = File::open(Path::new(names::NETNS_DIR).join(&netns)).context("open the namespace")?.into();
        let made = std::thread::scope(|scope| {
            let made = scope.spawn(|| mounts::make(&net, &dir, name, kind));
            made.join().map_err(|_| anyhow!("thread that makes the mounts of {name} panicked"))?
        })
        .with_context(|| format!("mounts of node {name}"))?;
        let syslog = Syslog::start(made.log, &dir.join("syslog"))?;
        let serial = std::sync::atomic::AtomicU32::new(0);
        let node = Self { name: name.into(), dir, syslog, netns, net, mnt: made.mnt, uts: made.uts, serial };
        node.sysctl("net/ipv6/conf/all/disable_ipv6", "1")?;
        node.sysctl("net/ipv6/conf/default/disable_ipv6", "1")?;
        node.ip("link set lo up")?;
        Ok(node)
    }

    /// Name of the network namespace for `ip -n`.
    pub fn netns(&self) -> &str {
        &self.netns
    }

    /// A command that will run in this node.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        let (net, uts, mnt) = (self.net.as_raw_fd(), self.uts.as_raw_fd(), self.mnt.as_raw_fd());
        command.stdin(Stdio::null());
        // SAFETY: between fork and exec only setns(2) is called, which is a bare system call; all fds are inherited open.
        unsafe {
            command.pre_exec(move || {
                enter(net, libc::CLONE_NEWNET)?;
                enter(uts, libc::CLONE_NEWUTS)?;
                enter(mnt, libc::CLONE_NEWNS)
            });
        }
        command
    }

    /// Runs a command to its end and gives its stdout.
    ///
    /// # Errors
    /// If it fails, with what it said.
    pub fn run(&self, program: &str, args: &[&str]) -> anyhow::Result<String> {
        run(self.command(program).args(args)).with_context(|| format!("in node {}", self.name))
    }

    /// Runs lines of `ip` commands in one process.
    ///
    /// # Errors
    /// If one fails.
    pub fn ip(&self, lines: &str) -> anyhow::Result<()> {
        // Not in the mount namespace: there /run/netns is hidden, by which the other nodes are named.
        let mut command = Command::new("ip");
        let net = self.net.as_raw_fd();
        // SAFETY: between fork and exec only setns(2) is called, which is a bare system call; the fd is inherited open.
        unsafe {
            command.pre_exec(move || enter(net, libc::CLONE_NEWNET));
        }
        command.args(["-batch", "-"]);
        self.feed(command, lines)
    }

    /// Loads nftables rules.
    ///
    /// # Errors
    /// If nft refuses them.
    pub fn nft(&self, rules: &str) -> anyhow::Result<()> {
        let mut command = self.command("nft");
        command.args(["-f", "-"]);
        self.feed(command, rules)
    }

    fn feed(&self, mut command: Command, input: &str) -> anyhow::Result<()> {
        let program = command.get_program().to_string_lossy().into_owned();
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("{program}: is it installed?"))?;
        if let Some(mut stdin) = child.stdin.take() {
            drop(stdin.write_all(input.as_bytes()));
        }
        let output = child.wait_with_output().with_context(|| program.clone())?;
        if !output.status.success() {
            bail!("{program} in node {}: {}", self.name, String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }

    /// Starts a program in this node; its output goes to a file in `dir`.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn spawn(&self, name: &str, command: Command) -> anyhow::Result<Process> {
        let (title, log) = self.title(name);
        Process::spawn(&title, command, &log)
    }

    /// Starts a program in this node with stdin and stdout on `line`; its stderr goes to a file in `dir`.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn spawn_on(&self, name: &str, command: Command, line: &UnixStream) -> anyhow::Result<Process> {
        let (title, log) = self.title(name);
        Process::spawn_on(&title, command, &log, line)
    }

    /// What the next process is called in errors, and its log file.
    fn title(&self, name: &str) -> (String, PathBuf) {
        let serial = self.serial.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
        (format!("{name} in {}", self.name), self.dir.join(format!("{serial:02}-{name}.log")))
    }

    /// Writes a sysctl of this node; `path` with slashes, below /proc/sys.
    ///
    /// # Errors
    /// If there is no such sysctl.
    pub fn sysctl(&self, path: &str, value: &str) -> anyhow::Result<()> {
        let path = Path::new("/proc/sys").join(path);
        self.within(|| fs::write(&path, value).with_context(|| format!("{}", path.display())))?
    }

    /// Runs `work` on a thread that is in this node: sockets it opens stay there.
    ///
    /// # Errors
    /// If the thread cannot enter the node, or panics.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> anyhow::Result<T> {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                unshare(CloneFlags::CLONE_FS).context("unshare")?;
                setns(&self.net, CloneFlags::CLONE_NEWNET).context("enter the network namespace")?;
                setns(&self.mnt, CloneFlags::CLONE_NEWNS).context("enter the mount namespace")?;
                Ok(work())
            });
            inside.join().map_err(|_| anyhow!("thread in node {} panicked", self.name))?
        })
    }

    /// Puts two bytes in the place of /dev/random: pptp-linux takes its Call ID from there (0 makes it fall back to rand()).
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn force_call_id(&self, id: u16) -> anyhow::Result<()> {
        self.within(|| {
            drop(fs::remove_file("/dev/random"));
            fs::write("/dev/random", id.to_ne_bytes()).context("/dev/random of the node")
        })?
    }

    /// Processes in this node.
    pub fn pids(&self) -> Vec<Pid> {
        let inode = fs::metadata(format!("/proc/self/fd/{}", self.net.as_raw_fd())).map(|meta| meta.ino());
        inode.map(names::pids_in).unwrap_or_default()
    }

    /// Sends a signal to every process in this node.
    pub fn signal_all(&self, signal: Signal) {
        for pid in self.pids() {
            let _ = kill(pid, signal);
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        signals::wait_if_ending();
        names::remove_netns(&self.netns);
    }
}

/// setns(2), for use between fork and exec.
fn enter(fd: i32, kind: i32) -> std::io::Result<()> {
    // SAFETY: setns takes two integers and touches no memory of ours.
    if unsafe { libc::setns(fd, kind) } == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// Runs a command to its end and gives its stdout.
///
/// # Errors
/// If it fails, with what it said.
pub fn run(command: &mut Command) -> anyhow::Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{program}: is it installed?"))?;
    if !output.status.success() {
        let args: Vec<_> = command.get_args().map(OsStr::to_string_lossy).collect();
        bail!("{program} {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
