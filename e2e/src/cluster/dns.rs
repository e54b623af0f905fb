//! CoreDNS beside the API server: names of Services, for pods and for agents on the nodes' own network.

use std::fs;
use std::path::Path;

use anyhow::Context as _;

use super::{addresses, tools};
use crate::lab::node::Node;
use crate::lab::process::Process;

/// Starts it with the rights of `kubeconfig`. It waits for the API server by itself.
pub(super) fn start(node: &Node, kubeconfig: &Path) -> anyhow::Result<Process> {
    let file = node.dir.join("Corefile");
    let text = format!(
        ".:53 {{\n bind {}\n errors\n kubernetes {} in-addr.arpa {{\n  kubeconfig {} lab\n  ttl 5\n }}\n}}\n",
        addresses::CONTROL_PLANE,
        addresses::DOMAIN,
        kubeconfig.display()
    );
    fs::write(&file, text).with_context(|| file.display().to_string())?;
    let mut command = node.command(tools::tool("coredns")?);
    command.arg("-conf").arg(&file);
    node.spawn("coredns", command)
}
