//! Which nodes carry each object: found by number, and told by name only where it is not as it was.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use callgate_proto::model::ObjectKey;

use super::node::Built;
use super::resolved::Resolved;

/// Nodes by their places in the order of names, a bit each: of a group of a thousand services they are put together at each compile.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Places(Vec<u64>);

impl Places {
    fn add(&mut self, place: usize) {
        let word = place / 64;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        if let Some(bits) = self.0.get_mut(word) {
            *bits |= 1 << (place % 64);
        }
    }

    fn add_all(&mut self, other: &Self) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (bits, more) in self.0.iter_mut().zip(&other.0) {
            *bits |= more;
        }
    }

    fn contains(&self, place: usize) -> bool {
        self.0.get(place / 64).is_some_and(|bits| bits & (1 << (place % 64)) != 0)
    }
}

/// Nodes that carry each object.
pub(super) struct Carriers<'a> {
    algs: BTreeMap<&'a ObjectKey, Places>,
    by_name: BTreeMap<&'a ObjectKey, u32>,
    services: Vec<Places>,
    rules: BTreeMap<&'a ObjectKey, Places>,
}

impl<'a> Carriers<'a> {
    /// By number first, and by name only once: a node has rules by the dozen.
    pub(super) fn of(resolved: &'a Resolved, nodes: &BTreeMap<String, Built>) -> Self {
        let Resolved { candidates, names, .. } = resolved;
        let mut rules = vec![Places::default(); candidates.len()];
        let mut services = vec![Places::default(); names.services.len()];
        let mut algs = vec![Places::default(); names.algs.len()];
        for (place, built) in nodes.values().enumerate() {
            for &rule in &built.used {
                add(&mut rules, rule, place);
                let Some((of_services, of_algs)) = names.of.get(rule as usize) else { continue };
                of_services.iter().for_each(|&service| add(&mut services, service, place));
                of_algs.iter().for_each(|&alg| add(&mut algs, alg, place));
            }
        }
        Self {
            rules: candidates.iter().map(|candidate| &candidate.key).zip(rules).collect(),
            by_name: names.services.iter().zip(0..).collect(),
            services,
            algs: names.algs.iter().zip(algs).collect(),
        }
    }

    pub(super) fn of_alg(&self, key: &ObjectKey) -> Places {
        self.algs.get(key).cloned().unwrap_or_default()
    }

    pub(super) fn of_rule(&self, key: &ObjectKey) -> Places {
        self.rules.get(key).cloned().unwrap_or_default()
    }

    /// A group is where its leaves are, which are given by number.
    pub(super) fn of_service(&self, key: &ObjectKey, leaves: &[u32]) -> Places {
        let mut places = Places::default();
        for leaf in self.by_name.get(key).into_iter().chain(leaves) {
            if let Some(of) = self.services.get(*leaf as usize) {
                places.add_all(of);
            }
        }
        places
    }
}

fn add(all: &mut [Places], at: u32, place: usize) {
    if let Some(places) = all.get_mut(at as usize) {
        places.add(place);
    }
}

/// Sets of nodes of all objects in their order, shared from one compile of the same objects to the next: most stay as they are.
#[derive(Debug, Default)]
pub(super) struct Sets {
    nodes: Vec<String>,
    of: Vec<(Places, Arc<BTreeSet<String>>)>,
    /// All of them: objects on the same nodes share one, and rules by the thousand are on the same hundred.
    all: BTreeMap<Places, Arc<BTreeSet<String>>>,
}

impl Sets {
    /// Places are places in these from now on.
    pub(super) fn are_of<'a>(&mut self, nodes: impl Iterator<Item = &'a String> + Clone) {
        if !self.nodes.iter().eq(nodes.clone()) {
            *self = Self { nodes: nodes.cloned().collect(), ..Self::default() };
        }
        self.all.retain(|_, names| Arc::strong_count(names) > 1);
    }

    /// The set of the object at `at`, by name.
    pub(super) fn named(&mut self, at: usize, places: Places) -> Arc<BTreeSet<String>> {
        if let Some((_, names)) = self.of.get(at).filter(|(old, _)| *old == places) {
            return Arc::clone(names);
        }
        let there = self.nodes.iter().enumerate().filter(|(place, _)| places.contains(*place));
        let made = || Arc::new(there.map(|(_, node)| node.clone()).collect());
        let names = Arc::clone(self.all.entry(places.clone()).or_insert_with(made));
        let new = (places, Arc::clone(&names));
        match self.of.get_mut(at) {
            Some(old) => *old = new,
            None => self.of.push(new),
        }
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(places: &[usize]) -> Places {
        let mut all = Places::default();
        places.iter().for_each(|place| all.add(*place));
        all
    }

    #[test]
    fn objects_on_the_same_nodes_share_the_set_of_their_names_and_one_that_is_nobodys_is_forgotten() {
        let nodes: Vec<String> = (0..100).map(|node| format!("n{node:02}")).collect();
        let mut sets = Sets::default();
        sets.are_of(nodes.iter());
        let [first, second] = [0, 1].map(|object| sets.named(object, at(&[1, 70])));
        assert!(Arc::ptr_eq(&first, &second));
        assert_eq!(*first, ["n01", "n70"].map(str::to_owned).into());
        for object in [0, 1] {
            assert_eq!(*sets.named(object, at(&[2])), ["n02".to_owned()].into());
        }
        assert_eq!(sets.all.len(), 2);
        drop((first, second));
        sets.are_of(nodes.iter());
        assert_eq!(sets.all.into_keys().collect::<Vec<_>>(), [at(&[2])]);
    }
}
