//! Calls by link: one link's are found without a look at all the others.

use std::collections::{BTreeMap, BTreeSet};

use callgate_pptp::CallPath;

/// Calls that have to do with links.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ByLink(BTreeMap<u32, BTreeSet<CallPath>>);

impl ByLink {
    /// This call has to do with this link.
    pub(super) fn add(&mut self, link: u32, path: &CallPath) {
        self.0.entry(link).or_default().insert(*path);
    }

    /// It has nothing to do with it any more.
    pub(super) fn remove(&mut self, link: u32, path: &CallPath) {
        if let Some(calls) = self.0.get_mut(&link) {
            calls.remove(path);
            if calls.is_empty() {
                self.0.remove(&link);
            }
        }
    }

    /// Calls of this link.
    pub(super) fn of(&self, link: u32) -> impl Iterator<Item = CallPath> + '_ {
        self.0.get(&link).into_iter().flatten().copied()
    }

    /// Whether a call has to do with this link.
    pub(super) fn has(&self, link: u32) -> bool {
        self.0.contains_key(&link)
    }

    /// Links that calls have to do with.
    pub(super) fn links(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.keys().copied()
    }
}

#[cfg(test)]
mod tests {
    use callgate_pptp::IdPair;

    use super::*;

    #[test]
    fn of_many_links_and_calls_each_link_has_its_own_and_nothing_is_left_of_those_that_have_gone() {
        let id = |number| IdPair { client: number, server: number };
        let call = |number: u16| CallPath {
            client: [10, 0, 0, 2].into(),
            external: [192, 0, 2, 1].into(),
            server: [198, 51, 100, 9].into(),
            pns: id(number),
            pac: id(number),
        };
        let mut calls = ByLink::default();
        // A client's link of 200, and the one to the server.
        let links = |number: u16| [u32::from(number % 200), 1_000];
        for number in 0..10_000 {
            links(number).into_iter().for_each(|link| calls.add(link, &call(number)));
        }
        let sizes: BTreeMap<u32, usize> = calls.links().map(|link| (link, calls.of(link).count())).collect();
        let expected: BTreeMap<u32, usize> = (0..200).map(|link| (link, 50)).chain([(1_000, 10_000)]).collect();
        assert_eq!(sizes, expected);
        calls.remove(7, &call(8));
        assert!(calls.of(7).eq((0..50).map(|at| call(at * 200 + 7))));
        for number in 0..10_000 {
            links(number).into_iter().for_each(|link| calls.remove(link, &call(number)));
        }
        assert_eq!((calls.has(7), calls), (false, ByLink::default()));
    }
}
