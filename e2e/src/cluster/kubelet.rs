//! The kubelet of one node.

use std::fs;

use anyhow::Context as _;
use serde_json::json;

use super::certificates::Authority;
use super::{addresses, containerd, kubeconfig, tools};
use crate::lab::node::Node;
use crate::lab::process::Process;

/// Starts it; its pods live in `cgroup`.
pub(super) fn start(node: &Node, index: usize, cgroup: &str, authority: &Authority) -> anyhow::Result<Process> {
    let address = addresses::node(index).to_string();
    let name = addresses::node_name(index);
    let identity = authority.issue(&format!("system:node:{name}"), "system:nodes", &[name.clone(), address.clone()])?;
    let kubeconfig = kubeconfig::write(&node.dir.join("kubelet.kubeconfig"), authority, &identity)?;
    let config = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": authority.certificate()},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": identity.certificate,
        "tlsPrivateKeyFile": identity.key,
        "containerRuntimeEndpoint": format!("unix://{}", containerd::SOCKET),
        "volumePluginDir": node.dir.join("volume-plugins"),
        "clusterDNS": [addresses::CONTROL_PLANE.to_string()],
        "clusterDomain": addresses::DOMAIN,
        // Pods do not see the host's resolvers.
        "resolvConf": "",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{cgroup}"),
        "enforceNodeAllocatable": [],
        "failCgroupV1": false,
        "failSwapOn": false,
        "localStorageCapacityIsolation": false,
        "makeIPTablesUtilChains": false,
        "maxPods": 250,
        // A full disk or a busy machine of a developer is no reason to evict a test.
        "evictionHard": {"memory.available": "0%", "nodefs.available": "0%", "nodefs.inodesFree": "0%", "imagefs.available": "0%"},
        "imageGCHighThresholdPercent": 100,
    });
    let file = node.dir.join("kubelet.json");
    fs::write(&file, serde_json::to_vec_pretty(&config)?).with_context(|| file.display().to_string())?;
    let mut command = node.command(tools::tool("kubelet")?);
    command.arg("--config").arg(&file).arg("--kubeconfig").arg(kubeconfig);
    command.args(["--hostname-override", &name, "--node-ip", &address]);
    node.spawn("kubelet", command)
}
