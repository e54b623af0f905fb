//! A site whose client has PPTP calls through one kind of gateway; nothing of it is set up anew between rounds.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::Context as _;

use super::calls::{self, Id};
use super::card::{Card, Taker};
use super::flood::{self, Frames, Inner, Packet};
use super::latency::{self, Delay};
use super::site::{CLIENT, Direction, EXTERNAL, Gateway, Measured, Site};
use crate::gateway::baseline;
use crate::gateway::callgate::Callgate;
use crate::lab::node::Node;
use crate::lab::process::memory;
use crate::wait::until_true;

/// What the gateway does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
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
    /// Callgate standalone with eBPF at XDP too, whose ends take frames of it.
    Xdp,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Plain, Self::Masquerade, Self::KernelAlg, Self::Slow, Self::Fast, Self::Xdp];

    /// A short name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain forwarding",
            Self::Masquerade => "plain masquerade",
            Self::KernelAlg => "kernel ALG",
            Self::Slow => "Callgate AF_PACKET",
            Self::Fast => "Callgate eBPF",
            Self::Xdp => "Callgate XDP",
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
            Self::Xdp => 'x',
        }
    }
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

/// Call set-ups of one measurement.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Calls set up in a second.
    pub per_second: f64,
    /// CPU time of the gateway for each, µs.
    pub cpu_us: f64,
}

/// A bed.
#[derive(Debug)]
pub struct Bed {
    /// Its kind.
    pub kind: Kind,
    site: Site,
    ids: Vec<Id>,
    /// Cards at client and server, if it has some.
    cards: Option<[Card; 2]>,
}

impl Bed {
    /// Builds it; the gateway's work can be measured. `tag` tells it from other beds of its kind.
    ///
    /// # Errors
    /// What failed.
    pub fn build(kind: Kind, tag: &str) -> anyhow::Result<Self> {
        let bed = Self::unmeasured(kind, tag)?;
        Ok(Self { site: bed.site.with_threads()?, ..bed })
    }

    /// As `build`, but the gateway's work is done by whoever sends, one packet after the other: none is lost in a queue.
    ///
    /// # Errors
    /// What failed.
    pub fn build_unmeasured(kind: Kind) -> anyhow::Result<Self> {
        Self::unmeasured(kind, "")
    }

    fn unmeasured(kind: Kind, tag: &str) -> anyhow::Result<Self> {
        let path = match kind {
            Kind::Fast => "auto",
            Kind::Xdp => "xdp",
            Kind::Plain | Kind::Masquerade | Kind::KernelAlg | Kind::Slow => "off",
        };
        let most = "100000";
        let flags = [
            ["--half-open-per-client", most],
            ["--half-open-per-server", most],
            ["--ports-per-client", most],
            ["--call-ids-per-client", most],
            ["--fast-path", path],
        ]
        .concat();
        let gateway = match kind {
            Kind::Plain => Gateway::Plain,
            Kind::Masquerade => Gateway::Masquerade,
            Kind::KernelAlg => Gateway::KernelAlg,
            Kind::Slow | Kind::Fast | Kind::Xdp => Gateway::Callgate { manifests: MANIFESTS, flags: &flags },
        };
        let site = Site::build(&format!("{}{tag}", kind.tag()), gateway)?;
        for end in [&site.client, &site.server].into_iter().filter(|_| kind == Kind::Xdp) {
            // Or nothing takes the frames.
            end.run("ethtool", &["-K", "eth0", "gro", "on"])?;
        }
        calls::hush(&site.client)?;
        calls::hush(&site.server)?;
        Ok(Self { kind, site, ids: Vec::new(), cards: None })
    }

    /// Both ends have cards as well, for so many calls, which send; and take what arrives, where that is by XDP.
    ///
    /// # Errors
    /// Where the kernel does not take their programs.
    pub fn with_cards(self, most: usize, taker: Taker) -> anyhow::Result<Self> {
        let card = |end| Card::at(end, most, taker);
        let cards = [card(&self.site.client)?, card(&self.site.server)?];
        Ok(Self { cards: Some(cards), ..self })
    }

    /// How many calls it can be asked for.
    ///
    /// # Errors
    /// If the kernel does not say how many its ALG has room for.
    pub fn most(&self) -> anyhow::Result<usize> {
        Ok(match self.kind {
            Kind::KernelAlg => baseline::calls_without_gre()?.min(1_000),
            // As many entries as conntrack has room for.
            Kind::Masquerade => 10_000,
            Kind::Plain | Kind::Slow | Kind::Fast | Kind::Xdp => 60_000,
        })
    }

    /// How many calls are set up.
    pub fn calls(&self) -> usize {
        self.ids.len()
    }

    /// Sets up so many calls more, `width` at a time.
    ///
    /// # Errors
    /// If a call is not answered as it should be.
    pub fn set_up(&mut self, count: usize, width: usize) -> anyhow::Result<Rate> {
        let numbers = self.ids.len()..self.ids.len() + count;
        let before = self.site.cpu()?;
        let (ids, took) = calls::set_up(&self.site.client, &self.site.server, numbers, width)?;
        let cpu = self.site.cpu()? - before;
        self.ids.extend(ids);
        Ok(Rate { per_second: count as f64 / took.as_secs_f64(), cpu_us: cpu as f64 / 1_000.0 / count as f64 })
    }

    /// Until its calls pass by XDP.
    ///
    /// # Errors
    /// If they do not.
    pub fn wait_for_xdp(&self) -> anyhow::Result<()> {
        let callgate = self.site.callgate.as_ref().context("no agent")?;
        // Its log, since the benchmark has no kubectl-callgate.
        let both = || Ok(callgate.log().matches("XDP is on it").count() >= 2);
        until_true("XDP on both links", Duration::from_secs(10), both)
    }

    /// The first packets of its calls: each once, slowly, from the server; how many arrived as they should. In the kernel's ALG a
    /// call's expectations end with it.
    ///
    /// # Errors
    /// If they cannot be sent or counted.
    pub fn first_packets(&self) -> anyhow::Result<u64> {
        flood::sink(&self.site.client, &self.wanted(Direction::Down, self.ids.len()))?;
        flood::once(&self.site.server, &self.frames(Direction::Down, self.ids.len(), 80)?)?;
        flood::settled(&self.site.client)
    }

    /// Ends all flows in the gateway's conntrack.
    pub fn forget_flows(&self) {
        // Says so when there was nothing to delete, with an exit code of 1 in some versions.
        drop(self.site.gw.run("conntrack", &["-F"]));
    }

    /// Sends as fast as it can for `ms` milliseconds over the first `calls` calls in turn.
    ///
    /// # Errors
    /// If a counter cannot be read, or next to nothing arrives.
    pub fn flood(&self, direction: Direction, calls: usize, length: usize, ms: u64) -> anyhow::Result<Measured> {
        let frames = self.frames(direction, calls, length)?;
        self.site.flood(direction, &frames, &self.wanted(direction, calls), ms)
    }

    /// As `flood`, but what is sent comes from a card: it was no skb before.
    ///
    /// # Errors
    /// If a counter cannot be read, next to nothing arrives, or there are no cards.
    pub fn card_flood(&mut self, direction: Direction, calls: usize, ms: u64) -> anyhow::Result<Measured> {
        let (frames, wanted) = (self.frames(direction, calls, 80)?, self.wanted(direction, calls));
        let (from, to) = self.site.ends(direction);
        let [client, server] = self.cards.as_mut().context("no cards")?;
        let (sender, sink) = match direction {
            Direction::Down => (server, client),
            Direction::Up => (client, server),
        };
        sender.load(&frames)?;
        let send = |time, rate| sender.run(from, &frames, time, rate);
        sink.take(Some((&wanted, mac(to)?)))?;
        let measured = self.site.measure(send, || sink.settled(), ms);
        sink.take(None)?;
        measured
    }

    /// How long packets of the first call take from the server to the client, one now and then.
    ///
    /// # Errors
    /// If most do not arrive.
    pub fn delay(&self) -> anyhow::Result<Delay> {
        let id = self.ids.first().context("no call")?;
        let frames = self.frames(Direction::Down, 1, 80)?;
        latency::measure(&self.site, &frames, self.as_received(Direction::Down, id))
    }

    /// Sends steadily while the agent is killed and started again so many times, with `between` after each end; packets sent, and
    /// arrived as they should.
    ///
    /// # Errors
    /// If there is no agent, it does not start again, or what `between` says.
    pub fn survive(
        &mut self,
        kills: usize,
        per_ms: usize,
        between: impl Fn(&Node) -> anyhow::Result<()>,
    ) -> anyhow::Result<(u64, u64)> {
        let (frames, wanted) =
            (self.frames(Direction::Down, self.calls(), 80)?, self.wanted(Direction::Down, self.calls()));
        let Site { callgate, gw, server, client, .. } = &mut self.site;
        flood::sink(client, &wanted)?;
        let callgate = callgate.as_mut().context("no agent")?;
        let sent = flood::steady(server, &frames, per_ms, || {
            (0..kills).try_for_each(|_| {
                callgate.kill9();
                between(gw)?;
                callgate.run(gw)
            })
        })?;
        Ok((sent, flood::settled(client)?))
    }

    /// Sends steadily from the server for this long; packets sent, and arrived as they should.
    ///
    /// # Errors
    /// If they cannot be sent or counted.
    pub fn steady(&self, per_ms: usize, time: Duration) -> anyhow::Result<(u64, u64)> {
        flood::sink(&self.site.client, &self.wanted(Direction::Down, self.calls()))?;
        let frames = self.frames(Direction::Down, self.calls(), 80)?;
        let sent = flood::steady(&self.site.server, &frames, per_ms, || {
            std::thread::sleep(time);
            Ok(())
        })?;
        Ok((sent, flood::settled(&self.site.client)?))
    }

    /// Its namespaces and its agent.
    pub fn site(&self) -> &Site {
        &self.site
    }

    /// Resident memory of the agent, bytes; `None` where there is none.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn agent_memory(&self) -> anyhow::Result<Option<u64>> {
        self.site.callgate.as_ref().and_then(Callgate::pid).map(|pid| memory(pid, "VmRSS")).transpose()
    }

    fn frames(&self, direction: Direction, calls: usize, length: usize) -> anyhow::Result<Frames> {
        let packets = self.ids[..calls].iter().map(|id| self.as_sent(direction, id));
        self.site.frames(direction, packets, length)
    }

    /// Packets of the first `calls` calls as they arrive.
    fn wanted(&self, direction: Direction, calls: usize) -> Vec<Packet> {
        self.ids[..calls].iter().map(|id| self.as_received(direction, id)).collect()
    }

    fn as_sent(&self, direction: Direction, id: &Id) -> Packet {
        let (dst, call_id) = match self.kind {
            Kind::Plain => (CLIENT, id.client),
            Kind::Masquerade => (EXTERNAL, id.client),
            Kind::KernelAlg | Kind::Slow | Kind::Fast | Kind::Xdp => (EXTERNAL, id.outside),
        };
        match direction {
            Direction::Down => gre(id.server, dst, call_id),
            Direction::Up => gre(CLIENT, id.server, id.pac),
        }
    }

    fn as_received(&self, direction: Direction, id: &Id) -> Packet {
        let src = if self.kind == Kind::Plain { CLIENT } else { EXTERNAL };
        match direction {
            Direction::Down => gre(id.server, CLIENT, id.client),
            Direction::Up => gre(src, id.server, id.pac),
        }
    }
}

/// The Ethernet address of an end.
fn mac(end: &Node) -> anyhow::Result<[u8; 6]> {
    let text = end.within(|| std::fs::read_to_string("/sys/class/net/eth0/address"))??;
    let octets: Vec<u8> = text.trim().split(':').map_while(|octet| u8::from_str_radix(octet, 16).ok()).collect();
    octets.try_into().map_err(|_| anyhow::anyhow!("{text}: no Ethernet address"))
}

fn gre(src: Ipv4Addr, dst: Ipv4Addr, call_id: u16) -> Packet {
    Packet { src, dst, inner: Inner::Gre { call_id } }
}
