//! One node's configuration: its sources, the rules that can match them, and what those rules name.
use std::collections::{BTreeMap, BTreeSet};

use callgate_crds::conditions::Reason;
use callgate_proto::model::{External, NodeConfig, ObjectKey, Rule, Service, Source};
use ipnet::Ipv4Net;

use super::{Candidate, issue};
use crate::address::{Lists, Partition, Ranges, partition};
use crate::resolve::{Leaf, Report};
use crate::world::{Pod, World};

/// A node's configuration, and which rules are in it.
#[derive(Debug)]
pub(crate) struct Built {
    pub(crate) config: NodeConfig,
    pub(crate) rules: BTreeSet<ObjectKey>,
}

/// The configuration of node `name`; `candidates` are in match order.
pub(crate) fn build(world: &World, name: &str, candidates: &[Candidate]) -> Built {
    let pods: Vec<(&ObjectKey, &Pod)> = world.pods.iter().filter(|(_, pod)| is_here(world, name, pod)).collect();
    // Per source first: many rules may select the same one.
    let mut selected: BTreeMap<Ipv4Net, Vec<u32>> = BTreeMap::new();
    let mut used = Vec::new();
    for candidate in candidates {
        let number = used.len() as u32;
        let mut any = false;
        for net in &candidate.rule.source.cidrs {
            any = true;
            selected.entry(*net).or_default().push(number);
        }
        for (key, pod) in &pods {
            if candidate.rule.source.pods.as_ref().is_some_and(|of| of.select(world, key, pod)) {
                for address in &pod.addresses {
                    any = true;
                    selected.entry(Ipv4Net::from(*address)).or_default().push(number);
                }
            }
        }
        if any {
            used.push(candidate);
        }
    }
    let mut lists = Lists::default();
    let selected = selected.into_iter().map(|(net, list)| (net, lists.id(list))).collect();
    let Partition { chains, blocks } = partition(&mut lists, selected);
    let (rules, services, algs) = named(&used);
    Built {
        rules: used.iter().map(|candidate| candidate.key.clone()).collect(),
        config: NodeConfig {
            node: name.to_owned(),
            cluster_nets: Ranges::of(&world.cluster_nets).blocks(),
            rules,
            services,
            algs,
            chains,
            sources: blocks.into_iter().map(|(net, chain)| Source { net, chain }).collect(),
        },
    }
}

/// Rules with the services and ALGs they name, as indices.
fn named(used: &[&Candidate]) -> (Vec<Rule>, Vec<Service>, Vec<callgate_proto::model::PptpAlg>) {
    let mut algs = BTreeMap::new();
    let mut leaves: BTreeMap<(ObjectKey, usize), Leaf> = BTreeMap::new();
    for candidate in used {
        algs.extend(candidate.rule.algs.iter().map(|alg| (alg.key.clone(), alg.clone())));
        for leaf in &candidate.rule.services {
            // A kept rule may have an older version of a leaf: both are there, the newest first met.
            let version =
                (0..).find(|version| leaves.get(&(leaf.key.clone(), *version)).is_none_or(|known| known == leaf));
            leaves.insert((leaf.key.clone(), version.unwrap_or(0)), leaf.clone());
        }
    }
    let algs: Vec<_> = algs.into_values().collect();
    let ordered: Vec<&Leaf> = leaves.values().collect();
    let services = ordered
        .iter()
        .map(|leaf| Service {
            key: leaf.key.clone(),
            matches: leaf.matches.clone(),
            alg: leaf.alg.as_ref().and_then(|key| algs.iter().position(|alg| alg.key == *key)).map(|at| at as u32),
            max_sessions: leaf.max_sessions,
            forward_icmp_errors: leaf.forward_icmp_errors,
            timeouts: leaf.timeouts,
        })
        .collect();
    let rules = used
        .iter()
        .map(|candidate| Rule {
            key: candidate.key.clone(),
            action: candidate.rule.action,
            destinations: candidate.rule.destinations.clone(),
            services: candidate
                .rule
                .services
                .iter()
                .filter_map(|leaf| ordered.iter().position(|known| *known == leaf))
                .map(|at| at as u32)
                .collect(),
            external: External::NodeAddress,
            log: candidate.rule.log,
        })
        .collect();
    (rules, services, algs)
}

/// Whether a pod's traffic begins on this node, under an address of its own.
fn is_here(world: &World, name: &str, pod: &Pod) -> bool {
    !pod.host_network && !pod.finished && (world.standalone || pod.node.as_deref() == Some(name))
}

/// How many sources a rule has: pods with an address of their own, and networks.
pub(crate) fn clients(world: &World, candidate: &Candidate) -> u32 {
    let source = &candidate.rule.source;
    let pods = world.pods.iter().filter(|(key, pod)| {
        let usable = !pod.host_network && !pod.finished && !pod.addresses.is_empty();
        usable && source.pods.as_ref().is_some_and(|of| of.select(world, key, pod))
    });
    (pods.count() + source.cidrs.len()) as u32
}

/// What a person should know about the sources of a rule that is carried out.
pub(crate) fn notes(world: &World, candidate: &Candidate, report: &mut Report) {
    let Some(of) = &candidate.rule.source.pods else { return };
    let (mut host_network, mut ipv6) = (0, 0);
    for (_, pod) in world.pods.iter().filter(|(key, pod)| !pod.finished && of.select(world, key, pod)) {
        host_network += u32::from(pod.host_network);
        ipv6 += u32::from(!pod.host_network && pod.only_ipv6);
    }
    let field = "spec.source.podSelector";
    if host_network > 0 {
        let message = format!(
            "{host_network} of the selected pods use the node's network and cannot be told from the node: run them without \
             hostNetwork"
        );
        report.0.push(issue(Reason::SourcesExcluded, field, message));
    }
    if ipv6 > 0 {
        let message = format!("{ipv6} of the selected pods have no IPv4 address: only IPv4 is treated");
        report.0.push(issue(Reason::SourcesExcluded, field, message));
    }
    if clients(world, candidate) == 0 && host_network + ipv6 == 0 {
        let message = "selects no running pod at present: compare it with the labels of the pods";
        report.0.push(issue(Reason::NoSources, field, message.to_owned()));
    }
}
