//! containerd of one node, with files of its own, and the images it has.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;

use super::{cni, image};
use crate::lab::node::Node;
use crate::lab::process::Process;
use crate::wait;

/// In the node's own /run.
pub(super) const SOCKET: &str = "/run/containerd/containerd.sock";

/// Starts it.
pub(super) fn start(node: &Node) -> anyhow::Result<Process> {
    let dir = node.dir.display();
    let config = format!(
        r#"version = 2
root = "{dir}/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.zfs"]
[grpc]
address = "{SOCKET}"
[plugins."io.containerd.internal.v1.opt"]
path = "{dir}/opt"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{pause}"
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".containerd]
# Needs nothing from the file system below.
snapshotter = "native"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{plugins}"
conf_dir = "{networks}"
"#,
        pause = image::PAUSE,
        plugins = cni::PLUGINS,
        networks = cni::dir(node).display(),
    );
    let file = node.dir.join("containerd.toml");
    fs::write(&file, config).with_context(|| file.display().to_string())?;
    let mut command = node.command("containerd");
    command.arg("--config").arg(&file);
    node.spawn("containerd", command)
}

/// Waits until it takes connections.
pub(super) fn wait(node: &Node, process: &mut Process) -> anyhow::Result<()> {
    wait::until_true("containerd listens", Duration::from_secs(30), || {
        anyhow::ensure!(process.exit_status().is_none(), "containerd has ended\n{}", process.tail(20));
        node.within(|| UnixStream::connect(SOCKET).is_ok())
    })
    .with_context(|| process.tail(20))
}

/// Gives it an image out of a tar.
pub(super) fn import(node: &Node, tar: &Path) -> anyhow::Result<()> {
    let tar = tar.display().to_string();
    node.run("ctr", &["-a", SOCKET, "-n", "k8s.io", "images", "import", &tar])?;
    Ok(())
}

/// Gives an image a second name; one that is taken goes to this image.
pub(super) fn tag(node: &Node, image: &str, name: &str) -> anyhow::Result<()> {
    node.run("ctr", &["-a", SOCKET, "-n", "k8s.io", "images", "tag", "--force", image, name])?;
    Ok(())
}
