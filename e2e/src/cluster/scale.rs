//! A cluster that is large on paper: kwok plays nodes and pods, the operator is a process of its own beside the API server.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use super::callgate::{NAMESPACE, chart, helm};
use super::{Cluster, kubeconfig, tools};
use crate::lab::process::{Process, memory};
use crate::{peers, wait};

/// Directory with an operator and the tool `examples/scale` that are to be measured; without it those of everybody else.
pub const PROGRAMS: &str = "CALLGATE_SCALE_BIN_DIR";

/// How much of what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Nodes, each with an agent.
    pub nodes: usize,
    /// Pods beside the agents'.
    pub pods: usize,
    /// Rules.
    pub rules: usize,
    /// Namespaces that share pods and rules evenly.
    pub namespaces: usize,
}

/// The operator, as its service account and nobody more.
#[derive(Debug)]
pub struct Operator {
    process: Process,
    /// The authority that agents are to trust.
    pub authority: PathBuf,
}

/// Why it cannot be measured; `None` when it can.
pub fn missing() -> Option<String> {
    super::tools::missing().or_else(|| tools::tool("kwok").and(tool()).err().map(|error| error.to_string()))
}

/// What of the chart the operator and the agents need; nothing of ours runs yet.
///
/// # Errors
/// If helm refuses.
pub fn prepare(cluster: &Cluster) -> anyhow::Result<()> {
    let chart = chart();
    let chart = chart.to_str().context("path of the chart")?;
    let args = ["upgrade", "--install", "callgate", chart, "--namespace", NAMESPACE, "--create-namespace"];
    // Its jobs would be kwok's pods: they would succeed and do nothing.
    helm(cluster, &[&args[..], &["--no-hooks", "--set", "operator.replicas=0"]].concat())
}

/// kwok, which plays the kubelet of every node.
///
/// # Errors
/// If it cannot be started.
pub fn kwok(cluster: &Cluster) -> anyhow::Result<Process> {
    let node = &cluster.control_plane;
    let mut command = node.command(tools::tool("kwok")?);
    command.arg("--kubeconfig").arg(&cluster.kubeconfig).env("HOME", &node.dir);
    // Nodes renew their leases as often as real ones.
    command.args(["--manage-all-nodes=true", "--node-lease-duration-seconds=40"]);
    node.spawn("kwok", command)
}

/// Runs the tool; what it says.
///
/// # Errors
/// If it fails, with what it said.
pub fn run(cluster: &Cluster, what: &str, size: Size, more: &[&str]) -> anyhow::Result<String> {
    let mut command = cluster.control_plane.command(tool()?);
    command.env("KUBECONFIG", &cluster.kubeconfig).arg(what).args(more).stderr(Stdio::piped());
    let sizes = [("nodes", size.nodes), ("pods", size.pods), ("rules", size.rules), ("namespaces", size.namespaces)];
    for (name, value) in sizes {
        command.arg(format!("--{name}={value}"));
    }
    let output = command.output().context("scale")?;
    if !output.status.success() {
        bail!("scale {what}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether every pod runs, those of the agents too; kwok makes a pod run and gives it its address in one.
///
/// # Errors
/// If kubectl fails.
pub fn all_run(cluster: &Cluster, size: Size) -> anyhow::Result<bool> {
    let ready = ["-n", NAMESPACE, "get", "daemonset", "callgate-dataplane", "-o", "jsonpath={.status.numberReady}"];
    if cluster.kubectl().run(&ready)?.trim().parse() != Ok(size.nodes) {
        return Ok(false);
    }
    // One is enough to know: a list of all of them would be most of what the API server does.
    let waiting = "/api/v1/pods?limit=1&fieldSelector=status.phase!=Running";
    let list: Value = serde_json::from_str(&cluster.kubectl().run(&["get", "--raw", waiting])?).context("pods")?;
    Ok(list["items"].as_array().is_some_and(Vec::is_empty))
}

fn tool() -> anyhow::Result<PathBuf> {
    program("examples/scale").context("build it: cargo build -p callgate-operator --example scale")
}

fn program(name: &str) -> anyhow::Result<PathBuf> {
    match std::env::var_os(PROGRAMS) {
        Some(dir) => Ok(PathBuf::from(dir).join(name)).and_then(|path| match path.is_file() {
            true => Ok(path),
            false => bail!("{} is not there", path.display()),
        }),
        None => peers::program(name),
    }
}

impl Operator {
    /// Starts it with the rights of the chart's service account, and waits until it serves.
    ///
    /// # Errors
    /// If it does not within a minute.
    pub fn start(cluster: &Cluster) -> anyhow::Result<Self> {
        let node = &cluster.control_plane;
        let token = ["-n", NAMESPACE, "create", "token", "callgate-operator", "--duration=12h"];
        let token = cluster.kubectl().run(&token)?;
        let file = node.dir.join("operator.kubeconfig");
        let user = json!({"token": token.trim()});
        let kubeconfig = kubeconfig::write_for(&file, &cluster.pki().join("ca.crt"), &user)?;
        let mut command: Command = node.command(program("callgate-operator")?);
        command.env("KUBECONFIG", kubeconfig).env("RUST_LOG", "info,callgate_operator::run=debug");
        command.args(["--listen", "127.0.0.1:9443", "--http", "127.0.0.1:8080"]);
        let process = node.spawn("callgate-operator", command)?;
        let mut operator = Self { process, authority: node.dir.join("operator-ca.crt") };
        wait::until_true("the operator serves", Duration::from_secs(60), || {
            if let Some(status) = operator.process.exit_status() {
                bail!("the operator has ended: {status}\n{}", operator.process.tail(20));
            }
            Ok(node.run("curl", &["-fsS", "http://127.0.0.1:8080/readyz"]).is_ok())
        })
        .with_context(|| operator.process.tail(20))?;
        let map = ["-n", NAMESPACE, "get", "configmap", "callgate-ca", "-o", "jsonpath={.data.ca\\.crt}"];
        fs::write(&operator.authority, cluster.kubectl().run(&map)?).context("the operator's authority")?;
        Ok(operator)
    }

    /// The most memory it has had, octets (resident: its own, and pages of its file).
    ///
    /// # Errors
    /// If it has ended.
    pub fn most_memory(&self) -> anyhow::Result<u64> {
        memory(self.process.pid(), "VmHWM")
    }

    /// Processor time it has taken.
    ///
    /// # Errors
    /// If it has ended.
    pub fn processor(&self) -> anyhow::Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process.pid())).context("the operator")?;
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
        let ticks = fields.iter().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum::<u64>();
        // USER_HZ is 100 on every architecture of Linux.
        Ok(Duration::from_millis(ticks * 10))
    }

    /// What each compile took, from its log. The first is the one from scratch.
    pub fn compiles(&self) -> Vec<Duration> {
        let log = self.process.output();
        log.lines().filter(|line| line.contains("compiled took=")).filter_map(took).collect()
    }

    /// What it says on /metrics.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn metrics(&self, cluster: &Cluster) -> anyhow::Result<String> {
        cluster.control_plane.run("curl", &["-fsS", "http://127.0.0.1:8080/metrics"])
    }

    /// The end of its log.
    pub fn tail(&self) -> String {
        self.process.tail(20)
    }
}

/// Of `… compiled took=12.3ms …`.
fn took(line: &str) -> Option<Duration> {
    let text = line.split("took=").nth(1)?.split(' ').next()?;
    let at = text.find(|c: char| c != '.' && !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(at);
    let seconds = match unit {
        "s" => 1.0,
        "ms" => 1e-3,
        "µs" => 1e-6,
        "ns" => 1e-9,
        _ => return None,
    };
    Some(Duration::from_secs_f64(number.parse::<f64>().ok()? * seconds))
}

/// The line of JSON that `measure` ends with.
///
/// # Errors
/// If it is none.
pub fn result(said: &str) -> anyhow::Result<Value> {
    serde_json::from_str(said.lines().last().unwrap_or_default()).with_context(|| said.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_compile_took_is_read_from_the_log_in_every_unit() {
        let line = |took: &str| format!("2026-01-01T00:00:00Z DEBUG compiled took={took} pods=3 nodes=1");
        let read = ["1.5s", "12.25ms", "830µs", "7ns"].map(|text| took(&line(text)).unwrap());
        assert_eq!(read.map(|took| took.as_nanos()), [1_500_000_000, 12_250_000, 830_000, 7]);
        assert_eq!(took("compiled"), None);
    }
}
