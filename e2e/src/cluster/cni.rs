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

/// Where host-local keeps which addresses are given out, a file each, in the node's own /var.
pub(super) const GIVEN: &str = "/var/lib/cni/networks/pods";

/// Writes it. With `masquerade`, pods leave by the node's address; without, by their own, which nobody outside can answer. With
/// `hosts`, pods that come get only addresses that end so, the last included.
pub(super) fn configure(node: &Node, index: usize, masquerade: bool, hosts: Option<(u8, u8)>) -> anyhow::Result<()> {
    let mut range = json!({"subnet": addresses::pods(index)});
    if let Some((first, last)) = hosts {
        range["rangeStart"] = json!(addresses::pod(index, first));
        range["rangeEnd"] = json!(addresses::pod(index, last));
    }
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
                "ranges": [[range]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        }],
    });
    fs::create_dir_all(dir(node)).context("cni")?;
    // containerd reads it whenever it changes: never half of it.
    let file = dir(node).join("10-pods.conflist");
    let whole = file.with_extension("new");
    fs::write(&whole, serde_json::to_vec_pretty(&config)?).context("CNI configuration")?;
    fs::rename(&whole, &file).context("CNI configuration")
}
