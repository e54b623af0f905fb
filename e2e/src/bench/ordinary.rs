//! Ordinary NAT: UDP flows through Callgate's nftables rules, beside those through one masquerade rule.

use std::fmt::Write as _;

use super::flood::{self, Inner, Packet};
use super::site::{CLIENT, Direction, EXTERNAL, Gateway, Measured, SERVERS, Site};

/// Flows, by source port.
const PORTS: std::ops::Range<u16> = 20_000..20_100;
const SERVER_PORT: u16 = 9_000;
/// Octets of IPv4 packets.
const LENGTH: usize = 80;

/// Who translates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Nat {
    /// `oifname … masquerade` and nothing else.
    Masquerade,
    /// Callgate, with so many rules for the client; the last of them is the one that fits.
    Callgate(usize),
    /// Callgate with one rule and, for another client, one for PPTP: its hooks and its routing rules are there.
    BesidePptp,
}

impl Nat {
    /// All that are measured.
    pub const ALL: [Self; 4] = [Self::Masquerade, Self::Callgate(1), Self::Callgate(1_000), Self::BesidePptp];

    /// A short name.
    pub fn name(self) -> String {
        match self {
            Self::Masquerade => "plain masquerade".into(),
            Self::Callgate(1) => "Callgate, 1 rule".into(),
            Self::Callgate(rules) => format!("Callgate, {rules} rules"),
            Self::BesidePptp => "Callgate, 1 and PPTP".into(),
        }
    }
}

/// A site with flows that are answered.
#[derive(Debug)]
pub struct Flows {
    /// Who translates.
    pub nat: Nat,
    site: Site,
}

impl Flows {
    /// Builds it; its flows are established.
    ///
    /// # Errors
    /// What failed.
    pub fn build(nat: Nat) -> anyhow::Result<Self> {
        let with = |name: &str, manifests: &str| {
            Site::build(name, Gateway::Callgate { manifests, flags: &["--fast-path", "off"] })
        };
        let site = match nat {
            Nat::Masquerade => Site::build("um", Gateway::Masquerade)?,
            Nat::Callgate(rules) => with(&format!("u{rules}"), &manifests(rules))?,
            Nat::BesidePptp => with("up", &(manifests(1) + PPTP))?,
        };
        let flows = Self { nat, site: site.with_threads()? };
        for direction in Direction::BOTH {
            flood::sink(flows.site.ends(direction).1, &arriving(direction))?;
        }
        for direction in [Direction::Up, Direction::Down] {
            let frames = flows.site.frames(direction, leaving(direction).into_iter(), LENGTH)?;
            flood::once(flows.site.ends(direction).0, &frames)?;
        }
        Ok(flows)
    }

    /// Sends as fast as it can for `ms` milliseconds over all flows in turn.
    ///
    /// # Errors
    /// If a counter cannot be read, or next to nothing arrives.
    pub fn flood(&self, direction: Direction, ms: u64) -> anyhow::Result<Measured> {
        let frames = self.site.frames(direction, leaving(direction).into_iter(), LENGTH)?;
        self.site.flood(direction, &frames, &arriving(direction), ms)
    }
}

/// As they are sent: to the gateway's address from outside, which keeps the client's ports.
fn leaving(direction: Direction) -> Vec<Packet> {
    let packet = |port| match direction {
        Direction::Up => Packet { src: CLIENT, dst: SERVERS[0], inner: Inner::Udp { from: port, to: SERVER_PORT } },
        Direction::Down => Packet { src: SERVERS[0], dst: EXTERNAL, inner: Inner::Udp { from: SERVER_PORT, to: port } },
    };
    PORTS.map(packet).collect()
}

fn arriving(direction: Direction) -> Vec<Packet> {
    let translated = |packet: Packet| match direction {
        Direction::Up => Packet { src: EXTERNAL, ..packet },
        Direction::Down => Packet { dst: CLIENT, ..packet },
    };
    leaving(direction).into_iter().map(translated).collect()
}

/// The client has all of them, for destinations of their own but the last.
fn manifests(rules: usize) -> String {
    let mut text = format!(
        "apiVersion: callgate.io/v1alpha1\nkind: Service\nmetadata: {{name: udp, namespace: bench}}\n\
         spec: {{protocol: UDP, destinationPorts: \"{SERVER_PORT}\", maxSessions: 0}}\n"
    );
    for rule in 1..=rules {
        let destination = match rule == rules {
            true => "0.0.0.0/0".to_owned(),
            false => format!("203.{}.{}.0/24", rule >> 8, rule & 255),
        };
        let _ = write!(
            text,
            "---\napiVersion: callgate.io/v1alpha1\nkind: IpRule\nmetadata: {{name: rule-{rule}, namespace: bench}}\n\
             spec: {{order: {rule}, action: NAT, source: {{cidrs: [10.10.0.0/16]}}, destination: {{cidrs: [{destination}]}}, \
             services: [{{name: udp}}]}}\n"
        );
    }
    text
}

/// A till that is not there.
const PPTP: &str = "---\napiVersion: callgate.io/v1alpha1\nkind: PptpAlg\nmetadata: {name: pptp, namespace: bench}\nspec: {}\n\
    ---\napiVersion: callgate.io/v1alpha1\nkind: Service\nmetadata: {name: pptp, namespace: bench}\n\
    spec: {protocol: TCP, destinationPorts: \"1723\", algRef: {kind: PptpAlg, name: pptp}}\n\
    ---\napiVersion: callgate.io/v1alpha1\nkind: IpRule\nmetadata: {name: tills, namespace: bench}\n\
    spec: {order: 1, action: NAT, source: {cidrs: [10.11.0.1/32]}, destination: {cidrs: [0.0.0.0/0]}, services: [{name: pptp}]}\n";
