//! Who is selected: for every node its sources, each with the list of rules that select it.
//!
//! Rules that select by the same selector are taken together, selectors that ask for one value of a label are found by
//! it, and pods whose labels look the same to every selector are looked at once: so the cost grows with pods and with
//! matches, not with pods times rules. All of it is kept, and a pod that changes is taken out and put in again: going
//! through ten thousand pods that have not changed costs more than everything else, because none of them is in a cache.
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::Ipv4Addr;
use std::sync::Arc;

use callgate_proto::model::ObjectKey;
use ipnet::Ipv4Net;

use super::{Candidate, Since};
use crate::address::{ListId, Lists};
use crate::resolve::{PodScope, Pods};
use crate::selector::Selector;
use crate::world::{Labels, Pod, STANDALONE_NODE, World};

/// Selects again and again for the same rules. Rules are indices into the candidates.
#[derive(Debug)]
pub(super) struct Selecting {
    /// Every list of rules there is.
    pub(super) lists: Lists,
    /// Their size when everything had been selected and compiled once.
    first_size: Option<usize>,
    groups: BTreeMap<Pods, Vec<u32>>,
    /// Networks, which are sources of every node.
    networks: Vec<(Ipv4Net, ListId)>,
    /// Networks of each rule.
    counts: Vec<Counts>,
    standalone: bool,
    /// Labels of namespaces for which `chosen` holds; `None` before the first world.
    namespaces: Option<BTreeMap<String, Labels>>,
    /// Each pod that has not finished, and the rules that select it.
    chosen: BTreeMap<ObjectKey, Chosen>,
    /// What is selected by each list of rules.
    by_list: BTreeMap<ListId, Counts>,
    /// Pods that are sources of a node, in their order.
    sources: HashMap<String, BTreeMap<ObjectKey, Chosen>>,
    /// Nodes whose sources may be others than when it was last asked.
    stale: BTreeSet<String>,
}

/// A pod and the list of rules that select it by its labels.
type Chosen = (Arc<Pod>, ListId);

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

impl Counts {
    fn of(pod: &Pod) -> Self {
        match pod.host_network {
            true => Self { host_network: 1, ..Self::default() },
            false => Self {
                clients: u32::from(!pod.addresses.is_empty()),
                only_ipv6: u32::from(pod.only_ipv6),
                host_network: 0,
            },
        }
    }

    /// Both of them, by `join`.
    fn join(self, other: Self, join: impl Fn(u32, u32) -> u32) -> Self {
        Self {
            clients: join(self.clients, other.clients),
            host_network: join(self.host_network, other.host_network),
            only_ipv6: join(self.only_ipv6, other.only_ipv6),
        }
    }
}

impl Selecting {
    /// Nothing is selected yet.
    pub(super) fn new(candidates: &[Candidate], world: &World) -> Self {
        let mut selecting = Self {
            lists: Lists::default(),
            first_size: None,
            groups: BTreeMap::new(),
            networks: Vec::new(),
            counts: vec![Counts::default(); candidates.len()],
            standalone: world.standalone,
            namespaces: None,
            chosen: BTreeMap::new(),
            by_list: BTreeMap::new(),
            sources: HashMap::new(),
            stale: BTreeSet::new(),
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

    /// Whether its lists have come to much more than a world takes: pods come and go, and their lists stay.
    pub(super) fn is_overgrown(&self, spare: usize) -> bool {
        self.first_size.is_some_and(|first| self.lists.size() > 2 * first + spare)
    }

    /// To be told after each compile.
    pub(super) fn compiled(&mut self) {
        self.first_size.get_or_insert(self.lists.size());
    }

    /// Selects the sources of a world that differs from the one before by no more than `since`.
    pub(super) fn select(&mut self, world: &World, since: &Since) {
        let all = match &self.namespaces {
            Some(known) if *known == world.namespaces => false,
            Some(_) | None => {
                self.forget();
                self.namespaces = Some(world.namespaces.clone());
                true
            }
        };
        let living = |key| world.pods.get(key).filter(|pod| !pod.finished);
        let (gone, there): (Vec<ObjectKey>, Vec<(&ObjectKey, &Arc<Pod>)>) = match since {
            Since::Pods(keys) if !all => {
                let gone = keys.iter().filter(|key| living(key).is_none());
                (gone.cloned().collect(), keys.iter().filter_map(|key| Some((key, living(key)?))).collect())
            }
            Since::Pods(_) | Since::Everything => {
                let gone = self.chosen.keys().filter(|key| living(key).is_none());
                (gone.cloned().collect(), world.pods.iter().filter(|(_, pod)| !pod.finished).collect())
            }
        };
        for key in gone {
            if let Some(old) = self.chosen.remove(&key) {
                self.count_out(&key, &old);
            }
        }
        for pods in there.chunk_by(|a, b| a.0.namespace == b.0.namespace) {
            for (key, new) in self.choose(world, pods) {
                if let Some(old) = self.chosen.insert(key.clone(), new.clone()) {
                    self.count_out(key, &old);
                }
                self.count_in(key, new);
            }
        }
    }

    /// Sources of a node with their lists, in no particular order.
    pub(super) fn of(&self, node: &str) -> Vec<(Ipv4Net, ListId)> {
        let own = self.sources.get(node).into_iter().flat_map(BTreeMap::values);
        let own = own.flat_map(|(pod, list)| pod.addresses.iter().map(|address: &Ipv4Addr| ((*address).into(), *list)));
        own.chain(self.networks.iter().copied()).collect()
    }

    /// Nodes whose sources may be others than when this was last asked.
    pub(super) fn take_stale(&mut self) -> BTreeSet<String> {
        std::mem::take(&mut self.stale)
    }

    /// What each rule selects.
    pub(super) fn counts(&self) -> Vec<Counts> {
        let mut counts = self.counts.clone();
        for (list, of) in &self.by_list {
            for &rule in self.lists.get(*list) {
                if let Some(counts) = counts.get_mut(rule as usize) {
                    *counts = counts.join(*of, u32::wrapping_add);
                }
            }
        }
        counts
    }

    fn forget(&mut self) {
        self.chosen.clear();
        self.by_list.clear();
        self.stale.extend(self.sources.drain().map(|(node, _)| node));
    }

    fn count_in(&mut self, key: &ObjectKey, chosen: Chosen) {
        let of = self.by_list.entry(chosen.1).or_default();
        *of = of.join(Counts::of(&chosen.0), u32::wrapping_add);
        if let Some(node) = self.source_of(&chosen) {
            self.sources.entry(node.clone()).or_default().insert(key.clone(), chosen);
            self.stale.insert(node);
        }
    }

    fn count_out(&mut self, key: &ObjectKey, chosen: &Chosen) {
        if let Some(of) = self.by_list.get_mut(&chosen.1) {
            *of = of.join(Counts::of(&chosen.0), u32::wrapping_sub);
            if *of == Counts::default() {
                self.by_list.remove(&chosen.1);
            }
        }
        if let Some(node) = self.source_of(chosen) {
            if let Some(pods) = self.sources.get_mut(&node) {
                pods.remove(key);
                if pods.is_empty() {
                    self.sources.remove(&node);
                }
            }
            self.stale.insert(node);
        }
    }

    /// The node of which the pod is a source.
    fn source_of(&self, (pod, list): &Chosen) -> Option<String> {
        let selected = !pod.host_network && !pod.addresses.is_empty() && !self.lists.get(*list).is_empty();
        match (selected, self.standalone) {
            (false, _) => None,
            (true, true) => Some(STANDALONE_NODE.to_owned()),
            (true, false) => pod.node.clone(),
        }
    }

    /// Which list of rules selects each of these pods of one namespace; those that are known already are left out.
    fn choose<'a>(&mut self, world: &World, pods: &[(&'a ObjectKey, &Arc<Pod>)]) -> Vec<(&'a ObjectKey, Chosen)> {
        let Self { groups, lists, chosen, .. } = self;
        let mut applicable: Option<Applicable<'_>> = None;
        // By how a pod looks to the selectors.
        let mut looks: BTreeMap<Vec<(&str, &str)>, ListId> = BTreeMap::new();
        let mut fresh = Vec::new();
        for &(key, pod) in pods {
            let list = match chosen.get(key) {
                // Most often it is the very same one.
                Some((before, _)) if Arc::ptr_eq(before, pod) => continue,
                Some((before, list)) if before.labels == pod.labels => *list,
                Some(_) | None => {
                    let of = applicable.get_or_insert_with(|| applicable_to(world, groups, &key.namespace));
                    let labels = pod.labels.iter().map(|(key, value)| (key.as_str(), value.as_str()));
                    let look: Vec<(&str, &str)> = labels.filter(|(key, _)| of.keys.contains(key)).collect();
                    *looks.entry(look).or_insert_with(|| lists.id(rules_of(of, pod)))
                }
            };
            fresh.push((key, (Arc::clone(pod), list)));
        }
        fresh
    }
}

fn applicable_to<'a>(world: &World, groups: &'a BTreeMap<Pods, Vec<u32>>, namespace: &str) -> Applicable<'a> {
    let mut applicable =
        Applicable { all: Vec::new(), by_label: BTreeMap::new(), others: Vec::new(), keys: BTreeSet::new() };
    let labels = world.labels_of(namespace);
    let first = |scope| Pods { scope, labels: Selector::default() };
    let own = groups.range(first(PodScope::Own(namespace.to_owned()))..);
    let own = own.take_while(|(pods, _)| matches!(&pods.scope, PodScope::Own(own) if own == namespace));
    // They come after all others.
    let labelled = groups.range(first(PodScope::Labelled(Selector::default()))..);
    for (pods, rules) in own.chain(labelled).filter(|(pods, _)| pods.scope.contains(namespace, &labels)) {
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
