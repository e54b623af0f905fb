//! etcd of one member, on the control plane's loopback.

use std::process::Command;

use super::tools;
use crate::lab::node::Node;

/// Where the API server finds it.
pub(super) const URL: &str = "http://127.0.0.1:2379";

/// How it is started; the API server waits for it by itself.
pub(super) fn command(node: &Node) -> anyhow::Result<Command> {
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
    Ok(command)
}
