//! kube-proxy of one node, in nftables mode.

use super::certificates::Authority;
use super::{addresses, kubeconfig, tools};
use crate::lab::node::Node;
use crate::lab::process::Process;

/// Starts it. All nodes share one identity, which the API server knows by role.
pub(super) fn start(node: &Node, index: usize, authority: &Authority) -> anyhow::Result<Process> {
    let identity = authority.issue("system:kube-proxy", "", &[])?;
    let kubeconfig = kubeconfig::write(&node.dir.join("kube-proxy.kubeconfig"), authority, &identity)?;
    let mut command = node.command(tools::tool("kube-proxy")?);
    command.arg("--kubeconfig").arg(kubeconfig);
    command.args([
        "--proxy-mode=nftables",
        "--hostname-override",
        &addresses::node_name(index),
        "--cluster-cidr",
        addresses::PODS,
        // Outside the initial network namespace nf_conntrack_max cannot be written; 0 leaves it alone.
        "--conntrack-max-per-core=0",
        "--conntrack-min=0",
    ]);
    node.spawn("kube-proxy", command)
}
