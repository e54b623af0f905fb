//! API server, controller manager and scheduler in one namespace.

use std::path::Path;

use super::certificates::Authority;
use super::kubeconfig;
use super::{addresses, etcd, tools};
use crate::lab::node::Node;
use crate::lab::process::Process;

/// Its processes, in the order they were started.
#[derive(Debug)]
pub(super) struct ControlPlane {
    pub(super) processes: Vec<Process>,
}

/// Starts all of it; nothing is waited for.
pub(super) fn start(node: &Node, authority: &Authority) -> anyhow::Result<ControlPlane> {
    let processes = vec![
        etcd::start(node)?,
        api_server(node, authority)?,
        controller_manager(node, authority)?,
        scheduler(node, authority)?,
    ];
    Ok(ControlPlane { processes })
}

fn api_server(node: &Node, authority: &Authority) -> anyhow::Result<Process> {
    let hosts =
        ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost", "127.0.0.1"].map(str::to_owned);
    let mut hosts = hosts.to_vec();
    hosts.push(format!("kubernetes.default.svc.{}", addresses::DOMAIN));
    hosts.extend([addresses::API_SERVICE.to_string(), addresses::CONTROL_PLANE.to_string()]);
    let server = authority.issue("kube-apiserver", "", &hosts)?;
    let to_kubelet = authority.issue("kube-apiserver-kubelet-client", "system:masters", &[])?;
    let tokens = authority.issue("service-accounts", "", &[])?;
    let mut command = node.command(tools::tool("kube-apiserver")?);
    command.args([
        "--etcd-servers",
        etcd::URL,
        "--service-cluster-ip-range",
        addresses::SERVICES,
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        // Nobody here knows the nodes' names.
        "--kubelet-preferred-address-types=InternalIP",
        "--allow-privileged=true",
        "--service-account-issuer",
        &format!("https://kubernetes.default.svc.{}", addresses::DOMAIN),
        "--advertise-address",
        &addresses::CONTROL_PLANE.to_string(),
        // Nothing else listens on this port and the address is nobody else's.
        "--bind-address=0.0.0.0",
    ]);
    for (flag, file) in [
        ("--client-ca-file", &authority.certificate()),
        ("--tls-cert-file", &server.certificate),
        ("--tls-private-key-file", &server.key),
        ("--kubelet-client-certificate", &to_kubelet.certificate),
        ("--kubelet-client-key", &to_kubelet.key),
        ("--kubelet-certificate-authority", &authority.certificate()),
        ("--service-account-key-file", &tokens.certificate),
        ("--service-account-signing-key-file", &tokens.key),
    ] {
        command.arg(flag).arg(file);
    }
    node.spawn("kube-apiserver", command)
}

fn controller_manager(node: &Node, authority: &Authority) -> anyhow::Result<Process> {
    let mut command = node.command(tools::tool("kube-controller-manager")?);
    let config = kubeconfig_of(node, authority, "system:kube-controller-manager")?;
    command.arg("--kubeconfig").arg(config);
    command.args(["--leader-elect=false", "--use-service-account-credentials=true", "--bind-address=127.0.0.1"]);
    // Each node is made with its pod network (`machine`), so that it is known before the node is there.
    command.args(["--allocate-node-cidrs=false", "--service-cluster-ip-range", addresses::SERVICES]);
    command.arg("--service-account-private-key-file").arg(key_of_tokens(&authority.certificate()));
    command.arg("--root-ca-file").arg(authority.certificate());
    node.spawn("kube-controller-manager", command)
}

fn scheduler(node: &Node, authority: &Authority) -> anyhow::Result<Process> {
    let mut command = node.command(tools::tool("kube-scheduler")?);
    command.arg("--kubeconfig").arg(kubeconfig_of(node, authority, "system:kube-scheduler")?);
    command.args(["--leader-elect=false", "--bind-address=127.0.0.1"]);
    node.spawn("kube-scheduler", command)
}

/// The file that `api_server` has made.
fn key_of_tokens(ca: &Path) -> std::path::PathBuf {
    ca.with_file_name("service-accounts.key")
}

fn kubeconfig_of(node: &Node, authority: &Authority, user: &str) -> anyhow::Result<std::path::PathBuf> {
    let identity = authority.issue(user, "", &[])?;
    kubeconfig::write(&node.dir.join(format!("{}.json", user.replace(':', "-"))), authority, &identity)
}
