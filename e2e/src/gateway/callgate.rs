//! Callgate standalone on the lab's gateway: manifests, start, stop, and what its API tells.

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use nix::sys::signal::Signal;
use serde::Deserialize;

use crate::lab::node::Node;
use crate::lab::process::Process;
use crate::lab::topology::CLIENTS;
use crate::peers::program;
use crate::{readme, wait};

/// The classic set-up of README.md for all clients of the lab: a host has no pods, there a rule selects networks.
pub static CLASSIC: LazyLock<String> = LazyLock::new(|| readme::of_networks(CLIENTS));

/// How long a start or a change may take.
const LIMIT: Duration = Duration::from_secs(20);

/// A Callgate on a gateway; it may be down at the moment.
#[derive(Debug)]
pub struct Callgate {
    process: Option<Process>,
    /// Manifests are here.
    pub manifests: PathBuf,
    dir: PathBuf,
    extra: Vec<String>,
}

/// One call as `kubectl-callgate calls -o json` tells it (docs/cli.md).
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Call {
    /// The pod's end.
    pub client: Endpoint,
    /// The server's end.
    pub server: Endpoint,
    /// Our end towards the server.
    pub external: Endpoint,
    /// The PNS's Call ID as the client chose it.
    pub pns_call_id: Option<u16>,
    /// As the server knows it.
    pub pns_call_id_outside: Option<u16>,
    /// The PAC's.
    pub pac_call_id: Option<u16>,
    /// As the server knows it: the same but for some calls of Shared.
    #[serde(default)]
    pub pac_call_id_outside: Option<u16>,
    /// The tunnel that carries it, in Shared.
    #[serde(default)]
    pub tunnel: Option<u64>,
    /// `Up`, …
    pub state: String,
    /// Client to server.
    pub tx: Traffic,
    /// Server to client.
    pub rx: Traffic,
}

/// Address and TCP port.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Endpoint {
    /// IPv4 address.
    pub address: std::net::Ipv4Addr,
    /// TCP port.
    pub port: u16,
}

/// What went through.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Traffic {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Callgate {
    /// Starts with these manifests and waits until everything is programmed.
    ///
    /// # Errors
    /// If it does not become ready, with its log.
    pub fn start(gw: &Node, manifests: &str) -> anyhow::Result<Self> {
        Self::start_with(gw, manifests, &[])
    }

    /// As `start`, with more flags.
    ///
    /// # Errors
    /// As `start`.
    pub fn start_with(gw: &Node, manifests: &str, extra: &[&str]) -> anyhow::Result<Self> {
        let dir = gw.dir.join("callgate");
        let path = dir.join("manifests");
        fs::create_dir_all(&path).context("manifests")?;
        fs::write(path.join("rules.yaml"), manifests).context("manifests")?;
        let extra = extra.iter().map(|&arg| arg.to_owned()).collect();
        let mut callgate = Self { process: None, manifests: path, dir, extra };
        callgate.run(gw)?;
        Ok(callgate)
    }

    /// Flags of the next start.
    pub fn replace_flags(&mut self, extra: &[&str]) {
        self.extra = extra.iter().map(|&arg| arg.to_owned()).collect();
    }

    /// Starts it again where it was.
    ///
    /// # Errors
    /// If it does not become ready.
    pub fn run(&mut self, gw: &Node) -> anyhow::Result<()> {
        let ready = self.dir.join("ready");
        drop(fs::remove_file(&ready));
        let mut command = gw.command(program("callgate-dataplane")?);
        command.arg("standalone").arg("--manifests").arg(&self.manifests);
        command.arg("--state-dir").arg(self.dir.join("state")).arg("--ready-file").arg(&ready);
        command.arg("--api").arg(self.api()).args(&self.extra);
        let mut process = gw.spawn("callgate", command)?;
        wait::until_true("callgate-dataplane is ready", LIMIT, || match process.exit_status() {
            Some(status) => Err(anyhow!("callgate-dataplane ended: {status}\n{}", process.output())),
            None => Ok(ready.exists()),
        })?;
        self.process = Some(process);
        Ok(())
    }

    /// Ends it without warning.
    pub fn kill9(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill9();
        }
    }

    /// SIGTERM; everything it did is undone.
    ///
    /// # Errors
    /// If it does not end, or not with success.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        process.signal(Signal::SIGTERM);
        let status = process.wait(LIMIT)?;
        anyhow::ensure!(status.success(), "callgate-dataplane ended with {status}\n{}", process.output());
        Ok(())
    }

    /// What it has logged since its last start.
    pub fn log(&self) -> String {
        self.process.as_ref().map(Process::output).unwrap_or_default()
    }

    /// Process id, while it runs.
    pub fn pid(&self) -> Option<i32> {
        self.process.as_ref().map(|process| process.pid().as_raw())
    }

    /// Socket of its API.
    pub fn api(&self) -> PathBuf {
        self.dir.join("api.sock")
    }

    /// Output of `kubectl-callgate` with these arguments.
    ///
    /// # Errors
    /// If it fails.
    pub fn kubectl(&self, gw: &Node, args: &[&str]) -> anyhow::Result<String> {
        let program = program("kubectl-callgate")?;
        let api = self.api().to_string_lossy().into_owned();
        let args = [args, &["--api", &api]].concat();
        gw.run(&program.to_string_lossy(), &args)
    }

    /// Live calls, sorted by client and server.
    ///
    /// # Errors
    /// If the agent does not answer.
    pub fn calls(&self, gw: &Node) -> anyhow::Result<Vec<Call>> {
        #[derive(Deserialize)]
        struct List {
            calls: Vec<Call>,
        }
        let text = self.kubectl(gw, &["calls", "-o", "json"])?;
        Ok(serde_json::from_str::<List>(&text).with_context(|| text.clone())?.calls)
    }

    /// One counter of `kubectl-callgate status`.
    ///
    /// # Errors
    /// If the agent does not answer, or has no such counter.
    pub fn counter(&self, gw: &Node, name: &str) -> anyhow::Result<u64> {
        let text = self.kubectl(gw, &["status", "-o", "json"])?;
        let status: serde_json::Value = serde_json::from_str(&text)?;
        let counters = &status["counters"];
        let value = counters[name]
            .as_u64()
            .or_else(|| counters.as_array()?.iter().find(|counter| counter["name"] == name)?["value"].as_u64());
        value.with_context(|| format!("there is no counter {name}: {counters}"))
    }

    /// Control connections in the table.
    ///
    /// # Errors
    /// If the agent does not answer.
    pub fn connections(&self, gw: &Node) -> anyhow::Result<u64> {
        let text = self.kubectl(gw, &["status", "-o", "json"])?;
        let status: serde_json::Value = serde_json::from_str(&text)?;
        status["connections"].as_u64().with_context(|| text.clone())
    }

    /// Waits until this many calls are up.
    ///
    /// # Errors
    /// After 20 s, with the list.
    pub fn wait_calls(&self, gw: &Node, count: usize) -> anyhow::Result<Vec<Call>> {
        let result = wait::until(&format!("{count} calls"), LIMIT, || {
            let calls = self.calls(gw)?;
            let up = calls.iter().filter(|call| call.state.eq_ignore_ascii_case("up")).count();
            Ok((up == count && calls.len() == count).then_some(calls))
        });
        result.with_context(|| self.kubectl(gw, &["calls"]).unwrap_or_default())
    }
}
