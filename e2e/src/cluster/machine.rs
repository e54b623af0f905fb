//! A node of the cluster: its namespaces, its cgroup and its programs.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::Context as _;
use serde_json::json;

use super::certificates::Authority;
use super::{addresses, cni, containerd, kube_proxy, kubelet};
use crate::lab::cgroups;
use crate::lab::mounts::Kind;
use crate::lab::names::LabId;
use crate::lab::node::Node;
use crate::lab::process::Process;

/// A machine on which pods run.
#[derive(Debug)]
pub struct Machine {
    /// Its namespaces; `node.name` is also its name in Kubernetes.
    pub node: Node,
    /// From 0.
    pub index: usize,
    cgroup: String,
    masquerade: bool,
    containerd: Option<Process>,
    kubelet: Option<Process>,
    kube_proxy: Option<Process>,
}

impl Machine {
    /// The namespaces and the cgroup only.
    pub(super) fn create(lab: LabId, index: usize) -> anyhow::Result<Self> {
        let node = Node::create_as(lab, &addresses::node_name(index), Kind::Machine)?;
        let cgroup = lab.netns(&node.name);
        cgroups::make(&cgroup).context("cgroup of a node")?;
        Ok(Self { node, index, cgroup, masquerade: false, containerd: None, kubelet: None, kube_proxy: None })
    }

    /// containerd with these images. Needs no API server, so that it can be done while that starts.
    pub(super) fn start_runtime(&mut self, images: &[impl AsRef<Path>], masquerade: bool) -> anyhow::Result<()> {
        self.masquerade = masquerade;
        cni::configure(&self.node, self.index, masquerade, None)?;
        let mut process = containerd::start(&self.node)?;
        containerd::wait(&self.node, &mut process)?;
        self.containerd = Some(process);
        images.iter().try_for_each(|image| containerd::import(&self.node, image.as_ref()))
    }

    /// kubelet and kube-proxy. Needs the object of `object` in the API server.
    pub(super) fn start_kubernetes(&mut self, authority: &Authority) -> anyhow::Result<()> {
        self.kubelet = Some(kubelet::start(&self.node, self.index, &self.cgroup, authority)?);
        self.kube_proxy = Some(kube_proxy::start(&self.node, self.index, authority)?);
        Ok(())
    }

    /// The node as an object, made before the kubelet comes: so its pod network is known from the start.
    pub(super) fn object(&self) -> serde_json::Value {
        json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": self.node.name},
            "spec": {"podCIDR": addresses::pods(self.index), "podCIDRs": [addresses::pods(self.index)]},
        })
    }

    /// Gives its containerd an image out of a tar.
    ///
    /// # Errors
    /// If containerd refuses it.
    pub fn import(&self, tar: &Path) -> anyhow::Result<()> {
        containerd::import(&self.node, tar)
    }

    /// Gives an image that its containerd has a second name.
    ///
    /// # Errors
    /// If it has no such image.
    pub fn tag(&self, image: &str, name: &str) -> anyhow::Result<()> {
        containerd::tag(&self.node, image, name)
    }

    /// Pods that come from now on get only addresses that end so, the last included; `None`: all of the node's. It takes containerd a
    /// moment to hear of it.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn give_only(&self, hosts: Option<(u8, u8)>) -> anyhow::Result<()> {
        cni::configure(&self.node, self.index, self.masquerade, hosts)
    }

    /// Which sandbox has this address, as far as the CNI knows: from before its network is made until that is gone.
    ///
    /// # Errors
    /// If the node cannot be looked at.
    pub fn holder(&self, address: Ipv4Addr) -> anyhow::Result<Option<String>> {
        self.node.within(|| fs::read_to_string(Path::new(cni::GIVEN).join(address.to_string())).ok())
    }

    /// Programs that should run and do not.
    pub(super) fn ended(&mut self) -> Vec<String> {
        let all = [&mut self.containerd, &mut self.kubelet, &mut self.kube_proxy].into_iter().flatten();
        all.filter_map(|process| process.exit_status().map(|status| format!("{status}\n{}", process.tail(20))))
            .collect()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // The kubelet first, or it starts again what is killed.
        for process in [&mut self.kubelet, &mut self.kube_proxy, &mut self.containerd].into_iter().flatten() {
            process.kill9();
        }
        crate::lab::names::remove_netns(self.node.netns());
        cgroups::remove(&self.cgroup);
    }
}
