//! A whole ruleset as a value: chains, sets, maps, objects. Equal values are equal rulesets.

use std::collections::BTreeMap;

use super::expr::{Expr, Verdict};

/// Everything in our table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ruleset {
    pub(crate) chains: Vec<Chain>,
    pub(crate) timeouts: Vec<Timeouts>,
    pub(crate) sets: BTreeMap<String, Set>,
}

/// One chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) name: String,
    pub(crate) base: Option<Base>,
    pub(crate) rules: Vec<Vec<Expr>>,
}

/// Where a base chain is hooked in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Base {
    /// `filter` or `nat`.
    pub(crate) kind: &'static str,
    /// NF_INET_PRE_ROUTING 0, LOCAL_IN 1, FORWARD 2, LOCAL_OUT 3, POST_ROUTING 4.
    pub(crate) hook: u32,
    pub(crate) priority: i32,
}

/// What a set's keys are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    /// IPv4 address, network order.
    Address,
    /// TCP or UDP port, network order.
    Port,
    /// Mark, host order.
    Mark,
}

/// A set, or a verdict map if its elements have verdicts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Set {
    pub(crate) key: Key,
    /// Elements are ranges.
    pub(crate) interval: bool,
    pub(crate) map: bool,
    pub(crate) elements: BTreeMap<Vec<u8>, Element>,
}

/// What stands behind an element's (first) key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Element {
    /// The key after the last of a range; `None` at the end of the key space, and in sets of single keys.
    pub(crate) end: Option<Vec<u8>>,
    pub(crate) verdict: Option<Verdict>,
}

/// A conntrack time-out object, seconds by state (linux/netfilter/nfnetlink_cttimeout.h).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Timeouts {
    pub(crate) name: String,
    pub(crate) protocol: u8,
    pub(crate) states: Vec<(u16, u32)>,
}

impl Set {
    /// A set of single keys, or a map of them.
    pub(crate) fn hash(key: Key, map: bool) -> Self {
        Self { key, interval: false, map, elements: BTreeMap::new() }
    }

    /// A set of ranges, or a map of them.
    pub(crate) fn ranges(key: Key, map: bool) -> Self {
        Self { key, interval: true, map, elements: BTreeMap::new() }
    }

    /// Adds an IPv4 block.
    pub(crate) fn block(&mut self, net: ipnet::Ipv4Net, verdict: Option<Verdict>) {
        let end = u32::from(net.broadcast()).checked_add(1).map(|end| end.to_be_bytes().to_vec());
        self.elements.insert(net.network().octets().to_vec(), Element { end, verdict });
    }

    /// Adds a range of ports.
    pub(crate) fn ports(&mut self, first: u16, last: u16) {
        let end = last.checked_add(1).map(|end| end.to_be_bytes().to_vec());
        self.elements.insert(first.to_be_bytes().to_vec(), Element { end, verdict: None });
    }

    /// Adds a single key.
    pub(crate) fn single(&mut self, key: &[u8], verdict: Option<Verdict>) {
        self.elements.insert(key.to_vec(), Element { end: None, verdict });
    }
}

impl Ruleset {
    /// Whether the two differ in nothing but elements of named sets.
    pub(crate) fn same_structure(&self, other: &Self) -> bool {
        let shape = |set: &Set| (set.key, set.interval, set.map);
        self.chains == other.chains
            && self.timeouts == other.timeouts
            && self.sets.len() == other.sets.len()
            && self.sets.iter().zip(&other.sets).all(|((a, x), (b, y))| a == b && shape(x) == shape(y))
    }
}
