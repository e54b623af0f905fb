//! Who is selected: for every node its sources, each with the list of rules that select it.
//!
//! Rules that select by the same selector are taken together, selectors that ask for one value of a label are found by
//! it, and pods whose labels look the same to every selector are looked at once: so the cost grows with pods and with
//! matches, not with pods times rules. What was found for a pod is kept until its labels change.
use std::collections::{BTreeMap, BTreeSet, HashMap, btree_map};
use std::iter::Peekable;
use std::net::Ipv4Addr;
use std::sync::Arc;

use callgate_proto::model::ObjectKey;
use ipnet::Ipv4Net;

use super::Candidate;
use crate::address::{ListId, Lists};
use crate::resolve::Pods;
use crate::world::{Labels, Pod, STANDALONE_NODE, World};

/// Lists that may be known beside one for each pod, before those that nobody uses any more are forgotten.
const SPARE_LISTS: usize = 10_000;

/// Selects again and again for the same rules. Rules are indices into the candidates.
#[derive(Debug)]
pub(super) struct Selecting {
    /// Every list of rules there is.
    pub(super) lists: Lists,
    groups: BTreeMap<Pods, Vec<u32>>,
    /// Networks, which are sources of every node.
    networks: Vec<(Ipv4Net, ListId)>,
    /// Networks of each rule.
    counts: Vec<Counts>,
    /// Labels of namespaces for which `chosen` holds.
    namespaces: BTreeMap<String, Labels>,
    /// Rules of each pod that has not finished, and the pod: they select it by its labels.
    chosen: BTreeMap<ObjectKey, (Arc<Pod>, ListId)>,
}

/// The sources of a set of rules.
#[derive(Debug, Default)]
pub(super) struct Selection<'a> {
    /// Where a node's sources are; asked for each pod, so hashed. Nobody goes through it.
    places: HashMap<&'a str, usize>,
    /// Sources of each node; a block may come more than once.
    nodes: Vec<Vec<(Ipv4Net, ListId)>>,
    networks: Vec<(Ipv4Net, ListId)>,
    /// What each rule selects.
    pub(super) counts: Vec<Counts>,
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

impl Selection<'_> {
    /// Sources of a node with their lists, in no particular order.
    pub(super) fn of(&self, node: &str) -> Vec<(Ipv4Net, ListId)> {
        let own = self.places.get(node).and_then(|&place| self.nodes.get(place));
        own.into_iter().flatten().chain(&self.networks).copied().collect()
    }
}

impl Selecting {
    /// Nothing is selected yet.
    pub(super) fn new(candidates: &[Candidate]) -> Self {
        let mut selecting = Self {
            lists: Lists::default(),
            groups: BTreeMap::new(),
            networks: Vec::new(),
            counts: vec![Counts::default(); candidates.len()],
            namespaces: BTreeMap::new(),
            chosen: BTreeMap::new(),
        };
        for (index, candidate) in (0u32..).zip(candidates) {
            let source = &candidate.rule.source;
            for net in &source.cidrs {
                let list = selecting.lists.id(vec![index]);
                selecting.networks.push((*net, list));
            }
            if let Some(counts) = selecting.counts.get_mut(index as usize) {
                counts.clients = source.cidrs.len() as u32;
            }
            if let Some(pods) = &source.pods {
                selecting.groups.entry(pods.clone()).or_default().push(index);
            }
        }
        selecting
    }

    /// Whether it knows many more lists than anybody can use: pods come and go, and their lists stay.
    pub(super) fn is_overgrown(&self, world: &World) -> bool {
        self.lists.len() > 2 * world.pods.len() + self.counts.len() + SPARE_LISTS
    }

    /// Selects the sources.
    pub(super) fn select<'a>(&mut self, world: &'a World) -> Selection<'a> {
        if self.namespaces != world.namespaces {
            self.namespaces.clone_from(&world.namespaces);
            self.chosen.clear();
        }
        let mut places: HashMap<&str, usize> = HashMap::new();
        let mut nodes: Vec<Vec<(Ipv4Net, ListId)>> = Vec::new();
        let mut by_list: BTreeMap<ListId, Counts> = BTreeMap::new();
        let pods: Vec<(&ObjectKey, &Arc<Pod>)> = world.pods.iter().filter(|(_, pod)| !pod.finished).collect();
        // Side by side, because looking each of them up takes longer than comparing it.
        let mut choosing = Choosing {
            world,
            groups: &self.groups,
            lists: &mut self.lists,
            known: self.chosen.iter().peekable(),
            fresh: Vec::new(),
        };
        for pods in pods.chunk_by(|a, b| a.0.namespace == b.0.namespace) {
            choosing.choose(pods, |pod, list, is_selected| {
                let counts = by_list.entry(list).or_default();
                if pod.host_network {
                    counts.host_network += 1;
                    return;
                }
                counts.only_ipv6 += u32::from(pod.only_ipv6);
                counts.clients += u32::from(!pod.addresses.is_empty());
                let node = if world.standalone { Some(STANDALONE_NODE) } else { pod.node.as_deref() };
                if let Some(node) = node.filter(|_| is_selected) {
                    let place = *places.entry(node).or_insert_with(|| {
                        nodes.push(Vec::new());
                        nodes.len() - 1
                    });
                    if let Some(sources) = nodes.get_mut(place) {
                        sources.extend(pod.addresses.iter().map(|address: &Ipv4Addr| (Ipv4Net::from(*address), list)));
                    }
                }
            });
        }
        let fresh = choosing.fresh;
        self.chosen.extend(fresh);
        if self.chosen.len() > pods.len() {
            self.chosen.retain(|key, _| world.pods.get(key).is_some_and(|pod| !pod.finished));
        }
        let mut counts = self.counts.clone();
        for (list, of) in by_list {
            for &rule in self.lists.get(list) {
                if let Some(counts) = counts.get_mut(rule as usize) {
                    counts.clients += of.clients;
                    counts.host_network += of.host_network;
                    counts.only_ipv6 += of.only_ipv6;
                }
            }
        }
        Selection { places, nodes, networks: self.networks.clone(), counts }
    }
}

/// Rules of each pod on their way: those that are known, and those that are not yet.
struct Choosing<'a> {
    world: &'a World,
    groups: &'a BTreeMap<Pods, Vec<u32>>,
    lists: &'a mut Lists,
    known: Peekable<btree_map::Iter<'a, ObjectKey, (Arc<Pod>, ListId)>>,
    fresh: Vec<(ObjectKey, (Arc<Pod>, ListId))>,
}

impl Choosing<'_> {
    /// Tells `each` of every pod of one namespace which list of rules selects it, and whether there is a rule in it. Namespaces
    /// and pods come in their order.
    fn choose<'a>(&mut self, pods: &[(&'a ObjectKey, &'a Arc<Pod>)], mut each: impl FnMut(&'a Pod, ListId, bool)) {
        let Self { world, groups, lists, known, fresh } = self;
        let mut applicable: Option<Applicable<'_>> = None;
        // By how a pod looks to the selectors.
        let mut looks: BTreeMap<Vec<Option<&str>>, ListId> = BTreeMap::new();
        for (key, pod) in pods {
            while known.next_if(|(before, _)| before < key).is_some() {}
            let list = match known.next_if(|(before, _)| before == key) {
                // Most often it is the very same one.
                Some((_, (before, list))) if Arc::ptr_eq(before, pod) => *list,
                Some((_, (before, list))) if before.labels == pod.labels => {
                    fresh.push(((*key).clone(), (Arc::clone(pod), *list)));
                    *list
                }
                Some(_) | None => {
                    let of = applicable.get_or_insert_with(|| applicable_to(world, groups, &key.namespace));
                    let look: Vec<Option<&str>> =
                        of.keys.iter().map(|key| pod.labels.get(*key).map(String::as_str)).collect();
                    let list = *looks.entry(look).or_insert_with(|| lists.id(rules_of(of, pod)));
                    fresh.push(((*key).clone(), (Arc::clone(pod), list)));
                    list
                }
            };
            each(pod, list, !lists.get(list).is_empty());
        }
    }
}

fn applicable_to<'a>(world: &World, groups: &'a BTreeMap<Pods, Vec<u32>>, namespace: &str) -> Applicable<'a> {
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

/// The rules that select `pod`.
fn rules_of(applicable: &Applicable<'_>, pod: &Pod) -> Vec<u32> {
    let by_label =
        pod.labels.iter().filter_map(|(key, value)| applicable.by_label.get(&(key.as_str(), value.as_str())));
    let possible = by_label.flatten().chain(&applicable.others).filter_map(|&index| applicable.all.get(index));
    possible.filter(|(of, _)| of.labels.selects(&pod.labels)).flat_map(|(_, rules)| rules.iter().copied()).collect()
}
