//! Who is selected: for every node its sources, each with the list of rules that select it.
//!
//! Rules that select by the same selector are taken together, selectors that ask for one value of a label are found by
//! it, and pods whose labels look the same to every selector are looked at once: so the cost grows with pods and with
//! matches, not with pods times rules.
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use callgate_proto::model::ObjectKey;
use ipnet::Ipv4Net;

use super::Candidate;
use crate::address::{ListId, Lists};
use crate::resolve::Pods;
use crate::world::{Pod, STANDALONE_NODE, World};

/// The sources of a set of rules. Rules are indices into the candidates.
#[derive(Debug, Default)]
pub(crate) struct Selection {
    /// Every list of rules there is.
    pub(crate) lists: Lists,
    /// Sources of a node, by its name; a block may come more than once.
    nodes: BTreeMap<String, Vec<(Ipv4Net, ListId)>>,
    /// Networks, which are sources of every node.
    networks: Vec<(Ipv4Net, ListId)>,
    /// What each rule selects.
    pub(crate) counts: Vec<Counts>,
}

/// What one rule selects, finished pods left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counts {
    /// Pods with an IPv4 address of their own, and networks.
    pub(crate) clients: u32,
    /// Pods in their node's network.
    pub(crate) host_network: u32,
    /// Pods without an IPv4 address, but with another one.
    pub(crate) only_ipv6: u32,
}

/// Selectors that can select pods of one namespace.
struct Applicable<'a> {
    all: Vec<(&'a Pods, &'a [u32])>,
    /// Those that ask for this value of this label, as indices into `all`.
    by_label: BTreeMap<(&'a str, &'a str), Vec<usize>>,
    /// Those that ask for no single value.
    others: Vec<usize>,
    /// Labels any of them looks at.
    keys: BTreeSet<&'a str>,
}

impl Selection {
    /// Sources of a node with their lists, in no particular order.
    pub(crate) fn of(&self, node: &str) -> Vec<(Ipv4Net, ListId)> {
        self.nodes.get(node).into_iter().flatten().chain(&self.networks).copied().collect()
    }
}

/// Selects the sources of all `candidates`.
pub(crate) fn select(world: &World, candidates: &[Candidate]) -> Selection {
    let mut selection = Selection { counts: vec![Counts::default(); candidates.len()], ..Selection::default() };
    let mut groups: BTreeMap<&Pods, Vec<u32>> = BTreeMap::new();
    for (index, candidate) in (0u32..).zip(candidates) {
        let source = &candidate.rule.source;
        for net in &source.cidrs {
            let list = selection.lists.id(vec![index]);
            selection.networks.push((*net, list));
        }
        if let Some(counts) = selection.counts.get_mut(index as usize) {
            counts.clients = source.cidrs.len() as u32;
        }
        if let Some(pods) = &source.pods {
            groups.entry(pods).or_default().push(index);
        }
    }
    let pods: Vec<(&ObjectKey, &Pod)> = world.pods.iter().filter(|(_, pod)| !pod.finished).collect();
    for pods in pods.chunk_by(|a, b| a.0.namespace == b.0.namespace) {
        let Some((key, _)) = pods.first() else { continue };
        let applicable = applicable(world, &groups, &key.namespace);
        if !applicable.all.is_empty() {
            namespace(world, &applicable, pods, &mut selection);
        }
    }
    selection
}

fn applicable<'a>(world: &World, groups: &'a BTreeMap<&'a Pods, Vec<u32>>, namespace: &str) -> Applicable<'a> {
    let mut applicable =
        Applicable { all: Vec::new(), by_label: BTreeMap::new(), others: Vec::new(), keys: BTreeSet::new() };
    let labels = world.labels_of(namespace);
    for (pods, rules) in groups.iter().filter(|(pods, _)| pods.scope.contains(namespace, &labels)) {
        let index = applicable.all.len();
        applicable.all.push((pods, rules));
        applicable.keys.extend(pods.labels.keys());
        match pods.labels.must_have() {
            Some(label) => applicable.by_label.entry(label).or_default().push(index),
            None => applicable.others.push(index),
        }
    }
    applicable
}

/// The pods of one namespace.
fn namespace(world: &World, applicable: &Applicable<'_>, pods: &[(&ObjectKey, &Pod)], selection: &mut Selection) {
    // By how a pod looks to the selectors: the list of rules that select it, and how many pods look like that.
    let mut looks: BTreeMap<Vec<Option<&str>>, (ListId, Counts)> = BTreeMap::new();
    for (_, pod) in pods {
        let look: Vec<Option<&str>> =
            applicable.keys.iter().map(|key| pod.labels.get(*key).map(String::as_str)).collect();
        let lists = &mut selection.lists;
        let (list, counts) =
            looks.entry(look).or_insert_with(|| (lists.id(rules_of(applicable, pod)), Counts::default()));
        if pod.host_network {
            counts.host_network += 1;
            continue;
        }
        counts.only_ipv6 += u32::from(pod.only_ipv6);
        counts.clients += u32::from(!pod.addresses.is_empty());
        let node = if world.standalone { Some(STANDALONE_NODE) } else { pod.node.as_deref() };
        if let Some(node) = node.filter(|_| !selection.lists.get(*list).is_empty()) {
            // Looked up first: an owned name for each pod would cost more than everything else here.
            if !selection.nodes.contains_key(node) {
                selection.nodes.insert(node.to_owned(), Vec::new());
            }
            if let Some(sources) = selection.nodes.get_mut(node) {
                sources.extend(pod.addresses.iter().map(|address: &Ipv4Addr| (Ipv4Net::from(*address), *list)));
            }
        }
    }
    for (list, of) in looks.into_values() {
        for &rule in selection.lists.get(list) {
            if let Some(counts) = selection.counts.get_mut(rule as usize) {
                counts.clients += of.clients;
                counts.host_network += of.host_network;
                counts.only_ipv6 += of.only_ipv6;
            }
        }
    }
}

/// The rules that select `pod`.
fn rules_of(applicable: &Applicable<'_>, pod: &Pod) -> Vec<u32> {
    let by_label =
        pod.labels.iter().filter_map(|(key, value)| applicable.by_label.get(&(key.as_str(), value.as_str())));
    let possible = by_label.flatten().chain(&applicable.others).filter_map(|&index| applicable.all.get(index));
    possible.filter(|(of, _)| of.labels.selects(&pod.labels)).flat_map(|(_, rules)| rules.iter().copied()).collect()
}
