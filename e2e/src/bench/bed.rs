//! One gateway of one kind between a client and a server, with its own namespaces, so that nothing is set up anew between rounds.

use std::fs;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, ensure};

use super::calls::{self, Calls, Id};
use super::flood::{self, Frames, Packet};
use crate::gateway::baseline;
use crate::gateway::callgate::Callgate;
use crate::lab::names::LabId;
use crate::lab::node::Node;
use crate::lab::process::memory;

/// The client.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 10, 1, 2);
/// The gateway towards the client.
const INNER: Ipv4Addr = Ipv4Addr::new(10, 10, 0, 1);
/// The gateway's outer address.
pub const EXTERNAL: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
/// The servers; they are one machine.
pub const SERVERS: [Ipv4Addr; 3] =
    [Ipv4Addr::new(198, 51, 100, 9), Ipv4Addr::new(198, 51, 100, 10), Ipv4Addr::new(198, 51, 100, 11)];
/// A network that holds them and nobody else.
pub const SERVER_NET: (&str, [Ipv4Addr; 3]) = ("198.51.100.8/30", SERVERS);

/// What the gateway does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Forwarding without NAT or conntrack.
    Plain,
    /// Masquerade and conntrack, which know nothing of PPTP: what servers send does not come back to its client.
    Masquerade,
    /// nf_nat_pptp with masquerade.
    KernelAlg,
    /// Callgate standalone, all GRE through user space.
    Slow,
    /// Callgate standalone with eBPF at tc.
    Fast,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Plain, Self::Masquerade, Self::KernelAlg, Self::Slow, Self::Fast];

    /// A short name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain forwarding",
            Self::Masquerade => "plain masquerade",
            Self::KernelAlg => "kernel ALG",
            Self::Slow => "Callgate AF_PACKET",
            Self::Fast => "Callgate eBPF",
        }
    }

    /// How many calls it can be asked for. The kernel's ALG stops carrying beyond 2,048 calls without GRE.
    pub fn most(self) -> usize {
        match self {
            Self::KernelAlg => 1_000,
            // As many entries as conntrack has room for.
            Self::Masquerade => 10_000,
            Self::Plain | Self::Slow | Self::Fast => 60_000,
        }
    }

    /// Whether packets of this direction get through at all.
    pub fn carries(self, direction: Direction) -> bool {
        self != Self::Masquerade || direction == Direction::Up
    }

    fn tag(self) -> char {
        match self {
            Self::Plain => 'p',
            Self::Masquerade => 'm',
            Self::KernelAlg => 'k',
            Self::Slow => 's',
            Self::Fast => 'f',
        }
    }
}

/// Whose packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// Server to client.
    Down,
    /// Client to server.
    Up,
}

/// A bed. Fields are dropped in their order: the agent ends before its namespaces.
#[derive(Debug)]
pub struct Bed {
    /// Its kind.
    pub kind: Kind,
    callgate: Option<Callgate>,
    calls: Calls,
    client: Node,
    gw: Node,
    server: Node,
    /// The gateway's device towards the client.
    inner: String,
    /// The gateway's device towards the server.
    outer: String,
    /// Threads of the kernel that do the gateway's work.
    napi: Vec<u32>,
}

const MANIFESTS: &str = r#"
apiVersion: callgate.io/v1alpha1
kind: PptpAlg
metadata: {name: pptp, namespace: bench}
spec: {echoTimeout: 0s, idleTimeout: 0s}
---
apiVersion: callgate.io/v1alpha1
kind: Service
metadata: {name: pptp, namespace: bench}
spec: {protocol: TCP, destinationPorts: "1723", maxSessions: 0, algRef: {kind: PptpAlg, name: pptp}}
---
apiVersion: callgate.io/v1alpha1
kind: IpRule
metadata: {name: bench, namespace: bench}
spec: {order: 1, action: NAT, source: {cidrs: [10.10.0.0/16]}, services: [{name: pptp}]}
"#;

/// One measurement.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// CPU time of the gateway, ns for each packet that arrived as it should.
    pub ns: f64,
    /// Thousands of such packets a second.
    pub kpps: f64,
    /// Packets offered for each that arrived.
    pub offered: f64,
}

impl Bed {
    /// Builds namespaces, links and the gateway, whose work is done by threads of their own so that it can be measured.
    ///
    /// # Errors
    /// What failed.
    pub fn build(kind: Kind) -> anyhow::Result<Self> {
        let mut bed = Self::build_unmeasured(kind)?;
        for node in [&bed.client, &bed.server] {
            // veth takes a packet through NAPI only if its sender cannot do TSO (drivers/net/veth.c, veth_skb_is_eligible_for_gro).
            node.run("ethtool", &["-K", "eth0", "tx", "off", "tso", "off", "gso", "off"])?;
        }
        for device in [&bed.inner, &bed.outer] {
            // GRO makes veth use NAPI; threaded NAPI gives the gateway's work a thread whose CPU time can be read.
            bed.gw.run("ethtool", &["-K", device, "gro", "on"])?;
            let path = format!("/sys/class/net/{device}/threaded");
            bed.gw.within(|| fs::write(&path, "1"))?.with_context(|| path.clone())?;
        }
        bed.napi = napi_threads(&[&bed.inner, &bed.outer])?;
        for pid in &bed.napi {
            bed.gw.run("taskset", &["-p", "2", &pid.to_string()])?;
        }
        Ok(bed)
    }

    /// As `build`, but the gateway's work is done by whoever sends, one packet after the other: none is lost in a queue.
    ///
    /// # Errors
    /// What failed.
    pub fn build_unmeasured(kind: Kind) -> anyhow::Result<Self> {
        let id = LabId::next();
        let tag = kind.tag();
        let node = |name: &str| Node::create(id, name);
        let (client, gw, server) = (node("c")?, node("gw")?, node("s")?);
        let (inner, outer) = (format!("b{tag}i"), format!("b{tag}o"));
        gw.ip(&format!(
            "link add {inner} type veth peer name eth0 netns {}\nlink add {outer} type veth peer name eth0 netns {}\n\
             addr add {INNER}/16 dev {inner}\naddr add {EXTERNAL}/24 dev {outer}\nlink set {inner} up\nlink set {outer} up",
            client.netns(),
            server.netns()
        ))?;
        client.ip(&format!("addr add {CLIENT}/16 dev eth0\nlink set eth0 up\nroute add default via {INNER}"))?;
        let addresses: String = SERVERS.iter().map(|server| format!("addr add {server}/24 dev eth0\n")).collect();
        server.ip(&format!("{addresses}link set eth0 up\nroute add default via {EXTERNAL}"))?;
        gw.sysctl("net/ipv4/ip_forward", "1")?;
        let callgate = match kind {
            Kind::Plain => None,
            Kind::Masquerade => {
                baseline::masquerade(&gw, &outer)?;
                None
            }
            Kind::KernelAlg => {
                baseline::kernel_alg(&gw, &outer)?;
                None
            }
            Kind::Slow | Kind::Fast => {
                let path = if kind == Kind::Fast { "auto" } else { "off" };
                let flags = ["--half-open-per-client", "100000", "--half-open-per-server", "100000"];
                Some(Callgate::start_with(&gw, MANIFESTS, &[&flags[..], &["--fast-path", path]].concat())?)
            }
        };
        if matches!(kind, Kind::Masquerade | Kind::KernelAlg) {
            for timeout in ["nf_conntrack_gre_timeout", "nf_conntrack_gre_timeout_stream"] {
                gw.sysctl(&format!("net/netfilter/{timeout}"), "3600")?;
            }
        }
        Ok(Self { kind, callgate, calls: Calls::default(), client, gw, server, inner, outer, napi: Vec::new() })
    }

    /// How many calls are set up.
    pub fn calls(&self) -> usize {
        self.calls.ids.len()
    }

    /// Sets up calls one after the other; how long that took.
    ///
    /// # Errors
    /// If a call is not answered as it should be.
    pub fn set_up(&mut self, count: usize) -> anyhow::Result<Duration> {
        let begun = Instant::now();
        self.calls = calls::set_up(&self.client, &self.server, count)?;
        let took = begun.elapsed();
        if self.kind == Kind::KernelAlg {
            // Its expectations end with the first GRE packet of each call.
            flood::once(&self.server, &self.frames(Direction::Down, count, 80)?)?;
        }
        Ok(took)
    }

    /// Sends as fast as it can for `ms` milliseconds over the first `calls` calls in turn.
    ///
    /// # Errors
    /// If a counter cannot be read, or nothing arrives.
    pub fn flood(&mut self, direction: Direction, calls: usize, length: usize, ms: u64) -> anyhow::Result<Measured> {
        let frames = self.frames(direction, calls, length)?;
        let (from, to) = match direction {
            Direction::Down => (&self.server, &self.client),
            Direction::Up => (&self.client, &self.server),
        };
        let wanted: Vec<Packet> = self.calls.ids[..calls].iter().map(|id| self.as_received(direction, id)).collect();
        flood::sink(to, &wanted)?;
        let before = self.cpu()?;
        let begun = Instant::now();
        let offered = flood::run(from, &frames, Duration::from_millis(ms))?;
        // What is still in queues belongs to this measurement.
        let arrived = flood::settled(to)?;
        let seconds = begun.elapsed().as_secs_f64();
        let cpu = self.cpu()? - before;
        ensure!(arrived > 0, "nothing arrived through {}", self.kind.name());
        Ok(Measured {
            ns: cpu as f64 / arrived as f64,
            kpps: arrived as f64 / seconds / 1_000.0,
            offered: offered as f64 / arrived as f64,
        })
    }

    /// Sends steadily while the agent is killed and started again so many times; packets sent, and arrived as they should.
    ///
    /// # Errors
    /// If there is no agent, or it does not start again.
    pub fn survive(&mut self, kills: usize, per_ms: usize) -> anyhow::Result<(u64, u64)> {
        let frames = self.frames(Direction::Down, self.calls(), 80)?;
        let wanted: Vec<Packet> = self.calls.ids.iter().map(|id| self.as_received(Direction::Down, id)).collect();
        flood::sink(&self.client, &wanted)?;
        let Self { callgate, gw, server, client, .. } = self;
        let callgate = callgate.as_mut().context("no agent")?;
        let done = AtomicBool::new(false);
        let sent = std::thread::scope(|scope| {
            let sender = scope.spawn(|| flood::steady(server, &frames, per_ms, &done));
            let killed = (0..kills).try_for_each(|_| {
                callgate.kill9();
                callgate.run(gw)
            });
            done.store(true, Ordering::Relaxed);
            let sent = sender.join().map_err(|_| anyhow!("the sender panicked"))?;
            killed.and(sent)
        })?;
        Ok((sent, flood::settled(client)?))
    }

    /// Resident memory of the agent, bytes; `None` where there is none.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn agent_memory(&self) -> anyhow::Result<Option<u64>> {
        self.callgate.as_ref().and_then(Callgate::pid).map(|pid| memory(pid, "VmRSS")).transpose()
    }

    fn frames(&self, direction: Direction, calls: usize, length: usize) -> anyhow::Result<Frames> {
        let device = if direction == Direction::Down { &self.outer } else { &self.inner };
        let mac = self.gw.within(|| fs::read_to_string(format!("/sys/class/net/{device}/address")))??;
        let packets = self.calls.ids[..calls].iter().map(|id| self.as_sent(direction, id));
        Ok(Frames::new(mac.trim(), packets, length))
    }

    fn as_sent(&self, direction: Direction, id: &Id) -> Packet {
        let (dst, call_id) = match self.kind {
            Kind::Plain => (CLIENT, id.client),
            Kind::Masquerade => (EXTERNAL, id.client),
            Kind::KernelAlg | Kind::Slow | Kind::Fast => (EXTERNAL, id.outside),
        };
        match direction {
            Direction::Down => Packet { src: id.server, dst, call_id },
            Direction::Up => Packet { src: CLIENT, dst: id.server, call_id: id.pac },
        }
    }

    fn as_received(&self, direction: Direction, id: &Id) -> Packet {
        let src = if self.kind == Kind::Plain { CLIENT } else { EXTERNAL };
        match direction {
            Direction::Down => Packet { src: id.server, dst: CLIENT, call_id: id.client },
            Direction::Up => Packet { src, dst: id.server, call_id: id.pac },
        }
    }

    /// CPU time spent for the gateway so far, ns.
    fn cpu(&self) -> anyhow::Result<u64> {
        let mut threads: Vec<String> = self.napi.iter().map(|pid| format!("/proc/{pid}/schedstat")).collect();
        if let Some(pid) = self.callgate.as_ref().and_then(Callgate::pid) {
            for task in fs::read_dir(format!("/proc/{pid}/task"))? {
                threads.push(task?.path().join("schedstat").to_string_lossy().into_owned());
            }
        }
        let mut total = 0;
        for path in threads {
            let text = fs::read_to_string(&path).with_context(|| path.clone())?;
            total += text.split(' ').next().and_then(|ns| ns.parse::<u64>().ok()).context("schedstat")?;
        }
        Ok(total)
    }
}

/// Kernel threads `napi/DEVICE-N` of these devices.
fn napi_threads(devices: &[&str]) -> anyhow::Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        let comm = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        if devices.iter().any(|device| comm.starts_with(&format!("napi/{device}-"))) {
            found.push(pid);
        }
    }
    ensure!(
        !found.is_empty(),
        "this kernel has no threaded NAPI for veth: the gateway's CPU time cannot be told apart"
    );
    Ok(found)
}
