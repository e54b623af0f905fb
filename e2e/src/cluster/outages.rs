//! What can happen to a cluster: its API server goes, its etcd is slow, a program in a pod is killed.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Cluster;
use super::pods;
use crate::wait;

/// How long the API server may take to be ready again.
const READY: Duration = Duration::from_secs(120);

/// For how long etcd stands still, and runs in between. Neither its data nor its clients' connections suffer: as with a disk that answers late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stall {
    /// Every request waits for that long.
    pub still: Duration,
    /// Then they are served for that long.
    pub runs: Duration,
    /// How often.
    pub times: u32,
}

impl Stall {
    /// Stops and continues this process, as often as it says; the process runs afterwards.
    ///
    /// # Errors
    /// If there is no such process.
    pub fn of(self, process: Pid) -> anyhow::Result<()> {
        for _ in 0..self.times {
            kill(process, Signal::SIGSTOP).context("stop a process")?;
            wait::let_pass(self.still);
            kill(process, Signal::SIGCONT).context("continue a process")?;
            wait::let_pass(self.runs);
        }
        Ok(())
    }
}

impl Cluster {
    /// Ends the API server with this signal, and waits until it has ended. Who was connected notices at once.
    ///
    /// # Errors
    /// If it does not end.
    pub fn end_api_server(&mut self, signal: Signal) -> anyhow::Result<()> {
        let process = &mut self.control.api_server.process;
        process.signal(signal);
        process.wait(READY).map(drop).context("end of the API server")
    }

    /// Starts the API server again, and returns when it says that it is ready.
    ///
    /// # Errors
    /// If it does not become ready.
    pub fn start_api_server(&mut self) -> anyhow::Result<()> {
        self.control.api_server.start_again(&self.control_plane)?;
        wait::until_true("the API server is ready again", READY, || {
            self.check()?;
            Ok(self.kubectl().output(&["get", "--raw", "/readyz"], "")?.status.success())
        })
    }

    /// Process id of etcd, for a `Stall`.
    pub fn etcd(&self) -> Pid {
        self.control.etcd.process.pid()
    }

    /// Process ids of this program in a pod; none while its container does not run.
    ///
    /// # Errors
    /// If there is no such pod.
    pub fn pids(&self, namespace: &str, pod: &str, program: &str) -> anyhow::Result<Vec<Pid>> {
        let uid = self.kubectl().run(&["-n", namespace, "get", "pod", pod, "-o", "jsonpath={.metadata.uid}"])?;
        Ok(pods::pids(&uid, program))
    }

    /// `kill -9` of this program in a pod.
    ///
    /// # Errors
    /// If it does not run.
    pub fn kill9(&self, namespace: &str, pod: &str, program: &str) -> anyhow::Result<()> {
        let pids = self.pids(namespace, pod, program)?;
        ensure!(!pids.is_empty(), "no {program} runs in pod {namespace}/{pod}");
        pids.into_iter().try_for_each(|pid| kill(pid, Signal::SIGKILL).context("kill"))
    }
}
