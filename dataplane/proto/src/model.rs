//! The typed snapshot: everything one node has to do, whoever sends it.
//!
//! `compile` writes it, the agent reads it. Equal worlds give equal values, and equal values give equal bytes
//! (`NodeConfig::encode`), so that a content hash can stand for a generation.

use std::fmt;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

/// Namespace and name of an object; ordered by both, printed as `namespace/name`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObjectKey {
    /// Kubernetes namespace.
    pub namespace: String,
    /// Object name.
    pub name: String,
}

impl ObjectKey {
    /// A key from its two parts.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// Whether `text` is this key as it is printed.
    pub fn is(&self, text: &str) -> bool {
        text.strip_prefix(self.namespace.as_str()).and_then(|rest| rest.strip_prefix('/')) == Some(self.name.as_str())
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What one node has to do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeConfig {
    /// Name of the node; `standalone` on one host without a cluster.
    pub node: String,
    /// Destinations that are never looked at (pod, service and node networks): sorted, disjoint.
    pub cluster_nets: Vec<Ipv4Net>,
    /// Rules in match order (order, creationTimestamp, namespace/name): the first that matches wins.
    pub rules: Vec<Rule>,
    /// Leaf services (groups are flattened), sorted by key.
    pub services: Vec<Service>,
    /// PPTP ALGs in use, sorted by key.
    pub algs: Vec<PptpAlg>,
    /// Distinct lists of rules (ascending indices into `rules`), sorted; never an empty list.
    pub chains: Vec<Vec<u32>>,
    /// Source blocks, sorted and disjoint; a source in none of them is not touched.
    pub sources: Vec<Source>,
}

impl NodeConfig {
    /// The services of one of this configuration's rules, in their order.
    pub fn services_of<'a>(&'a self, rule: &'a Rule) -> impl Iterator<Item = &'a Service> {
        rule.services.iter().filter_map(|&index| self.services.get(index as usize))
    }

    /// A rule's services that go through an ALG: only NAT does.
    pub fn alg_services_of<'a>(&'a self, rule: &'a Rule) -> impl Iterator<Item = &'a Service> {
        self.services_of(rule).filter(|service| rule.action == Action::Nat && service.alg.is_some())
    }
}

/// A block of source addresses and the rules that can match it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Source {
    /// One pod (`/32`) or a network.
    pub net: Ipv4Net,
    /// Index into `NodeConfig::chains`.
    pub chain: u32,
}

/// One `IpRule`, resolved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// The object it comes from.
    pub key: ObjectKey,
    /// What happens to the first packet of a flow that matches.
    pub action: Action,
    /// Destination blocks, sorted and disjoint, exceptions already cut out; never empty.
    pub destinations: Vec<Ipv4Net>,
    /// Indices into `NodeConfig::services`, in the order of the rule.
    pub services: Vec<u32>,
    /// Which address NAT gives.
    pub external: External,
    /// Log the first packet of each flow.
    pub log: bool,
}

/// What a rule does with a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Action {
    /// Let it pass with a source address of the gateway.
    Nat,
    /// Let it pass as it is.
    Allow,
    /// Discard silently.
    Drop,
    /// Answer TCP RST or ICMP unreachable.
    Reject,
}

/// Where NAT takes its address from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum External {
    /// The node's own address on the way to the destination.
    NodeAddress,
    /// One fixed address, held by this node.
    Address(Ipv4Addr),
}

/// One leaf `Service`: a passive match.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// The object it comes from.
    pub key: ObjectKey,
    /// IP protocols and ports; a packet matches if any entry does.
    pub matches: Vec<Match>,
    /// Index into `NodeConfig::algs`.
    pub alg: Option<u32>,
    /// Concurrent sessions over all rules that use the service; 0 is without limit.
    pub max_sessions: u32,
    /// Let ICMP errors about its flows through to the client (fragmentation-needed always passes).
    pub forward_icmp_errors: bool,
    /// Conntrack time-outs in seconds where they differ from the kernel's.
    pub timeouts: Option<Timeouts>,
}

/// One protocol with its ports.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Match {
    /// IP protocol number; `None` is any.
    pub protocol: Option<u8>,
    /// Sorted, disjoint; empty is any (always empty when the protocol has no ports).
    pub source_ports: Vec<PortRange>,
    /// Sorted, disjoint; empty is any.
    pub destination_ports: Vec<PortRange>,
}

/// An inclusive range of ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PortRange {
    /// First port.
    pub first: u16,
    /// Last port, not below `first`.
    pub last: u16,
}

impl PortRange {
    /// Every port.
    pub const ALL: Self = Self { first: 0, last: u16::MAX };

    /// Sorted and disjoint; neighbours are joined.
    #[must_use]
    pub fn merged(mut ranges: Vec<Self>) -> Vec<Self> {
        ranges.sort_unstable();
        let mut merged: Vec<Self> = Vec::new();
        for range in ranges {
            match merged.last_mut() {
                Some(last) if u32::from(range.first) <= u32::from(last.last) + 1 => {
                    last.last = last.last.max(range.last);
                }
                Some(_) | None => merged.push(range),
            }
        }
        merged
    }
}

/// Conntrack time-outs of a service, seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeouts {
    /// Before the flow is established (TCP handshake, first UDP reply); 0 keeps the kernel's.
    pub initial: u32,
    /// Idle and established; 0 keeps the kernel's.
    pub established: u32,
    /// After the first FIN (TCP only); 0 keeps the kernel's.
    pub closing: u32,
}

/// One `PptpAlg`, resolved. Durations are milliseconds; 0 is never.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PptpAlg {
    /// The object it comes from.
    pub key: ObjectKey,
    /// Longest silence of a control connection.
    pub echo_timeout_ms: u64,
    /// Longest silence of a call's user traffic.
    pub idle_timeout_ms: u64,
    /// Concurrent calls over all connections of this ALG; 0 is without limit.
    pub max_calls: u32,
    /// How control connections reach the server.
    pub control_connection: ControlConnection,
    /// How strictly messages are checked.
    pub validation: Validation,
}

/// How control connections reach the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ControlConnection {
    /// One a client, rewritten in the path.
    PerClient,
    /// All clients over as few as the server allows.
    Shared,
    /// One a client, but never in the path, until a server refuses a second one; all over that from then on.
    Auto,
}

/// How strictly control messages are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Validation {
    /// A malformed message closes its control connection.
    Strict,
    /// Counted and passed on where it can be framed at all.
    Permissive,
}
