//! kubectl as the cluster's administrator, run where it reaches the API server.

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, bail};

use super::tools;
use crate::lab::node::Node;

/// How to run it.
#[derive(Debug)]
pub struct Kubectl<'a> {
    node: &'a Node,
    kubeconfig: PathBuf,
}

impl<'a> Kubectl<'a> {
    pub(super) fn new(node: &'a Node, kubeconfig: PathBuf) -> Self {
        Self { node, kubeconfig }
    }

    /// A command with the administrator's rights that runs in the control plane's namespaces: kubectl, helm.
    ///
    /// # Errors
    /// If the program is not built.
    pub fn command(&self, program: &str) -> anyhow::Result<Command> {
        let mut command = self.node.command(tools::tool(program)?);
        // What kubectl and helm cache goes with the lab.
        command.env("KUBECONFIG", &self.kubeconfig).env("HOME", &self.node.dir);
        Ok(command)
    }

    /// Runs kubectl; its stdout.
    ///
    /// # Errors
    /// If it fails, with what it said.
    pub fn run(&self, args: &[&str]) -> anyhow::Result<String> {
        let output = self.output(args, "")?;
        said(&output).with_context(|| format!("kubectl {}", args.join(" ")))
    }

    /// Applies objects; what kubectl says.
    ///
    /// # Errors
    /// If one is refused, with all that kubectl says.
    pub fn apply(&self, objects: &str) -> anyhow::Result<String> {
        said(&self.output(&["apply", "--server-side", "-f", "-"], objects)?).context("kubectl apply")
    }

    /// Runs kubectl with this on its stdin, however it ends.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn output(&self, args: &[&str], input: &str) -> anyhow::Result<Output> {
        let mut command = self.command("kubectl")?;
        command.args(args.iter().map(OsStr::new));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("kubectl")?;
        if let Some(mut stdin) = child.stdin.take() {
            drop(stdin.write_all(input.as_bytes()));
        }
        child.wait_with_output().context("kubectl")
    }
}

fn said(output: &Output) -> anyhow::Result<String> {
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
