//! Dials with pptp-linux and stands on its other end: client and link as one process, for a container without a shell's help.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait;

/// How long pptp may take to clear its call and stop the connection.
const GOODBYE: Duration = Duration::from_secs(3);

/// The running pptp.
#[derive(Debug)]
pub struct Dialled(Child);

/// Starts `pptp SERVER`, and makes the line to it this process's fd 0 and 1. Further words are further arguments of pptp.
///
/// # Errors
/// If pptp is not installed.
pub fn dial(server: &str, more: &[String]) -> anyhow::Result<Dialled> {
    let (ours, theirs) = UnixStream::pair().context("socketpair")?;
    let theirs = OwnedFd::from(theirs);
    let mut pptp = Command::new("pptp");
    pptp.arg(server).args(["--nolaunchpppd", "--nohostroute", "--loglevel", "1"]).args(more);
    pptp.stdin(theirs.try_clone().context("socketpair")?).stdout(theirs).stderr(Stdio::inherit());
    let child = pptp.spawn().context("start pptp: is pptp-linux installed?")?;
    nix::unistd::dup2_stdin(&ours).context("line as fd 0")?;
    nix::unistd::dup2_stdout(&ours).context("line as fd 1")?;
    Ok(Dialled(child))
}

impl Dialled {
    /// Hangs up: SIGTERM, upon which pptp clears its call and stops the connection; if it does not end, it is killed.
    pub fn hang_up(mut self) {
        if let Ok(pid) = i32::try_from(self.0.id()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let gone = wait::until_true("pptp ends", GOODBYE, || Ok(self.0.try_wait().context("wait for pptp")?.is_some()));
        if gone.is_err() {
            let _ = self.0.kill();
        }
        let _ = self.0.wait();
    }
}
