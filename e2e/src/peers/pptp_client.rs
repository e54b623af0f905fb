//! One pptp-linux client: `pptp` for the control connection and GRE, `callgate-ppp` for the link inside.

use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use nix::sys::signal::Signal;

use super::program;
use crate::lab::node::Node;
use crate::lab::process::Process;

/// A client that dials, is up, or has ended.
#[derive(Debug)]
pub struct PptpClient {
    pptp: Process,
    ppp: Process,
    mark: usize,
}

/// Addresses of a link that is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// The client's address in the tunnel.
    pub local: Ipv4Addr,
    /// The server's.
    pub remote: Ipv4Addr,
}

impl PptpClient {
    /// Dials `server` from `node`; returns at once.
    ///
    /// # Errors
    /// If a program cannot be started.
    pub fn dial(node: &Node, server: Ipv4Addr) -> anyhow::Result<Self> {
        let mark = node.syslog.mark();
        let (a, b) = UnixStream::pair().context("socketpair")?;
        let mut ppp = node.command(program("callgate-ppp")?);
        ppp.arg("client");
        let mut pptp = node.command("pptp");
        pptp.args([&server.to_string(), "--nolaunchpppd", "--nohostroute", "--loglevel", "1"]);
        let ppp = node.spawn_on("ppp", ppp, &a)?;
        let pptp = node.spawn_on("pptp", pptp, &b)?;
        Ok(Self { pptp, ppp, mark })
    }

    /// Waits until IPCP is done.
    ///
    /// # Errors
    /// After `limit`, with the end of the node's log.
    pub fn wait_up(&self, node: &Node, limit: Duration) -> anyhow::Result<Link> {
        let line = node
            .syslog
            .wait(self.mark, "up local ", limit)
            .with_context(|| format!("client {} is not up\n{}", node.name, node.syslog.tail(12)))?;
        let word = |after: &str| {
            let rest = line.split(after).nth(1).ok_or_else(|| anyhow!("{line}"))?;
            rest.split(' ').next().unwrap_or_default().parse().map_err(|_| anyhow!("{line}"))
        };
        Ok(Link { local: word("local ")?, remote: word("remote ")? })
    }

    /// Whether both programs run.
    pub fn is_running(&mut self) -> bool {
        self.pptp.exit_status().is_none() && self.ppp.exit_status().is_none()
    }

    /// Hangs up as a user would: SIGTERM to pptp, which clears its call and stops the connection. Whether it ended by that; one
    /// that is there 3 s later is killed. It happens about once in a hundred times.
    ///
    /// # Errors
    /// If pppd's stand-in does not end.
    pub fn hang_up(&mut self) -> anyhow::Result<bool> {
        self.ppp.signal(Signal::SIGTERM);
        self.pptp.signal(Signal::SIGTERM);
        let ended = self.pptp.wait(Duration::from_secs(3)).is_ok();
        if !ended {
            self.pptp.kill9();
        }
        self.ppp.stop()?;
        Ok(ended)
    }

    /// Everything of this client in its node, ended without warning.
    pub fn kill9(&mut self, node: &Node) {
        node.signal_all(Signal::SIGKILL);
        self.pptp.kill9();
        self.ppp.kill9();
    }
}
