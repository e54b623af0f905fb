//! A gateway between a client and a server, each in namespaces of its own, whose CPU time can be told apart from that of whoever sends.

use std::fs;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

use super::flood::{self, Frames, Packet};
use crate::gateway::baseline;
use crate::gateway::callgate::Callgate;
use crate::lab::names::{Files, LabId};
use crate::lab::node::Node;

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

/// How often it is tried out what a gateway can carry, and for how long each time.
const PROBES: usize = 4;
const PROBE: Duration = Duration::from_millis(50);
/// Packets offered for each that arrives, from which on a gateway is offered less: a little more than it has carried.
const TOO_MUCH: f64 = 1.2;
const LITTLE_MORE: f64 = 1.05;
/// Packets a second that are offered at least.
const SLOWEST: f64 = 10_000.0;

/// Fewer packets than this say nothing about the cost of one.
const ENOUGH: u64 = 500;

/// Time-outs of conntrack that would end flows in the pauses between rounds, seconds.
const TIMEOUTS: [&str; 6] = [
    "nf_conntrack_gre_timeout",
    "nf_conntrack_gre_timeout_stream",
    "nf_conntrack_udp_timeout",
    "nf_conntrack_udp_timeout_stream",
    // Of a control connection whose last segment nobody has acknowledged: with it the kernel's ALG ends its calls.
    "nf_conntrack_tcp_timeout_unacknowledged",
    "nf_conntrack_tcp_timeout_max_retrans",
];

/// Whose packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// Server to client.
    Down,
    /// Client to server.
    Up,
}

impl Direction {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Down, Self::Up];

    /// A short name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Up => "up",
        }
    }
}

/// What the gateway runs.
#[derive(Debug, Clone, Copy)]
pub enum Gateway<'a> {
    /// Forwarding without NAT or conntrack.
    Plain,
    /// Masquerade.
    Masquerade,
    /// nf_nat_pptp with masquerade.
    KernelAlg,
    /// Callgate standalone.
    Callgate {
        /// Its objects.
        manifests: &'a str,
        /// More flags.
        flags: &'a [&'a str],
    },
}

/// One measurement of packets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// CPU time of the gateway, ns for each packet that arrived as it should.
    pub ns: f64,
    /// Thousands of such packets a second.
    pub kpps: f64,
    /// Packets offered for each that arrived.
    pub offered: f64,
}

/// A site. Fields are dropped in their order: the agent ends before its namespaces, and they before their files.
#[derive(Debug)]
pub struct Site {
    /// The agent, if there is one.
    pub callgate: Option<Callgate>,
    /// The client.
    pub client: Node,
    /// The gateway.
    pub gw: Node,
    /// The server.
    pub server: Node,
    /// The gateway's device towards the client.
    inner: String,
    /// The gateway's device towards the server.
    outer: String,
    /// Threads of the kernel that do the gateway's work.
    napi: Vec<u32>,
    _files: Files,
}

impl Site {
    /// Builds namespaces, links and the gateway. Its work is done by whoever sends, one packet after the other: none is lost in a
    /// queue. `tag` tells its devices from those of other sites.
    ///
    /// # Errors
    /// What failed.
    pub fn build(tag: &str, gateway: Gateway<'_>) -> anyhow::Result<Self> {
        let id = LabId::next();
        let files = Files::of(id);
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
        let callgate = match gateway {
            Gateway::Plain => None,
            Gateway::Masquerade => {
                baseline::masquerade(&gw, &outer)?;
                None
            }
            Gateway::KernelAlg => {
                baseline::kernel_alg(&gw, &outer)?;
                None
            }
            Gateway::Callgate { manifests, flags } => Some(Callgate::start_with(&gw, manifests, flags)?),
        };
        if !matches!(gateway, Gateway::Plain) {
            for timeout in TIMEOUTS {
                gw.sysctl(&format!("net/netfilter/{timeout}"), "86400")?;
            }
        }
        Ok(Self { callgate, client, gw, server, inner, outer, napi: Vec::new(), _files: files })
    }

    /// From now on the gateway's work is done by threads of their own, so that it can be measured.
    ///
    /// # Errors
    /// Where this kernel cannot do that.
    pub fn with_threads(mut self) -> anyhow::Result<Self> {
        for node in [&self.client, &self.server] {
            // veth takes a packet through NAPI only if its sender cannot do TSO (drivers/net/veth.c, veth_skb_is_eligible_for_gro).
            node.run("ethtool", &["-K", "eth0", "tx", "off", "tso", "off", "gso", "off"])?;
        }
        for device in [&self.inner, &self.outer] {
            // GRO makes veth use NAPI; threaded NAPI gives the gateway's work a thread whose CPU time can be read.
            self.gw.run("ethtool", &["-K", device, "gro", "on"])?;
            let path = format!("/sys/class/net/{device}/threaded");
            self.gw.within(|| fs::write(&path, "1"))?.with_context(|| path.clone())?;
        }
        self.napi = napi_threads(&[&self.inner, &self.outer])?;
        for pid in &self.napi {
            self.gw.run("taskset", &["-p", "2", &pid.to_string()])?;
        }
        // And what interrupts on that CPU put off: with XDP, the far end's share.
        self.napi.extend(threads(|name| name == "ksoftirqd/1")?);
        Ok(self)
    }

    /// Where packets of this direction are sent, and where they arrive.
    pub fn ends(&self, direction: Direction) -> (&Node, &Node) {
        match direction {
            Direction::Down => (&self.server, &self.client),
            Direction::Up => (&self.client, &self.server),
        }
    }

    /// Frames of these packets to the gateway.
    ///
    /// # Errors
    /// If its address cannot be read.
    pub fn frames(
        &self,
        direction: Direction,
        packets: impl Iterator<Item = Packet>,
        length: usize,
    ) -> anyhow::Result<Frames> {
        let device = if direction == Direction::Down { &self.outer } else { &self.inner };
        let mac = self.gw.within(|| fs::read_to_string(format!("/sys/class/net/{device}/address")))??;
        Ok(Frames::new(mac.trim(), packets, length))
    }

    /// Sends as fast as it can, or as fast as the gateway can where that is less, for `ms` milliseconds; what it cost the gateway to
    /// let them arrive as `wanted`. What is dropped costs a gateway too, and would be in the cost of those that are not.
    ///
    /// # Errors
    /// If a counter cannot be read, or next to nothing arrives.
    pub fn flood(&self, direction: Direction, frames: &Frames, wanted: &[Packet], ms: u64) -> anyhow::Result<Measured> {
        let (from, to) = self.ends(direction);
        flood::sink(to, wanted)?;
        self.measure(|time, rate| flood::run(from, frames, time, rate), || flood::settled(to), ms)
    }

    /// The same of whatever is sent for a time, at a rate, and counted once it has settled.
    ///
    /// # Errors
    /// If a counter cannot be read, or next to nothing arrives.
    pub fn measure(
        &self,
        send: impl Fn(Duration, Option<f64>) -> anyhow::Result<u64>,
        settled: impl Fn() -> anyhow::Result<u64>,
        ms: u64,
    ) -> anyhow::Result<Measured> {
        let mut counted = settled()?;
        // Offered, arrived, and how long it was sent for.
        let mut offer = |time, rate| -> anyhow::Result<(u64, u64, Duration)> {
            let (begun, before) = (Instant::now(), counted);
            let offered = send(time, rate)?;
            let took = begun.elapsed();
            // What is still in queues belongs to it.
            counted = settled()?;
            Ok((offered, counted - before, took))
        };
        let mut rate = None;
        for _ in 0..PROBES {
            let (offered, arrived, took) = offer(PROBE, rate)?;
            if offered as f64 <= arrived as f64 * TOO_MUCH {
                break;
            }
            rate = Some((arrived as f64 / took.as_secs_f64() * LITTLE_MORE).max(SLOWEST));
        }
        let before = self.cpu()?;
        let (offered, arrived, took) = offer(Duration::from_millis(ms), rate)?;
        let seconds = took.as_secs_f64();
        let cpu = self.cpu()? - before;
        ensure!(arrived >= ENOUGH, "{arrived} of {offered} packets arrived");
        Ok(Measured {
            ns: cpu as f64 / arrived as f64,
            kpps: arrived as f64 / seconds / 1_000.0,
            offered: offered as f64 / arrived as f64,
        })
    }

    /// CPU time spent for the gateway so far, ns: its kernel threads and its agent.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn cpu(&self) -> anyhow::Result<u64> {
        let mut total = match self.callgate.as_ref().and_then(Callgate::pid) {
            Some(pid) => process_time(pid)?,
            None => 0,
        };
        for pid in &self.napi {
            let path = format!("/proc/{pid}/schedstat");
            let text = fs::read_to_string(&path).with_context(|| path.clone())?;
            total += text.split(' ').next().and_then(|ns| ns.parse::<u64>().ok()).context("schedstat")?;
        }
        Ok(total)
    }
}

/// CPU time of all threads of a process, those that have ended included (clock_getcpuclockid(3)), ns.
fn process_time(pid: i32) -> anyhow::Result<u64> {
    let clock = clock_getcpuclockid(Pid::from_raw(pid)).context("CPU clock of the agent")?;
    let time = Duration::from(clock_gettime(clock).context("CPU time of the agent")?);
    Ok(time.as_nanos() as u64)
}

/// Kernel threads `napi/DEVICE-N` of these devices.
fn napi_threads(devices: &[&str]) -> anyhow::Result<Vec<u32>> {
    let prefixes: Vec<String> = devices.iter().map(|device| format!("napi/{device}-")).collect();
    threads(|name| prefixes.iter().any(|prefix| name.starts_with(prefix)))
        .context("this kernel has no threaded NAPI for veth: the gateway's CPU time cannot be told apart")
}

/// Kernel threads with such a name.
fn threads(wanted: impl Fn(&str) -> bool) -> anyhow::Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        let comm = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        if wanted(comm.trim_end()) {
            found.push(pid);
        }
    }
    ensure!(!found.is_empty(), "no such thread of the kernel");
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_thread_has_taken_that_has_ended_stays_counted() {
        let own = || process_time(std::process::id() as i32).unwrap();
        let before = own();
        let busy = || {
            let of_this_thread = nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID;
            let time = || Duration::from(clock_gettime(of_this_thread).unwrap());
            while time() < Duration::from_millis(20) {}
            time()
        };
        let taken = std::thread::spawn(busy).join().unwrap();
        assert!(u128::from(own() - before) >= taken.as_nanos());
    }
}
