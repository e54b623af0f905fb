//! Starts pptp-linux with this process as its PPP: for containers, where one program has to be the whole client.

use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

use anyhow::Context as _;
use nix::unistd::{dup2_stdin, dup2_stdout};

/// A pptp that is told to end, and waited for, when this is dropped.
#[derive(Debug)]
pub struct Dialled(Child);

/// Dials `server`; fd 0 and 1 of this process are then the line to it. `options` are pptp's.
///
/// # Errors
/// If pptp cannot be started.
pub fn dial(server: &str, options: &[String]) -> anyhow::Result<Dialled> {
    let (ours, theirs) = UnixStream::pair().context("socketpair")?;
    let end = || anyhow::Ok(Stdio::from(OwnedFd::from(theirs.try_clone().context("line")?)));
    let mut pptp = Command::new("pptp");
    pptp.arg(server).args(["--nolaunchpppd", "--nohostroute", "--loglevel", "1"]).args(options);
    let child = pptp.stdin(end()?).stdout(end()?).spawn().context("pptp: is pptp-linux installed?")?;
    dup2_stdin(ours.as_fd()).context("stdin")?;
    dup2_stdout(ours.as_fd()).context("stdout")?;
    Ok(Dialled(child))
}

impl Drop for Dialled {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.0.id() as i32);
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        drop(self.0.wait());
    }
}
