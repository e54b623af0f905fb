//! A process in a lab: its output goes to a file, it is killed when dropped.

use std::fmt::Display;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::signals;
use crate::wait;

/// How long a process may take to end after SIGTERM.
const STOP: Duration = Duration::from_secs(20);

/// A running program.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts `command`; stdout and stderr go to `log`.
    ///
    /// # Errors
    /// If the program cannot be started, with its name and what to install.
    pub fn spawn(name: &str, mut command: Command, log: &Path) -> anyhow::Result<Self> {
        let file = create(log)?;
        command.stdout(Stdio::from(file.try_clone().context("log")?));
        Self::start(name, command, log, file)
    }

    /// Starts `command` with stdin and stdout on `line`; stderr goes to `log`.
    ///
    /// # Errors
    /// As `spawn`.
    pub fn spawn_on(name: &str, mut command: Command, log: &Path, line: &UnixStream) -> anyhow::Result<Self> {
        let end = || anyhow::Ok(Stdio::from(OwnedFd::from(line.try_clone().context("line")?)));
        command.stdin(end()?).stdout(end()?);
        Self::start(name, command, log, create(log)?)
    }

    fn start(name: &str, mut command: Command, log: &Path, stderr: File) -> anyhow::Result<Self> {
        command.stderr(Stdio::from(stderr));
        let program = command.get_program().to_string_lossy().into_owned();
        let _making = signals::making();
        let child = command.spawn().with_context(|| format!("start {program} ({name}): is it installed?"))?;
        Ok(Self { name: name.into(), child, log: log.into(), ended: None })
    }

    /// Process id.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    /// Takes the pipe to its stdin, if it has one.
    pub fn stdin(&mut self) -> Option<std::process::ChildStdin> {
        self.child.stdin.take()
    }

    /// Sends a signal; a process that has ended gets none.
    pub fn signal(&mut self, signal: Signal) {
        if self.exit_status().is_none() {
            let _ = kill(self.pid(), signal);
        }
    }

    /// How it ended, `None` while it runs.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().ok().flatten();
        }
        self.ended
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// After `limit`.
    pub fn wait(&mut self, limit: Duration) -> anyhow::Result<ExitStatus> {
        let what = format!("end of {}", self.name);
        wait::until(&what, limit, || Ok(self.exit_status())).with_context(|| self.tail(15))
    }

    /// SIGTERM, then waits.
    ///
    /// # Errors
    /// If it does not end in time; it is then killed.
    pub fn stop(&mut self) -> anyhow::Result<ExitStatus> {
        self.signal(Signal::SIGTERM);
        let ended = self.wait(STOP);
        if ended.is_err() {
            self.kill9();
        }
        ended
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill9(&mut self) {
        if self.exit_status().is_none() {
            drop(self.child.kill());
            self.ended = self.child.wait().ok();
        }
    }

    /// What it has written so far.
    pub fn output(&self) -> String {
        let mut text = Vec::new();
        drop(File::open(&self.log).and_then(|mut file| file.read_to_end(&mut text)));
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Waits until its output contains `pattern`; fails at once if it ends before.
    ///
    /// # Errors
    /// As said, with the end of its output.
    pub fn wait_output(&mut self, pattern: &str, limit: Duration) -> anyhow::Result<()> {
        let what = format!("{}: {pattern:?} in its output", self.name);
        wait::until_true(&what, limit, || {
            if self.output().contains(pattern) {
                return Ok(true);
            }
            match self.exit_status() {
                Some(status) => bail!("{} ended early: {status}", self.name),
                None => Ok(false),
            }
        })
        .with_context(|| self.tail(15))
    }

    /// The last lines of its output, under its name.
    pub fn tail(&self, lines: usize) -> String {
        tail(&self.log, lines)
    }
}

fn create(log: &Path) -> anyhow::Result<File> {
    File::create(log).with_context(|| format!("{}", log.display()))
}

/// The last lines of a file, under its name.
pub fn tail(path: &Path, lines: usize) -> String {
    let text = fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let all: Vec<&str> = text.lines().collect();
    format!("--- {}\n{}", path.display(), all[all.len().saturating_sub(lines)..].join("\n"))
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill9();
    }
}

/// Memory of a process, bytes: `VmRSS` for what it has now, `VmHWM` for the most it has had (proc(5), status).
///
/// # Errors
/// If it has ended.
pub fn memory(pid: impl Display, field: &str) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).with_context(|| format!("process {pid}"))?;
    let value = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let kib = value.with_context(|| format!("process {pid} has no {field}"))?.trim().trim_end_matches(" kB");
    Ok(kib.parse::<u64>().with_context(|| field.to_owned())? << 10)
}
