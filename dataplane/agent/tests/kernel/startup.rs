//! What an agent meets when it starts: a host that changes meanwhile, a disk that is full, sysctls that were changed since.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

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
