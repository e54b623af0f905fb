//! First match over a `NodeConfig`: source block, chain, destination, services.
use callgate_proto::model::{Match as Entry, NodeConfig, PortRange, Rule, Service};
use ipnet::Ipv4Net;
use std::net::Ipv4Addr;

use super::{Considered, Match, Packet, Why, text};

/// IP protocols that have ports in the first four bytes of their header, as the kernel's `th` expression reads them
/// and as `Service.protocol` can name them: TCP and UDP.
const WITH_PORTS: [u8; 2] = [6, 17];

/// How the walk ended.
#[derive(Debug, Clone, Copy)]
pub(super) enum Outcome {
    /// The destination is in the cluster's networks.
    Cluster,
    /// The source is in no block.
    NotSelected,
    /// No rule of the source's chain matches.
    NoRule,
    /// This one does.
    Matched(Match),
}

/// The rule and service that take `packet`, or `None` where it is left alone. Allocates nothing; the cost is a binary
/// search over the sources plus the rules of one chain.
pub fn first_match(config: &NodeConfig, packet: &Packet) -> Option<Match> {
    match outcome(config, packet) {
        Outcome::Matched(found) => Some(found),
        Outcome::Cluster | Outcome::NotSelected | Outcome::NoRule => None,
    }
}

/// The rules that can match `source`, as ascending indices into `NodeConfig::rules`; `None` where no rule selects it.
pub fn chain_of(config: &NodeConfig, source: Ipv4Addr) -> Option<&[u32]> {
    let after = config.sources.partition_point(|block| block.net.network() <= source);
    let block = config.sources.get(after.checked_sub(1)?)?;
    if !block.net.contains(&source) {
        return None;
    }
    config.chains.get(block.chain as usize).map(Vec::as_slice)
}

/// Whether `service` matches the packet's protocol and ports.
pub fn service_matches(service: &Service, packet: &Packet) -> bool {
    service.matches.iter().any(|entry| entry_matches(entry, packet))
}

/// The whole walk.
pub(super) fn outcome(config: &NodeConfig, packet: &Packet) -> Outcome {
    if within(&config.cluster_nets, packet.dst) {
        return Outcome::Cluster;
    }
    let Some(chain) = chain_of(config, packet.src) else { return Outcome::NotSelected };
    for &index in chain {
        let Some(rule) = config.rules.get(index as usize) else { continue };
        if !within(&rule.destinations, packet.dst) {
            continue;
        }
        if let Some((service, alg)) = matching_service(config, rule, packet) {
            return Outcome::Matched(Match { rule: index, service, alg });
        }
    }
    Outcome::NoRule
}

/// Every rule of the node with the reason why it did or did not take the packet. Empty where the walk never came to
/// the rules because the destination is in the cluster.
pub(super) fn consider(config: &NodeConfig, packet: &Packet, outcome: Outcome) -> Vec<Considered> {
    let winner = match outcome {
        Outcome::Cluster => return Vec::new(),
        Outcome::NotSelected | Outcome::NoRule => None,
        Outcome::Matched(found) => Some(found.rule),
    };
    let chain = chain_of(config, packet.src).unwrap_or_default();
    (0u32..)
        .zip(&config.rules)
        .map(|(index, rule)| {
            let why = if winner == Some(index) {
                Why::Matched
            } else if winner.is_some_and(|winner| index > winner) {
                Why::Later
            } else if chain.binary_search(&index).is_err() {
                Why::Source
            } else if !within(&rule.destinations, packet.dst) {
                Why::Destination
            } else {
                Why::Services(config.services_of(rule).map(|s| (s.key.clone(), text::matches(s))).collect())
            };
            Considered { rule: rule.key.clone(), action: rule.action, why }
        })
        .collect()
}

fn matching_service(config: &NodeConfig, rule: &Rule, packet: &Packet) -> Option<(u32, Option<u32>)> {
    rule.services.iter().find_map(|&index| {
        let service = config.services.get(index as usize)?;
        service_matches(service, packet).then_some((index, service.alg))
    })
}

fn entry_matches(entry: &Entry, packet: &Packet) -> bool {
    if entry.protocol.is_some_and(|protocol| protocol != packet.protocol) {
        return false;
    }
    let without_lists = entry.source_ports.is_empty() && entry.destination_ports.is_empty();
    without_lists
        || (WITH_PORTS.contains(&packet.protocol)
            && in_ports(&entry.source_ports, packet.src_port)
            && in_ports(&entry.destination_ports, packet.dst_port))
}

/// Ranges are sorted and disjoint; an empty list is every port.
fn in_ports(ranges: &[PortRange], port: u16) -> bool {
    ranges.is_empty() || ranges.iter().any(|range| range.first <= port && port <= range.last)
}

/// Blocks are sorted and disjoint, so the last one that starts at or before the address decides.
fn within(blocks: &[Ipv4Net], address: Ipv4Addr) -> bool {
    let after = blocks.partition_point(|block| block.network() <= address);
    after.checked_sub(1).and_then(|index| blocks.get(index)).is_some_and(|block| block.contains(&address))
}
