//! etcd, API server, controller manager and scheduler in one namespace.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use super::certificates::Authority;
use super::kubeconfig;
use super::{addresses, etcd, tools};
use crate::lab::node::Node;
use crate::lab::process::Process;

/// A program of it, which can be started again as it was.
#[derive(Debug)]
pub(super) struct Part {
    name: &'static str,
    program: PathBuf,
    args: Vec<OsString>,
    pub(super) process: Process,
}

impl Part {
    fn start(node: &Node, name: &'static str, command: Command) -> anyhow::Result<Self> {
        let (program, args) = (command.get_program().into(), command.get_args().map(OsString::from).collect());
        Ok(Self { name, program, args, process: node.spawn(name, command).context(name)? })
    }

    /// Starts it again after its end.
    pub(super) fn start_again(&mut self, node: &Node) -> anyhow::Result<()> {
        let mut command = node.command(&self.program);
        command.args(&self.args);
        self.process = node.spawn(self.name, command).context(self.name)?;
        Ok(())
    }
}

/// Its programs.
#[derive(Debug)]
pub(super) struct ControlPlane {
    pub(super) etcd: Part,
    pub(super) api_server: Part,
    others: [Part; 2],
}

impl ControlPlane {
    /// All processes, in the order they were started.
    pub(super) fn processes(&mut self) -> impl Iterator<Item = &mut Process> {
        [&mut self.etcd, &mut self.api_server].into_iter().chain(&mut self.others).map(|part| &mut part.process)
    }
}

/// Starts all of it; nothing is waited for.
pub(super) fn start(node: &Node, authority: &Authority) -> anyhow::Result<ControlPlane> {
    Ok(ControlPlane {
        etcd: Part::start(node, "etcd", etcd::command(node)?)?,
        api_server: Part::start(node, "kube-apiserver", api_server(node, authority)?)?,
        others: [
            Part::start(node, "kube-controller-manager", controller_manager(node, authority)?)?,
            Part::start(node, "kube-scheduler", scheduler(node, authority)?)?,
        ],
    })
}

fn api_server(node: &Node, authority: &Authority) -> anyhow::Result<Command> {
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
    Ok(command)
}

fn controller_manager(node: &Node, authority: &Authority) -> anyhow::Result<Command> {
    let mut command = node.command(tools::tool("kube-controller-manager")?);
    let config = kubeconfig_of(node, authority, "system:kube-controller-manager")?;
    command.arg("--kubeconfig").arg(config);
    command.args(["--leader-elect=false", "--use-service-account-credentials=true", "--bind-address=127.0.0.1"]);
    // Each node is made with its pod network (`machine`), so that it is known before the node is there.
    command.args(["--allocate-node-cidrs=false", "--service-cluster-ip-range", addresses::SERVICES]);
    command.arg("--service-account-private-key-file").arg(key_of_tokens(&authority.certificate()));
    command.arg("--root-ca-file").arg(authority.certificate());
    Ok(command)
}

fn scheduler(node: &Node, authority: &Authority) -> anyhow::Result<Command> {
    let mut command = node.command(tools::tool("kube-scheduler")?);
    command.arg("--kubeconfig").arg(kubeconfig_of(node, authority, "system:kube-scheduler")?);
    command.args(["--leader-elect=false", "--bind-address=127.0.0.1"]);
    Ok(command)
}

/// The file that `api_server` has made.
fn key_of_tokens(ca: &Path) -> std::path::PathBuf {
    ca.with_file_name("service-accounts.key")
}

fn kubeconfig_of(node: &Node, authority: &Authority, user: &str) -> anyhow::Result<std::path::PathBuf> {
    let identity = authority.issue(user, "", &[])?;
    kubeconfig::write(&node.dir.join(format!("{}.json", user.replace(':', "-"))), authority, &identity)
}
