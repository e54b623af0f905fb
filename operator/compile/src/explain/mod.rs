//! What a node's configuration does with one packet: the first match the kernel's rules take, and why the others did not.
//!
//! ```text
//!  Packet ──► cluster network? ──► source block ──► its chain: rule, rule, rule … ──► Explanation
//!                 │ yes                │ none          destination, then each service   (verdict, why)
//!              Cluster            NotSelected          none of them: NoRule
//! ```
//! `first_match` is the same walk without the telling: no allocation, for every new control connection.
//! What only a running node knows (is the destination one of the node's own addresses, which address NAT gives) is not
//! looked at here.
mod missed;
mod reply;
mod text;
mod walk;

use std::net::Ipv4Addr;

use callgate_proto::model::{Action, External, NodeConfig, ObjectKey};
use serde::Serialize;

pub use missed::{Meant, meant, tell_missing};
pub use text::{PROTOCOLS, protocol_name};
pub use walk::{chain_of, first_match, service_matches};

/// The first packet of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct Packet {
    /// Source address: the pod.
    pub src: Ipv4Addr,
    /// Source port; ignored where the protocol has no ports.
    pub src_port: u16,
    /// Destination address.
    pub dst: Ipv4Addr,
    /// Destination port; ignored where the protocol has no ports.
    pub dst_port: u16,
    /// IP protocol number: 1 ICMP, 6 TCP, 17 UDP, 47 GRE, 50 ESP …
    pub protocol: u8,
}

/// The rule and service a packet matches: indices into the `NodeConfig` it was looked up in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Match {
    /// Index into `NodeConfig::rules`.
    pub rule: u32,
    /// Index into `NodeConfig::services`.
    pub service: u32,
    /// Index into `NodeConfig::algs`, where the service has an ALG.
    pub alg: Option<u32>,
}

/// What happens to a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Verdict {
    /// The destination is in the cluster's networks: never looked at.
    Cluster,
    /// No rule selects the source: not touched.
    NotSelected,
    /// Rules select the source, none matches the packet: left to the CNI.
    NoRule,
    /// A rule matches.
    Rule(Action),
}

/// Why a rule did not take a packet, or that it did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Why {
    /// It did: the first that matches.
    Matched,
    /// The rule does not select the source.
    Source,
    /// The destination is outside its `destination.cidrs`, or in its `destination.except`.
    Destination,
    /// None of its services matches protocol and ports; each is named with what it does match.
    Services(Vec<(ObjectKey, String)>),
    /// An earlier rule had already matched.
    Later,
}

/// One rule and why it did not match (or that it did).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Considered {
    /// The rule.
    pub rule: ObjectKey,
    /// What it would do.
    pub action: Action,
    /// Why it did or did not.
    pub why: Why,
}

/// What happens to a packet and how that was found; `Display` tells it to people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The question.
    pub packet: Packet,
    /// What happens to it.
    pub verdict: Verdict,
    /// The rule that matched.
    pub rule: Option<ObjectKey>,
    /// Where NAT takes its address from; `None` for any other verdict.
    pub external: Option<External>,
    /// The service of it that matched.
    pub service: Option<ObjectKey>,
    /// The service's ALG: the packet goes through it.
    pub alg: Option<ObjectKey>,
    /// Every rule of the node in order, up to the last one of the node.
    pub considered: Vec<Considered>,
}

/// Explains what `config` does with `packet`.
pub fn explain(config: &NodeConfig, packet: &Packet) -> Explanation {
    let outcome = walk::outcome(config, packet);
    let found = match outcome {
        walk::Outcome::Matched(found) => Some(found),
        walk::Outcome::Cluster | walk::Outcome::NotSelected | walk::Outcome::NoRule => None,
    };
    let rule = found.and_then(|m| config.rules.get(m.rule as usize));
    let verdict = match (outcome, rule) {
        (walk::Outcome::Cluster, _) => Verdict::Cluster,
        (walk::Outcome::NotSelected, _) => Verdict::NotSelected,
        (walk::Outcome::Matched(_), Some(rule)) => Verdict::Rule(rule.action),
        (walk::Outcome::NoRule, _) | (walk::Outcome::Matched(_), None) => Verdict::NoRule,
    };
    let service = found.and_then(|m| config.services.get(m.service as usize));
    let alg = found.and_then(|m| m.alg).and_then(|alg| config.algs.get(alg as usize));
    Explanation {
        packet: *packet,
        verdict,
        rule: rule.map(|rule| rule.key.clone()),
        external: rule.filter(|rule| rule.action == Action::Nat).map(|rule| rule.external),
        service: service.map(|service| service.key.clone()),
        alg: alg.map(|alg| alg.key.clone()),
        considered: walk::consider(config, packet, outcome),
    }
}
