//! What an agent meets when it starts: a host that changes meanwhile, a disk that is full, sysctls that were changed since; and what it
//! opens.

use std::io::{BufRead as _, BufReader};
use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use callgate_agent::kernel::{Kernel, Options, Record};
use callgate_agent::sockets::Emitter;
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::lab::{Lab, root, sh};

const PATIENCE: Duration = Duration::from_secs(60);

/// A standalone agent, and what it logs.
struct Standalone {
    process: Child,
    lines: Receiver<String>,
}

impl Standalone {
    fn start(dir: &TempDir, flags: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_callgate-dataplane"));
        command.args(["standalone", "--keep", "--manifests"]).arg(dir.path().join("manifests"));
        command.arg("--state-dir").arg(dir.path().join("state")).arg("--api").arg(dir.path().join("api.sock"));
        let mut process = command.args(flags).env("RUST_LOG", "info").stderr(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = channel();
        let log = BufReader::new(process.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                eprintln!("{line}");
                let _ = sender.send(line);
            }
        });
        Self { process, lines }
    }

    /// Waits until it says this; everything until then.
    fn says(&self, what: &str) -> String {
        let mut said = String::new();
        while !said.contains(what) {
            said += &self.lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{what:?} is not said: {said}"));
            said.push('\n');
        }
        said
    }

    fn end(mut self) {
        kill(Pid::from_raw(self.process.id().cast_signed()), Signal::SIGTERM).unwrap();
        assert!(self.process.wait().unwrap().success());
    }
}

impl Drop for Standalone {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A directory with manifests, of which there are none.
fn place() -> TempDir {
    let dir = TempDir::new().unwrap();
    std::fs::create_dir(dir.path().join("manifests")).unwrap();
    dir
}

#[test]
fn an_address_that_comes_while_the_first_configuration_is_put_into_force_is_noticed() {
    if !root() {
        return;
    }
    let _lab = Lab::new();
    let dir = place();
    // Its manifest comes from somebody who is slow.
    let slow = dir.path().join("manifests/slow.yaml");
    nix::unistd::mkfifo(&slow, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let agent = Standalone::start(&dir, &["--external-address", "203.0.113.9"]);
    // Opened once the agent reads.
    let writer = std::fs::File::options().write(true).open(&slow).unwrap();
    sh("ip addr add 203.0.113.9/32 dev lo");
    std::fs::write(dir.path().join("whole"), "").unwrap();
    std::fs::rename(dir.path().join("whole"), &slow).unwrap();
    drop(writer);
    agent.says("the host has the address of --external-address");
    agent.end();
}

#[test]
fn an_agent_starts_anew_on_a_disk_that_has_become_full() {
    if !root() {
        return;
    }
    let _lab = Lab::new();
    let dir = place();
    let state = dir.path().join("state");
    std::fs::create_dir(&state).unwrap();
    // Seen by this thread and its children alone.
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    sh(&format!("mount --make-rprivate / && mount -t tmpfs -o size=1m callgate-test {}", state.display()));
    let first = Standalone::start(&dir, &[]);
    first.says("programmed");
    first.end();
    sh(&format!("dd if=/dev/zero of={}/fill bs=4k 2>/dev/null || true", state.display()));
    std::fs::write(state.join("more"), "x").unwrap_err();
    let second = Standalone::start(&dir, &[]);
    second.says("programmed");
    second.end();
    sh(&format!("umount {}", state.display()));
}

#[test]
fn a_wider_range_of_the_hosts_ports_refuses_a_first_start_but_ends_no_run_that_has_begun() {
    if !root() {
        return;
    }
    let lab = Lab::new();
    let kernel = lab.start();
    let ports = || sh("sysctl -n net.ipv4.ip_local_port_range net.ipv4.ip_local_reserved_ports");
    sh("sysctl -qw net.ipv4.ip_local_port_range='1024 65535'");
    let refused = |options: Options, record: Option<Record>| {
        Kernel::start(options, record, Box::new(|_| Ok(()))).err().map(|error| error.to_string())
    };
    let said = "--external-ports 10000-29999,61000-65535: 10000-29999 overlaps net.ipv4.ip_local_port_range 1024-65535, whose ports the \
                host's own connections use; choose ranges outside it, narrow that sysctl, or add 10000-29999 to \
                net.ipv4.ip_local_reserved_ports, which keeps those connections off";
    let others = Options { external_ports: "10000-29999".parse().unwrap(), ..Options::default() };
    let record = lab.record();
    assert_eq!(refused(Options::default(), None).as_deref(), Some(said), "{}", ports());
    assert!(refused(others, record).is_some(), "not the ports of the run before");
    drop(kernel);
    lab.start().stop().unwrap();
    sh("sysctl -qw net.ipv4.ip_local_reserved_ports=10000-29999,61000-65535");
    assert_eq!(refused(Options::default(), None), None, "{}", ports());
    lab.start().stop().unwrap();
}

#[test]
fn an_agent_has_no_udp_port_open_and_knows_path_mtus_all_the_same() {
    if !root() {
        return;
    }
    let _lab = Lab::new();
    let dir = place();
    let agent = Standalone::start(&dir, &[]);
    agent.says("programmed");
    let emitter = Emitter::open(Options::default().sent.value).unwrap();
    let mtu = || emitter.path_mtu(Ipv4Addr::new(192, 0, 2, 10)).unwrap();
    let before = mtu();
    sh("ip link set cg-out mtu 1400");
    assert_eq!((before, mtu()), (1500, 1400));
    // Without its heading.
    assert_eq!(sh("tail -n +2 /proc/self/net/udp"), "");
    agent.end();
}
