//! One node's configuration: its sources, the rules that can match them, and what those rules name.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use callgate_proto::model::{External, NodeConfig, ObjectKey, PptpAlg, Rule, Service, Source};
use ipnet::Ipv4Net;

use super::Candidate;
use crate::address::{ListId, Lists, Partition};
use crate::resolve::Leaf;

/// Sources with the rules that select them, in the order in which they were met.
pub(super) type Selected = Vec<(Ipv4Net, ListId)>;

/// A configuration and what it was made of.
#[derive(Debug)]
pub(super) struct Built {
    pub(super) selected: Selected,
    /// Candidates that are in it, ascending.
    pub(super) used: Vec<u32>,
    pub(super) config: Arc<NodeConfig>,
}

/// The configuration of node `name`: of the `candidates` (in match order) those that select something on this node.
pub(super) fn build(
    name: &str,
    cluster_nets: &[Ipv4Net],
    candidates: &[Candidate],
    selected: Selected,
    Partition { mut chains, blocks }: Partition,
) -> Built {
    let indices: BTreeSet<u32> = chains.iter().flatten().copied().collect();
    // Ascending to ascending: lists stay sorted, and so do their elements.
    let numbers: BTreeMap<u32, u32> = indices.iter().copied().zip(0..).collect();
    for rule in chains.iter_mut().flatten() {
        *rule = numbers.get(rule).copied().unwrap_or_default();
    }
    let used: Vec<&Candidate> = indices.iter().filter_map(|&index| candidates.get(index as usize)).collect();
    let (rules, services, algs) = named(&used);
    let config = NodeConfig {
        node: name.to_owned(),
        cluster_nets: cluster_nets.to_vec(),
        rules,
        services,
        algs,
        chains,
        sources: blocks.into_iter().map(|(net, chain)| Source { net, chain }).collect(),
    };
    Built { selected, used: indices.into_iter().collect(), config: Arc::new(config) }
}

/// The same sources with lists that lack the refused rules; those that no other rule selects are left out.
pub(super) fn without(lists: &mut Lists, selected: &[(Ipv4Net, ListId)], refused: &BTreeSet<u32>) -> Selected {
    let mut left = Vec::with_capacity(selected.len());
    for &(net, list) in selected {
        let rules: Vec<u32> = lists.get(list).iter().copied().filter(|rule| !refused.contains(rule)).collect();
        if !rules.is_empty() {
            left.push((net, lists.id(rules)));
        }
    }
    left
}

/// Rules with the services and ALGs they name, as indices.
fn named(used: &[&Candidate]) -> (Vec<Rule>, Vec<Service>, Vec<PptpAlg>) {
    let mut algs: BTreeMap<&ObjectKey, &PptpAlg> = BTreeMap::new();
    let mut leaves: BTreeMap<&ObjectKey, &Leaf> = BTreeMap::new();
    for candidate in used {
        for alg in &candidate.rule.algs {
            algs.entry(&alg.key).or_insert(alg);
        }
        for leaf in &candidate.rule.services {
            let known = leaves.entry(&leaf.key).or_insert(leaf);
            // A service is one to a node. Where a rule goes on with it as it was before it had its ALG, and another one here needs
            // the ALG, calls matter more than a limit.
            if known.alg.is_none() && leaf.alg.is_some() {
                *known = leaf;
            }
        }
    }
    let at: BTreeMap<&ObjectKey, u32> = leaves.keys().copied().zip(0..).collect();
    let alg_at: BTreeMap<&ObjectKey, u32> = algs.keys().copied().zip(0..).collect();
    let services = leaves.into_values().map(|leaf| Service {
        key: leaf.key.clone(),
        matches: leaf.matches.clone(),
        alg: leaf.alg.as_ref().and_then(|key| alg_at.get(key)).copied(),
        max_sessions: leaf.max_sessions,
        forward_icmp_errors: leaf.forward_icmp_errors,
        timeouts: leaf.timeouts,
    });
    let services = services.collect();
    let rules = used.iter().map(|candidate| Rule {
        key: candidate.key.clone(),
        action: candidate.rule.action,
        destinations: candidate.rule.destinations.clone(),
        services: candidate.rule.services.iter().filter_map(|leaf| at.get(&leaf.key)).copied().collect(),
        external: External::NodeAddress,
        log: candidate.rule.log,
    });
    (rules.collect(), services, algs.into_values().cloned().collect())
}
