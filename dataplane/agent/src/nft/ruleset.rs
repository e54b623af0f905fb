//! A whole ruleset as a value: chains, sets, maps, objects. Equal values are equal rulesets.

use std::collections::BTreeMap;

use super::expr::{Expr, Verdict};

/// The map that says which chain judges which single source address.
pub(crate) const HOSTS: &str = "src_hosts";

/// Everything in our table, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ruleset {
    pub(crate) chains: BTreeMap<String, Chain>,
    pub(crate) timeouts: BTreeMap<String, Timeouts>,
    pub(crate) sets: BTreeMap<String, Set>,
}

/// One chain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) base: Option<Base>,
    pub(crate) rules: Vec<Vec<Expr>>,
}

/// Where a base chain is hooked in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Base {
    /// `filter` or `nat`.
    pub(crate) kind: &'static str,
    /// Which hook.
    pub(crate) hook: Hook,
    /// Lower comes first; conntrack is at -200.
    pub(crate) priority: i32,
}

/// The hooks of IPv4, as linux/netfilter.h numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hook {
    /// Just arrived.
    Prerouting = 0,
    /// For this host.
    Input = 1,
    /// On its way through.
    Forward = 2,
    /// Made by this host.
    Output = 3,
    /// About to leave.
    Postrouting = 4,
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
    /// ICMP type.
    IcmpType,
}

/// A set, or a verdict map if its elements have verdicts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Set {
    pub(crate) key: Key,
    /// Elements are ranges.
    pub(crate) interval: bool,
    pub(crate) map: bool,
    /// At most so many elements: told beforehand, the kernel takes a table that does not have to grow and is faster to search
    /// (net/netfilter/nft_set_hash.c, nft_hash_fast_lookup).
    pub(crate) size: Option<u32>,
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
    pub(crate) protocol: u8,
    pub(crate) states: Vec<(u16, u32)>,
}

impl Key {
    /// Type as the nft tool numbers it (so that it prints it rightly), and length in bytes.
    pub(super) fn datatype(self) -> (u32, u32) {
        match self {
            Self::Address => (7, 4),
            Self::Port => (13, 2),
            Self::IcmpType => (14, 1),
            Self::Mark => (19, 4),
        }
    }
}

impl Set {
    /// A set of single keys.
    pub(crate) fn singles(key: Key) -> Self {
        Self { key, interval: false, map: false, size: None, elements: BTreeMap::new() }
    }

    /// A set of ranges.
    pub(crate) fn ranges(key: Key) -> Self {
        Self { interval: true, ..Self::singles(key) }
    }

    /// The same with a verdict for each element.
    pub(crate) fn map(self) -> Self {
        Self { map: true, ..self }
    }

    /// The same for at most so many elements.
    pub(crate) fn of_size(self, size: u32) -> Self {
        Self { size: Some(size), ..self }
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

    /// Whether the two differ in nothing but elements.
    pub(crate) fn same_shape(&self, other: &Self) -> bool {
        (self.key, self.interval, self.map, self.size) == (other.key, other.interval, other.map, other.size)
    }
}

impl Ruleset {
    /// Adds a chain that the kernel calls.
    pub(super) fn base(&mut self, name: &str, kind: &'static str, hook: Hook, priority: i32, rules: Vec<Vec<Expr>>) {
        self.chains.insert(name.into(), Chain { base: Some(Base { kind, hook, priority }), rules });
    }

    /// Puts rules before all others of a chain that is there.
    pub(super) fn first(&mut self, chain: &str, rules: Vec<Vec<Expr>>) {
        if let Some(chain) = self.chains.get_mut(chain) {
            chain.rules.splice(0..0, rules);
        }
    }

    /// Adds a chain that others jump to.
    pub(super) fn chain(&mut self, name: impl Into<String>, rules: Vec<Vec<Expr>>) {
        self.chains.insert(name.into(), Chain { base: None, rules });
    }

    /// The same without elements: what a digest stands for.
    pub(crate) fn structure(&self) -> Self {
        let mut structure = self.clone();
        structure.sets.values_mut().for_each(|set| set.elements.clear());
        structure
    }
}
