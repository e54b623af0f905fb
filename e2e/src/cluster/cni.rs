//! The pods' network of one node: Debian's bridge plugin with an address range of the node's own.

use std::fs;
use std::path::PathBuf;

use anyhow::Context as _;
use serde_json::json;

use super::addresses;
use crate::lab::node::Node;

/// Where Debian has the plugins.
pub(super) const PLUGINS: &str = "/usr/lib/cni";
/// The bridge in each node to which its pods are connected.
pub const BRIDGE: &str = "pods0";

/// Where containerd finds the configuration.
pub(super) fn dir(node: &Node) -> PathBuf {
    node.dir.join("cni")
}

/// Writes it. With `masquerade`, pods leave by the node's address; without, by their own, which nobody outside can answer.
pub(super) fn configure(node: &Node, index: usize, masquerade: bool) -> anyhow::Result<()> {
    let config = json!({
        "cniVersion": "0.4.0",
        "name": "pods",
        "plugins": [{
            "type": "bridge",
            "bridge": BRIDGE,
            "isGateway": true,
            "hairpinMode": true,
            "ipMasq": masquerade,
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": addresses::pods(index)}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        }],
    });
    fs::create_dir_all(dir(node)).context("cni")?;
    fs::write(dir(node).join("10-pods.conflist"), serde_json::to_vec_pretty(&config)?).context("CNI configuration")
}
