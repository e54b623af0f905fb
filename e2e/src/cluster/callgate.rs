//! Callgate on the cluster, as its users install it: images into the nodes, then the chart.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::LazyLock;

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::Cluster;
use super::machine::Machine;
use crate::peers::program;
use crate::readme;

/// Directory with the images that `cargo xtask images` has made. `cargo xtask` sets it.
pub const IMAGES: &str = "CALLGATE_IMAGES";
/// Values of all installations of a run (`dataplane.fastPath=off`), with blanks between them.
const VALUES: &str = "CALLGATE_HELM_VALUES";
/// Namespace of the release.
pub const NAMESPACE: &str = "callgate-system";
/// The image with a real PPTP client.
pub const CLIENT_IMAGE: &str = concat!("localhost/callgate-test-client:", env!("CARGO_PKG_VERSION"));

/// The classic set-up of README.md: for pods with `app: till` in namespace `pos`.
pub static CLASSIC: LazyLock<&str> = LazyLock::new(readme::classic);

/// Why Callgate cannot be installed; `None` when it can.
pub fn missing() -> Option<String> {
    super::tools::missing().or_else(|| match std::env::var_os(IMAGES) {
        Some(_) => None,
        None => Some(format!("{IMAGES} is not set: `cargo xtask images` makes them")),
    })
}

/// Gives all images to all nodes.
///
/// # Errors
/// If there are none.
pub fn import_images(cluster: &Cluster) -> anyhow::Result<()> {
    let dir = PathBuf::from(std::env::var_os(IMAGES).with_context(|| format!("{IMAGES} is not set"))?);
    for name in ["callgate-operator", "callgate-dataplane", "callgate-test-client"] {
        cluster.import(&dir.join(format!("{name}.tar")))?;
    }
    Ok(())
}

/// Whether this run's installations have the fast path switched off.
pub fn without_fast_path() -> bool {
    std::env::var(VALUES).is_ok_and(|values| values.contains("dataplane.fastPath=off"))
}

/// `helm upgrade --install` with these values (`--set`), and those that `CALLGATE_HELM_VALUES` has for all of a run, and waits until everything is ready.
///
/// # Errors
/// If helm fails or nothing becomes ready in time, with what it said.
pub fn install(cluster: &Cluster, values: &[&str]) -> anyhow::Result<()> {
    let chart = chart();
    let mut args = vec!["upgrade", "--install", "callgate", chart.to_str().context("path of the chart")?];
    args.extend(["--namespace", NAMESPACE, "--create-namespace", "--wait", "--timeout", "3m"]);
    // Another test may have put the kinds there.
    args.push("--take-ownership");
    args.extend(values.iter().flat_map(|value| ["--set", value]));
    let of_run = std::env::var(VALUES).unwrap_or_default();
    args.extend(of_run.split(' ').filter(|value| !value.is_empty()).flat_map(|value| ["--set", value]));
    helm(cluster, &args)
}

/// `helm upgrade` of what is installed to this chart, as docs/install.md has it; waits until everything is ready.
///
/// # Errors
/// As `install`.
pub fn upgrade(cluster: &Cluster, chart: &Path) -> anyhow::Result<()> {
    let chart = chart.to_str().context("path of the chart")?;
    let args = ["upgrade", "callgate", chart, "--namespace", NAMESPACE, "--reset-then-reuse-values", "--wait"];
    helm(cluster, &[&args[..], &["--timeout", "3m"]].concat())
}

/// Takes Callgate away as docs/uninstall.md has it, line by line: the nodes, the release, the kinds, the namespace.
///
/// # Errors
/// If one of the commands fails, with what it said.
pub fn uninstall(cluster: &Cluster) -> anyhow::Result<()> {
    let chart = chart();
    let chart = chart.to_str().context("path of the chart")?;
    let clean = ["upgrade", "callgate", chart, "-n", NAMESPACE, "--reset-then-reuse-values"];
    helm(cluster, &[&clean[..], &["--set", "dataplane.cleanup=true", "--set", "operator.replicas=0"]].concat())?;
    let k = |args: &[&str]| cluster.kubectl().run(args).map(drop);
    k(&["-n", NAMESPACE, "rollout", "status", "daemonset/callgate-dataplane", "--timeout=180s"])?;
    helm(cluster, &["uninstall", "callgate", "-n", NAMESPACE])?;
    let kinds = ["iprules", "ipservices", "pptpalgs", "egressnodes"].map(|kind| format!("{kind}.callgate.io"));
    k(&[&["delete", "crd"][..], &kinds.each_ref().map(String::as_str)].concat())?;
    k(&["delete", "namespace", NAMESPACE])
}

/// Installs it with the chart's own values, images and all, where it is not there yet, and waits until it is ready.
///
/// # Errors
/// As `import_images` and `install`.
pub fn ensure(cluster: &Cluster) -> anyhow::Result<()> {
    if helm(cluster, &["status", "callgate", "--namespace", NAMESPACE]).is_err() {
        import_images(cluster)?;
        return install(cluster, &[]);
    }
    for workload in ["deployment/callgate-operator", "daemonset/callgate-dataplane"] {
        cluster.kubectl().run(&["-n", NAMESPACE, "rollout", "status", workload, "--timeout=90s"])?;
    }
    Ok(())
}

/// Puts right what somebody has changed of what is installed: its workloads are made anew, with the chart's own values. Nothing where it is not
/// installed.
///
/// # Errors
/// As `install`.
pub fn mend(cluster: &Cluster) -> anyhow::Result<()> {
    if helm(cluster, &["status", "callgate", "--namespace", NAMESPACE]).is_err() {
        return Ok(());
    }
    // Helm takes away nothing that others have added, such as a node selector.
    let workloads = ["deployment/callgate-operator", "daemonset/callgate-dataplane"];
    let delete = ["-n", NAMESPACE, "delete", "--ignore-not-found", "--wait", "--timeout=90s"];
    cluster.kubectl().run(&[&delete[..], &workloads].concat())?;
    install(cluster, &[])
}

/// Name of the agent's pod on a node.
///
/// # Errors
/// If kubectl fails.
pub fn agent(cluster: &Cluster, node: &str) -> anyhow::Result<String> {
    let on = format!("spec.nodeName={node}");
    let pods = ["get", "pods", "-l", "app.kubernetes.io/component=dataplane", "--field-selector", &on];
    let name = ["-o", "jsonpath={.items[*].metadata.name}"];
    cluster.kubectl().run(&[&["-n", NAMESPACE][..], &pods, &name].concat())
}

/// Name of the operator's pod that leads.
///
/// # Errors
/// If kubectl fails.
pub fn leader(cluster: &Cluster) -> anyhow::Result<String> {
    let lease = ["get", "lease", "callgate-operator", "-o", "jsonpath={.spec.holderIdentity}"];
    cluster.kubectl().run(&[&["-n", NAMESPACE][..], &lease].concat())
}

/// Address of the operator's pod that leads.
///
/// # Errors
/// If kubectl fails.
pub fn leader_address(cluster: &Cluster) -> anyhow::Result<String> {
    let leader = leader(cluster)?;
    let of = ["-n", NAMESPACE, "get", "pod", leader.trim(), "-o", "jsonpath={.status.podIP}"];
    Ok(cluster.kubectl().run(&of)?.trim().to_owned())
}

/// Live calls as the agent of a node lists them (docs/cli.md has the shape).
///
/// # Errors
/// If it does not answer.
pub fn calls(machine: &Machine) -> anyhow::Result<Vec<Value>> {
    let client = program("kubectl-callgate")?;
    let args = ["calls", "-o", "json", "--api", "/run/callgate/api.sock"];
    let said = machine.node.run(client.to_str().context("path of kubectl-callgate")?, &args)?;
    let mut list: Value = serde_json::from_str(&said).context("calls")?;
    list["calls"].as_array_mut().map(std::mem::take).context("no calls in the answer")
}

/// Runs helm.
///
/// # Errors
/// If it fails, with what it said.
pub fn helm(cluster: &Cluster, args: &[&str]) -> anyhow::Result<()> {
    let mut helm = cluster.kubectl().command("helm")?;
    let output = helm.args(args).stdin(Stdio::null()).output().context("helm")?;
    if !output.status.success() {
        bail!("helm {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// The chart of this checkout.
pub fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/callgate")
}
