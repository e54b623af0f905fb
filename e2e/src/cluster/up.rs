//! Builds a cluster, and holds it until it is dropped.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, ensure};

use super::certificates::Authority;
use super::control_plane::{self, ControlPlane};
use super::kubectl::Kubectl;
use super::machine::Machine;
use super::outside::Outside;
use super::{dns, image, kubeconfig, wiring};
use crate::lab::names::{self, Files, LabId};
use crate::lab::node::Node;
use crate::lab::process::{Process, tail};
use crate::lab::signals;
use crate::wait;

/// How long the API server may take to be ready, and then the nodes. It is a second or two on an idle machine.
const READY: Duration = Duration::from_secs(120);

/// How many of what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Machines for pods, at most 200.
    pub nodes: usize,
    /// PPTP servers outside, at most 200.
    pub servers: usize,
    /// Whether the CNI hides pods behind their node's address. If not, what it lets out is seen by the router.
    pub masquerade: bool,
}

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    // Dropped in this order: programs before the namespaces they are in.
    pub(super) control: ControlPlane,
    dns: Process,
    /// Machines for pods.
    pub machines: Vec<Machine>,
    /// Router and servers.
    pub outside: Outside,
    /// Where the control plane runs.
    pub control_plane: Node,
    /// The administrator's kubeconfig.
    pub kubeconfig: PathBuf,
    /// Where everything the cluster writes is.
    pub dir: PathBuf,
    _files: Files,
}

impl Cluster {
    /// Where the cluster's own authority (`ca.crt`) and the key that signs service accounts' tokens (`service-accounts.key`) are.
    pub fn pki(&self) -> PathBuf {
        self.control_plane.dir.join("pki")
    }

    /// Builds one; `say` gets a line for each step, with seconds since the start. Returns when all nodes are Ready.
    ///
    /// # Errors
    /// Without root, Go programs or Debian packages (`tools::missing` says which), with what failed.
    pub fn up(plan: &Plan, say: &mut dyn FnMut(&str)) -> anyhow::Result<Self> {
        ensure!(plan.nodes <= 200 && plan.servers <= 200, "a cluster has at most 200 nodes and 200 servers");
        if let Some(missing) = super::tools::missing() {
            anyhow::bail!("no cluster can run here: {missing}");
        }
        signals::install();
        names::sweep_dead();
        let start = Instant::now();
        let mut say = |what: &str| say(&format!("{:5.1} s  {what}", start.elapsed().as_secs_f64()));
        let id = LabId::next();
        let files = Files::of(id);
        let control_plane = Node::create(id, "cp")?;
        let router = Node::create(id, "inet")?;
        let mut machines =
            (0..plan.nodes).map(|index| Machine::create(id, index)).collect::<anyhow::Result<Vec<_>>>()?;
        let servers = (1..=plan.servers)
            .map(|index| Node::create(id, &format!("s{index}")))
            .collect::<anyhow::Result<Vec<_>>>()?;
        wiring::wire(&router, &control_plane, &machines, &servers)?;
        say("namespaces, links and routes are made");
        let authority = Authority::create(&control_plane.dir.join("pki"))?;
        let admin = authority.issue("kubernetes-admin", "system:masters", &[])?;
        let kubeconfig = kubeconfig::write(&control_plane.dir.join("admin.kubeconfig"), &authority, &admin)?;
        let control = control_plane::start(&control_plane, &authority)?;
        let dns = dns::start(&control_plane, &kubeconfig)?;
        let images = image::write_all(&id.dir())?;
        runtimes(&mut machines, &images, plan.masquerade)?;
        let outside = Outside::start(router, servers)?;
        say("containerd runs on every node, pptpd outside");
        let dir = id.dir();
        let mut cluster = Self { control, dns, machines, outside, control_plane, kubeconfig, dir, _files: files };
        cluster.become_ready(&authority, &mut say).inspect_err(|_| cluster.tell())?;
        Ok(cluster)
    }

    fn become_ready(&mut self, authority: &Authority, say: &mut dyn FnMut(&str)) -> anyhow::Result<()> {
        wait::until_true("the API server is ready", READY, || {
            self.check()?;
            Ok(self.kubectl().output(&["get", "--raw", "/readyz"], "")?.status.success())
        })?;
        say("the API server is ready");
        let objects: Vec<String> = self.machines.iter().map(|machine| machine.object().to_string()).collect();
        // A control plane alone is a cluster too.
        if !objects.is_empty() {
            self.kubectl().apply(&objects.join("\n---\n"))?;
        }
        for machine in &mut self.machines {
            machine.start_kubernetes(authority)?;
        }
        wait::until_true("all nodes are Ready", READY, || {
            self.check()?;
            let status = "jsonpath={.items[*].status.conditions[?(@.type=='Ready')].status}";
            let said = self.kubectl().run(&["get", "nodes", "-o", status])?;
            Ok(said.split(' ').filter(|word| *word == "True").count() == self.machines.len())
        })?;
        say("all nodes are Ready");
        wait::until_true("the default service account is there", READY, || {
            Ok(self.kubectl().output(&["get", "serviceaccount", "default"], "")?.status.success())
        })?;
        say("pods can be made");
        Ok(())
    }

    /// Fails when a program has ended that should run.
    ///
    /// # Errors
    /// As said, with the end of what it wrote.
    pub fn check(&mut self) -> anyhow::Result<()> {
        let programs = self.control.processes().chain([&mut self.dns]);
        let mut ended: Vec<String> = programs
            .filter_map(|process| process.exit_status().map(|status| format!("{status}\n{}", process.tail(20))))
            .collect();
        ended.extend(self.machines.iter_mut().flat_map(Machine::ended));
        ensure!(ended.is_empty(), "ended early: {}", ended.join("\n"));
        Ok(())
    }

    /// The administrator's kubectl.
    pub fn kubectl(&self) -> Kubectl<'_> {
        Kubectl::new(&self.control_plane, self.kubeconfig.clone())
    }

    /// Gives an image to every node.
    ///
    /// # Errors
    /// If a containerd refuses it.
    pub fn import(&self, tar: &Path) -> anyhow::Result<()> {
        self.machines.iter().try_for_each(|machine| machine.import(tar))
    }

    /// Prints the ends of all logs to stderr.
    pub fn tell(&self) {
        let nodes = self.machines.iter().map(|machine| &machine.node);
        for node in nodes.chain([&self.control_plane]).chain(&self.outside.servers) {
            let files = fs::read_dir(&node.dir).into_iter().flatten().flatten().map(|entry| entry.path());
            let mut logs: Vec<PathBuf> =
                files.filter(|path| path.extension().is_some_and(|name| name == "log")).collect();
            logs.sort();
            logs.iter().for_each(|log| eprintln!("{}", tail(log, 15)));
        }
    }
}

/// containerd and its images on all machines at the same time.
fn runtimes(machines: &mut [Machine], images: &[PathBuf], masquerade: bool) -> anyhow::Result<()> {
    std::thread::scope(|scope| {
        let start = |machine| scope.spawn(move || Machine::start_runtime(machine, images, masquerade));
        let started: Vec<_> = machines.iter_mut().map(start).collect();
        started
            .into_iter()
            .try_for_each(|thread| thread.join().map_err(|_| anyhow!("a thread that starts a machine panicked"))?)
    })
    .context("containerd")
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.machines.clear();
        self.control.processes().for_each(Process::kill9);
        self.dns.kill9();
        for node in [&self.control_plane, &self.outside.router].into_iter().chain(&self.outside.servers) {
            names::remove_netns(node.netns());
        }
    }
}
