//! etcd of one member, on the control plane's loopback.

use anyhow::Context as _;

use super::tools;
use crate::lab::node::Node;
use crate::lab::process::Process;

/// Where the API server finds it.
pub(super) const URL: &str = "http://127.0.0.1:2379";

/// Starts it; the API server waits for it by itself.
pub(super) fn start(node: &Node) -> anyhow::Result<Process> {
    let mut command = node.command(tools::tool("etcd")?);
    command.arg("--data-dir").arg(node.dir.join("etcd"));
    command.args([
        "--listen-client-urls",
        URL,
        "--advertise-client-urls",
        URL,
        "--listen-peer-urls",
        "http://127.0.0.1:2380",
    ]);
    // What is lost when the machine fails is a lab.
    command.args(["--unsafe-no-fsync", "--log-level", "warn"]);
    node.spawn("etcd", command).context("etcd")
}
