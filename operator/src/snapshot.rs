//! A node's configuration as it is sent, and what of it makes each object be in force.

use std::collections::{BTreeMap, BTreeSet};
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
    /// Sources of each rule.
    sources: BTreeMap<ObjectKey, Sources>,
    /// Services and ALGs it carries; rules are in `sources`.
    named: BTreeSet<ObjectRef>,
}

/// Sources of one rule on one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sources {
    print: u64,
    /// Single addresses: pods.
    pods: u32,
    /// Larger blocks.
    networks: u32,
}

impl Snapshot {
    /// Of a configuration and the pods that have its source addresses.
    pub fn new(config: NodeConfig, holders: Vec<pb::Holder>) -> Self {
        let hash = config.content_hash();
        let stamp = Arc::new(Stamp::of(&config));
        Self { config: Arc::new(config), hash, holders, stamp }
    }

    /// As it goes over the wire.
    pub fn message(&self) -> pb::Snapshot {
        pb::Snapshot {
            config: Some(pb::NodeConfig::from(&*self.config)),
            hash: self.hash.clone(),
            holders: self.holders.clone(),
        }
    }
}

impl Stamp {
    /// Of a configuration.
    pub fn of(config: &NodeConfig) -> Self {
        let structure = print(&format!("{:?}", (&config.cluster_nets, &config.rules, &config.services, &config.algs)));
        let mut sources: BTreeMap<ObjectKey, (DefaultHasher, [u32; 2])> = BTreeMap::new();
        for source in &config.sources {
            let chain = config.chains.get(source.chain as usize).into_iter().flatten();
            for rule in chain.filter_map(|&rule| config.rules.get(rule as usize)) {
                if !sources.contains_key(&rule.key) {
                    sources.insert(rule.key.clone(), (DefaultHasher::new(), [0; 2]));
                }
                if let Some((hasher, [networks, pods])) = sources.get_mut(&rule.key) {
                    source.net.hash(hasher);
                    *(if source.net.prefix_len() == 32 { pods } else { networks }) += 1;
                }
            }
        }
        let sources = sources.into_iter().map(|(key, (hasher, [networks, pods]))| {
            let print = hasher.finish();
            (key, Sources { print, pods, networks })
        });
        let of = |kind: Kind| move |key: &ObjectKey| ObjectRef { kind, key: key.clone() };
        let services = config.services.iter().map(|service| &service.key).map(of(Kind::Service));
        let algs = config.algs.iter().map(|alg| &alg.key).map(of(Kind::PptpAlg));
        Self { structure, sources: sources.collect(), named: services.chain(algs).collect() }
    }

    /// Whether whoever runs this has `object` in force, in whatever version.
    pub fn carries(&self, object: &ObjectRef) -> bool {
        match object.kind {
            Kind::IpRule => self.sources.contains_key(&object.key),
            Kind::PptpAlg | Kind::Service => self.named.contains(object),
        }
    }

    /// Of a rule: single addresses and larger networks for which it is in force where this runs.
    pub fn clients(&self, rule: &ObjectKey) -> (u32, u32) {
        self.sources.get(rule).map_or((0, 0), |sources| (sources.pods, sources.networks))
    }

    /// Whether whoever runs this does for `object` what `wanted` says.
    pub fn fulfils(&self, wanted: &Self, object: &ObjectRef) -> bool {
        let sources = match object.kind {
            Kind::IpRule => self.sources.get(&object.key) == wanted.sources.get(&object.key),
            Kind::PptpAlg | Kind::Service => true,
        };
        self.structure == wanted.structure && sources
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
