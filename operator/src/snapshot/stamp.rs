//! By what of a node's configuration each object is in force there. Pure.
//!
//! A generation of a rule is in force where packets do what it says: its own content with that of its services and ALGs, for the
//! sources it selects, except for packets that rules before it take. So its print is of these: an edit of another rule, or a pod
//! that it does not select, makes nobody wait for it. What rules before it do with what they take is their own affair, and
//! networks of the cluster are nobody's: whether these have arrived is told by the EgressNode.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Debug, Write as _};
use std::hash::{DefaultHasher, Hash, Hasher};

use callgate_compile::objects::needs;
use callgate_compile::status::ObjectRef;
use callgate_crds::Kind;
use callgate_proto::Optional;
use callgate_proto::model::{NodeConfig, ObjectKey, PptpAlg, Rule, Service};
use ipnet::Ipv4Net;

/// Where two configurations have equal prints of an object, whoever runs one of them does for that object what the other says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    /// What it has in force: rules with sources, services, ALGs.
    carried: BTreeMap<ObjectRef, Carried>,
    /// Of all its rules together, with their services and ALGs: a group of services is in no configuration by its name, and is what they say.
    whole: Option<u64>,
    /// What of a kernel they need that not every kernel has; objects that need nothing are left out.
    needs: BTreeMap<ObjectRef, BTreeSet<Optional>>,
}

/// One object on one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Carried {
    /// `None` where it is not known in which version: that is none that is wanted.
    print: Option<u64>,
    /// Of a rule: single addresses, which are pods.
    pods: u32,
    /// Of a rule: larger blocks.
    networks: u32,
}

impl Stamp {
    /// Of a configuration.
    pub fn of(config: &NodeConfig) -> Self {
        let prints = Prints::of(config);
        // Their order is nothing to it.
        let whole = prints.rules.iter().fold(0, |sum: u64, print| sum.wrapping_add(*print));
        let rules = sources(config, &prints.reaches);
        let rules = rules.into_iter().filter_map(|(rule, sources)| {
            let Rule { key, .. } = config.rules.get(rule)?;
            Some((object(Kind::IpRule, key), sources.carried(*prints.rules.get(rule)?)))
        });
        let plain = |print: &u64| Carried { print: Some(*print), pods: 0, networks: 0 };
        let services = config.services.iter().zip(&prints.services);
        let services = services.map(|(service, print)| (object(Kind::Service, &service.key), plain(print)));
        let algs = config.algs.iter().zip(&prints.algs);
        let algs = algs.map(|(alg, print)| (object(Kind::PptpAlg, &alg.key), plain(print)));
        Self { carried: rules.chain(services).chain(algs).collect(), whole: Some(whole), needs: needs(config) }
    }

    /// Of a configuration of which only this is known: "Kind namespace/name" of its objects.
    pub fn named(objects: &[String]) -> Self {
        let unknown = Carried { print: None, pods: 0, networks: 0 };
        let carried = objects.iter().take(MOST_NAMED).filter_map(|text| Some((read(text)?, unknown)));
        Self { carried: carried.collect(), whole: None, needs: BTreeMap::new() }
    }

    /// What an object comes short of where these are missing, as people are told; `None` where it needs none of them.
    pub fn shortfall(&self, object: &ObjectRef, missing: &BTreeSet<Optional>) -> Option<String> {
        Optional::shortfall(self.needs.get(object)?, missing)
    }

    /// What whoever runs this has in force, in whatever version.
    pub fn carried(&self) -> impl Iterator<Item = &ObjectRef> {
        self.carried.keys()
    }

    /// Whether it has that in force.
    pub fn carries(&self, object: &ObjectRef) -> bool {
        self.carried.contains_key(object)
    }

    /// Of a rule: single addresses and larger networks for which it is in force where this runs.
    pub fn clients(&self, rule: &ObjectRef) -> (u32, u32) {
        self.carried.get(rule).map_or((0, 0), |carried| (carried.pods, carried.networks))
    }

    /// Whether whoever runs this does for `object` what `wanted` says. For one that neither has by its name (a group) that is so
    /// where their rules say the same.
    pub fn fulfils(&self, wanted: &Self, object: &ObjectRef) -> bool {
        // Most often it is the very same.
        std::ptr::eq(self, wanted)
            || match (self.carried.get(object), wanted.carried.get(object)) {
                (Some(here), Some(there)) => here.print == there.print,
                (None, None) => self.whole == wanted.whole,
                (Some(_), None) | (None, Some(_)) => false,
            }
    }
}

/// More than a node has room for: what an agent says is not believed without end.
const MOST_NAMED: usize = 1 << 16;

fn object(kind: Kind, key: &ObjectKey) -> ObjectRef {
    ObjectRef { kind, key: key.clone() }
}

/// An object as it is printed.
fn read(text: &str) -> Option<ObjectRef> {
    let (kind, key) = text.split_once(' ')?;
    let (namespace, name) = key.split_once('/')?;
    let kind = Kind::ALL.into_iter().find(|known| known.name() == kind)?;
    Some(ObjectRef { kind, key: ObjectKey::new(namespace, name) })
}

/// Prints of what is written in objects, by their indices.
struct Prints {
    algs: Vec<u64>,
    /// With their ALGs.
    services: Vec<u64>,
    /// With their services and ALGs.
    rules: Vec<u64>,
    /// Of rules: which packets they take, whatever they do with them.
    reaches: Vec<u64>,
}

impl Prints {
    fn of(config: &NodeConfig) -> Self {
        let at = |prints: &[u64], index: u32| prints.get(index as usize).copied();
        let algs: Vec<u64> = config.algs.iter().map(|alg: &PptpAlg| print(alg)).collect();
        let of_service = |service: &Service| {
            let Service { key, matches, alg, max_sessions, forward_icmp_errors, timeouts } = service;
            let alg = alg.map(|alg| at(&algs, alg));
            print(&(key, matches, alg, max_sessions, forward_icmp_errors, timeouts))
        };
        let services: Vec<u64> = config.services.iter().map(of_service).collect();
        let matches: Vec<u64> = config.services.iter().map(|service| print(&service.matches)).collect();
        let of_rule = |rule: &Rule| {
            let Rule { key, action, destinations, services: uses, external, log } = rule;
            let uses: Vec<Option<u64>> = uses.iter().map(|&service| at(&services, service)).collect();
            print(&(key, action, destinations, uses, external, log))
        };
        let reach = |rule: &Rule| {
            let taken: Vec<Option<u64>> = rule.services.iter().map(|&service| at(&matches, service)).collect();
            print(&(&rule.key, &rule.destinations, taken))
        };
        let rules = config.rules.iter().map(of_rule).collect();
        let reaches = config.rules.iter().map(reach).collect();
        Self { algs, services, rules, reaches }
    }
}

/// The sources of one rule, by what goes before it there.
#[derive(Default)]
struct Sources {
    blocks: BTreeMap<u64, Blocks>,
    pods: u32,
    networks: u32,
}

impl Sources {
    fn carried(self, content: u64) -> Carried {
        let mut hasher = DefaultHasher::new();
        content.hash(&mut hasher);
        for (before, blocks) in self.blocks {
            (before, blocks.finish()).hash(&mut hasher);
        }
        Carried { print: Some(hasher.finish()), pods: self.pods, networks: self.networks }
    }
}

/// Of each rule that has any, by its index.
fn sources(config: &NodeConfig, reaches: &[u64]) -> BTreeMap<usize, Sources> {
    let mut rules: BTreeMap<usize, Sources> = BTreeMap::new();
    let chains: Vec<Vec<(usize, u64)>> = config.chains.iter().map(|chain| with_before(chain, reaches)).collect();
    for source in &config.sources {
        for &(rule, before) in chains.get(source.chain as usize).into_iter().flatten() {
            let sources = rules.entry(rule).or_default();
            sources.blocks.entry(before).or_default().add(source.net);
            *(if source.net.prefix_len() == 32 { &mut sources.pods } else { &mut sources.networks }) += 1;
        }
    }
    rules
}

/// Each rule of a chain, with a print of what the rules before it take: a sum, as their order among themselves is nothing to it.
fn with_before(chain: &[u32], reaches: &[u64]) -> Vec<(usize, u64)> {
    let mut before = 0_u64;
    let rules = chain.iter().map(|&rule| {
        let here = (rule as usize, before);
        before = before.wrapping_add(reaches.get(rule as usize).copied().unwrap_or_default());
        here
    });
    rules.collect()
}

/// A set of addresses that come in ascending blocks; how they are cut into blocks is nothing to it.
#[derive(Default)]
struct Blocks {
    hasher: DefaultHasher,
    /// First and last address of what may still grow.
    open: Option<(u32, u32)>,
}

impl Blocks {
    fn add(&mut self, net: Ipv4Net) {
        let (first, last) = (u32::from(net.network()), u32::from(net.broadcast()));
        self.open = match self.open {
            Some((begin, end)) if end.checked_add(1) == Some(first) => Some((begin, last)),
            whole => {
                whole.hash(&mut self.hasher);
                Some((first, last))
            }
        };
    }

    fn finish(mut self) -> u64 {
        self.open.hash(&mut self.hasher);
        self.hasher.finish()
    }
}

/// 64 bits within one process: nobody who could find two texts of the same print could send them.
fn print(what: &impl Debug) -> u64 {
    let mut text = Text(DefaultHasher::new());
    // Hashing cannot fail.
    let _ = write!(text, "{what:?}");
    text.0.finish()
}

/// Hashes what is written into it.
struct Text(DefaultHasher);

impl fmt::Write for Text {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        self.0.write(part.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests;
