//! A node's configuration as it is sent, and what of it makes each object be in force.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use callgate_compile::status::ObjectRef;
use callgate_crds::Kind;
use callgate_proto::model::{NodeConfig, ObjectKey};
use callgate_proto::pb;

/// One node's configuration, ready to be sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// What it says.
    pub config: Arc<NodeConfig>,
    /// SHA-256 of its canonical encoding.
    pub hash: String,
    /// Which pod has each source address.
    pub holders: Vec<pb::Holder>,
    /// What of it each object is in force by.
    pub stamp: Arc<Stamp>,
}

/// What of a configuration an object depends on: where two configurations have equal prints of an object, whoever runs one
/// of them does for that object what the other says. So a pod that comes to a node makes only the rules that select it wait
/// for that node, and not every rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    /// Rules with their order, services, ALGs and cluster networks: everything but sources.
    structure: u64,
    /// What it has in force: rules with their sources, services, ALGs.
    carried: BTreeMap<ObjectRef, Sources>,
}

/// Sources of one rule on one node; of a service or an ALG none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Sources {
    print: u64,
    /// Single addresses: pods.
    pods: u32,
    /// Larger blocks.
    networks: u32,
}

impl Snapshot {
    /// Of a configuration and the pods that have its source addresses.
    pub fn new(config: impl Into<Arc<NodeConfig>>, holders: Vec<pb::Holder>) -> Self {
        let config = config.into();
        let hash = config.content_hash();
        let stamp = Arc::new(Stamp::of(&config));
        Self { config, hash, holders, stamp }
    }

    /// As it goes over the wire, as the stream's snapshot number `sequence`.
    pub fn message(&self, sequence: u64) -> pb::Snapshot {
        pb::Snapshot {
            config: Some(pb::NodeConfig::from(&*self.config)),
            hash: self.hash.clone(),
            holders: self.holders.clone(),
            sequence,
        }
    }
}

impl Stamp {
    /// Of a configuration.
    pub fn of(config: &NodeConfig) -> Self {
        let structure = print(&format!("{:?}", (&config.cluster_nets, &config.rules, &config.services, &config.algs)));
        let mut rules: BTreeMap<&ObjectKey, (DefaultHasher, Sources)> = BTreeMap::new();
        for source in &config.sources {
            let chain = config.chains.get(source.chain as usize).into_iter().flatten();
            for rule in chain.filter_map(|&rule| config.rules.get(rule as usize)) {
                let (hasher, Sources { pods, networks, .. }) = rules.entry(&rule.key).or_default();
                source.net.hash(hasher);
                *(if source.net.prefix_len() == 32 { pods } else { networks }) += 1;
            }
        }
        let of = |kind: Kind, key: &ObjectKey| ObjectRef { kind, key: key.clone() };
        let rules = rules
            .into_iter()
            .map(|(key, (hasher, sources))| (of(Kind::IpRule, key), Sources { print: hasher.finish(), ..sources }));
        let services = config.services.iter().map(|service| of(Kind::Service, &service.key));
        let algs = config.algs.iter().map(|alg| of(Kind::PptpAlg, &alg.key));
        let named = services.chain(algs).map(|object| (object, Sources::default()));
        Self { structure, carried: rules.chain(named).collect() }
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
        self.carried.get(rule).map_or((0, 0), |sources| (sources.pods, sources.networks))
    }

    /// Whether whoever runs this does for `object` what `wanted` says.
    pub fn fulfils(&self, wanted: &Self, object: &ObjectRef) -> bool {
        // Most often it is the very same.
        std::ptr::eq(self, wanted)
            || (self.structure == wanted.structure && self.carried.get(object) == wanted.carried.get(object))
    }
}

/// 64 bits within one process: nobody who could find two texts of the same print could send them.
fn print(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use callgate_proto::model::{Action, External, Rule, Source};

    use super::*;

    fn rule(name: &str) -> Rule {
        Rule {
            key: ObjectKey::new("pos", name),
            action: Action::Drop,
            destinations: vec!["0.0.0.0/0".parse().unwrap()],
            services: vec![],
            external: External::NodeAddress,
            log: false,
        }
    }

    fn config(sources: &[(&str, u32)]) -> NodeConfig {
        NodeConfig {
            rules: vec![rule("a"), rule("b")],
            chains: vec![vec![0], vec![0, 1]],
            sources: sources.iter().map(|(net, chain)| Source { net: net.parse().unwrap(), chain: *chain }).collect(),
            ..NodeConfig::default()
        }
    }

    fn object(name: &str) -> ObjectRef {
        ObjectRef { kind: Kind::IpRule, key: ObjectKey::new("pos", name) }
    }

    #[test]
    fn a_new_pod_concerns_only_the_rules_that_select_it() {
        let before = Stamp::of(&config(&[("10.0.0.1/32", 1)]));
        let after = Stamp::of(&config(&[("10.0.0.1/32", 1), ("10.0.0.2/32", 0)]));
        assert_eq!([before.fulfils(&after, &object("a")), before.fulfils(&after, &object("b"))], [false, true]);
    }

    #[test]
    fn a_rule_that_moves_in_the_order_concerns_every_rule() {
        let before = config(&[("10.0.0.1/32", 1)]);
        let mut after = before.clone();
        after.rules.reverse();
        assert!(!Stamp::of(&before).fulfils(&Stamp::of(&after), &object("a")));
    }
}
