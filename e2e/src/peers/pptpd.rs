//! One pptpd: real control connections and GRE, `callgate-ppp` on the ptys.

use std::fs;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::Context as _;

use super::program;
use crate::lab::node::Node;
use crate::lab::process::Process;
use crate::wait;

/// A running server.
#[derive(Debug)]
pub struct Pptpd {
    process: Process,
}

/// Address of the server inside its tunnels; `index` is the server's, from 0.
pub fn inner_address(index: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 99, index as u8 + 1, 1)
}

impl Pptpd {
    /// Starts it and waits until it listens.
    ///
    /// # Errors
    /// If it does not listen in time.
    pub fn start(node: &Node, index: usize) -> anyhow::Result<Self> {
        let config = node.dir.join("pptpd.conf");
        let net = index + 1;
        let text = format!(
            "ppp {}\nlocalip {}\nremoteip 10.99.{net}.2-250\nconnections 240\nstimeout 10\n",
            program("callgate-ppp")?.display(),
            inner_address(index)
        );
        fs::write(&config, text).with_context(|| config.display().to_string())?;
        let mut command = node.command("/usr/sbin/pptpd");
        command.arg("-f").arg("-c").arg(&config).arg("-p").arg("/run/pptpd.pid");
        let mut process = node.spawn("pptpd", command)?;
        wait::until_true("pptpd listens", Duration::from_secs(10), || {
            anyhow::ensure!(process.exit_status().is_none(), "pptpd has ended\n{}", node.syslog.tail(10));
            Ok(node.run("ss", &["-Hltn", "sport = :1723"])?.contains("1723"))
        })?;
        Ok(Self { process })
    }

    /// Ends it and every call it has.
    ///
    /// # Errors
    /// If it does not end.
    pub fn stop(mut self, node: &Node) -> anyhow::Result<()> {
        self.process.stop()?;
        // Its children are in sessions of their own.
        node.signal_all(nix::sys::signal::Signal::SIGTERM);
        wait::until_true("all of pptpd has ended", Duration::from_secs(10), || Ok(node.pids().is_empty()))
    }
}
