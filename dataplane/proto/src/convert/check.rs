//! What the types of the model do not say: every index in range, every list that is searched in order.

use std::fmt::Display;

use ipnet::Ipv4Net;

use super::ConvertError;
use crate::model::{Match, NodeConfig, PortRange};

type Result = std::result::Result<(), ConvertError>;

/// Refuses a snapshot that would make its reader look beyond the end of a list or miss an entry of one.
pub(super) fn node_config(config: &NodeConfig) -> Result {
    disjoint_nets("cluster_nets", &config.cluster_nets)?;
    for (i, rule) in config.rules.iter().enumerate() {
        let within = |e: ConvertError| e.within(&format!("rules[{i}]"));
        disjoint_nets("destinations", &rule.destinations).map_err(within)?;
        indices("services", &rule.services, config.services.len(), "services").map_err(within)?;
    }
    for (i, service) in config.services.iter().enumerate() {
        let within = |e: ConvertError| e.within(&format!("services[{i}]"));
        if let Some(alg) = service.alg {
            index("alg", alg, config.algs.len(), "algs").map_err(within)?;
        }
        for (j, entry) in service.matches.iter().enumerate() {
            ports(entry).map_err(|e| within(e.within(&format!("matches[{j}]"))))?;
        }
    }
    ascending("services", config.services.iter().map(|s| &s.key))?;
    ascending("algs", config.algs.iter().map(|a| &a.key))?;
    for (i, chain) in config.chains.iter().enumerate() {
        let within = |e: ConvertError| e.within(&format!("chains[{i}]"));
        if chain.is_empty() {
            return Err(within(ConvertError::field("rules", "is empty; a source without rules is left out instead")));
        }
        indices("rules", chain, config.rules.len(), "rules").map_err(within)?;
        if let Some(pair) = chain.windows(2).find(|pair| pair[0] >= pair[1]) {
            return Err(within(ConvertError::field("rules", format!("{} comes after {}", pair[1], pair[0]))));
        }
    }
    for (i, source) in config.sources.iter().enumerate() {
        index("chain", source.chain, config.chains.len(), "chains").map_err(|e| e.within(&format!("sources[{i}]")))?;
    }
    let blocks: Vec<Ipv4Net> = config.sources.iter().map(|s| s.net).collect();
    disjoint_nets("sources", &blocks)
}

fn index(field: &str, index: u32, len: usize, what: &str) -> Result {
    if usize::try_from(index).is_ok_and(|i| i < len) {
        return Ok(());
    }
    Err(ConvertError::field(field, format!("refers to {what}[{index}], but there are {len}")))
}

fn indices(field: &str, list: &[u32], len: usize, what: &str) -> Result {
    list.iter().enumerate().try_for_each(|(i, value)| index(&format!("{field}[{i}]"), *value, len, what))
}

fn disjoint_nets(field: &str, nets: &[Ipv4Net]) -> Result {
    let touches = |pair: &&[Ipv4Net]| pair[0].broadcast() >= pair[1].network();
    match nets.windows(2).find(touches) {
        None => Ok(()),
        Some(pair) => Err(out_of_order(field, pair[0], pair[1])),
    }
}

fn ascending<K: Ord + Display>(field: &str, keys: impl Iterator<Item = K> + Clone) -> Result {
    match keys.clone().zip(keys.skip(1)).find(|(a, b)| a >= b) {
        None => Ok(()),
        Some((a, b)) => Err(out_of_order(field, a, b)),
    }
}

fn out_of_order(field: &str, a: impl Display, b: impl Display) -> ConvertError {
    ConvertError::field(field, format!("{b} comes after {a}; the list has to be sorted and without overlap"))
}

fn ports(entry: &Match) -> Result {
    for (field, ranges) in [("source_ports", &entry.source_ports), ("destination_ports", &entry.destination_ports)] {
        if let Some((i, range)) = ranges.iter().enumerate().find(|(_, r)| r.first > r.last) {
            let problem = format!("first {} is above last {}", range.first, range.last);
            return Err(ConvertError::field(format!("{field}[{i}]"), problem));
        }
        let text = |range: &PortRange| format!("{}-{}", range.first, range.last);
        if let Some(pair) = ranges.windows(2).find(|pair| pair[0].last >= pair[1].first) {
            return Err(out_of_order(field, text(&pair[0]), text(&pair[1])));
        }
    }
    Ok(())
}
