//! What the documents say happens to a packet, written down once more and independently: small, slow, without the product's code.

use std::collections::BTreeMap;

use callgate_e2e::cluster::inside::Opening;

/// Namespace and name.
pub(super) type Key = (&'static str, &'static str);

/// The operator's namespace: where names are looked up that the object's own namespace does not have.
pub(super) const SYSTEM: &str = "callgate-system";
/// The server that answers; a rule may be about it alone or about all others.
pub(super) const SERVER: u8 = 11;
/// An address that nobody has.
pub(super) const NOBODY: u8 = 77;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Nat,
    Allow,
    Drop,
    Reject,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Where {
    Everywhere,
    Only,
    AllBut,
}

/// A service's protocol and port, and the name of its ALG.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Service {
    pub(super) tcp: bool,
    pub(super) udp: bool,
    pub(super) port: u16,
    pub(super) alg: Option<&'static str>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) order: u32,
    pub(super) action: Action,
    /// Value of the pods' label `app`.
    pub(super) app: &'static str,
    pub(super) to: Where,
    pub(super) services: Vec<&'static str>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pod {
    pub(super) namespace: &'static str,
    /// Index of its node.
    pub(super) node: usize,
    pub(super) app: &'static str,
}

/// A service as a running rule has it: a copy that outlives it.
type Leaf = (Key, Service, Option<Key>);

/// A rule as it runs.
type Running = (Rule, Vec<Leaf>);

/// Everything there is, and what runs.
#[derive(Debug, Clone, Default)]
pub(super) struct Model {
    pub(super) algs: BTreeMap<Key, u32>,
    pub(super) services: BTreeMap<Key, Service>,
    pub(super) rules: BTreeMap<Key, Rule>,
    pub(super) pods: BTreeMap<&'static str, Pod>,
    /// Value of the namespaces' label, by which rules of the operator's namespace select.
    pub(super) tiers: BTreeMap<&'static str, &'static str>,
    running: BTreeMap<Key, Running>,
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It leaves with its node's address.
    Node {
        /// By way of an ALG.
        alg: bool,
    },
    /// It leaves with its pod's address: allowed, or no rule is about it.
    Pod,
    /// It does not leave.
    Nowhere,
}

impl Model {
    /// What runs after an edit: whatever is good runs as it is; what is not good any more runs as it did, with those of its
    /// services that are still good as they are now.
    pub(super) fn settle(&mut self) {
        let before = std::mem::take(&mut self.running);
        for key in self.rules.keys() {
            let kept = before.get(key).map(|(rule, leaves)| {
                let today = |leaf: &Leaf| self.leaf(leaf.0).unwrap_or(*leaf);
                (rule.clone(), leaves.iter().map(today).collect())
            });
            if let Some(runs) = self.good(*key).or(kept) {
                self.running.insert(*key, runs);
            }
        }
    }

    fn find<T>(objects: &BTreeMap<Key, T>, from: &str, name: &str) -> Option<Key> {
        let own = objects.keys().find(|key| **key == (from, name));
        own.or_else(|| objects.keys().find(|key| **key == (SYSTEM, name))).copied()
    }

    /// A service that is good, with its ALG.
    fn leaf(&self, key: Key) -> Option<Leaf> {
        let service = *self.services.get(&key)?;
        match service.alg {
            None => Some((key, service, None)),
            Some(name) => Some((key, service, Some(Self::find(&self.algs, key.0, name)?))),
        }
    }

    /// A rule of which everything is right.
    fn good(&self, key: Key) -> Option<Running> {
        let rule = self.rules.get(&key)?;
        let leaves = rule.services.iter().map(|name| self.leaf(Self::find(&self.services, key.0, name)?));
        let leaves: Vec<Leaf> = leaves.collect::<Option<_>>()?;
        let translated = rule.action == Action::Nat || leaves.iter().all(|(_, _, alg)| alg.is_none());
        translated.then(|| (rule.clone(), leaves))
    }

    pub(super) fn is_good(&self, rule: Key) -> bool {
        self.good(rule).is_some()
    }

    pub(super) fn is_good_service(&self, service: Key) -> bool {
        self.leaf(service).is_some()
    }

    fn selects(&self, rule: Key, app: &str, pod: &Pod) -> bool {
        let namespace = match rule.0 {
            SYSTEM => self.tiers.get(pod.namespace) == Some(&"gold"),
            own => own == pod.namespace,
        };
        namespace && app == pod.app
    }

    /// Pods for which a rule is in force.
    pub(super) fn clients(&self, rule: Key) -> usize {
        let Some((runs, _)) = self.running.get(&rule) else { return 0 };
        self.pods.values().filter(|pod| self.selects(rule, runs.app, pod)).count()
    }

    /// Rules that are in force somewhere and name this service.
    pub(super) fn carriers(&self, service: Key) -> Vec<Key> {
        let names = |(_, leaves): &Running| leaves.iter().any(|(key, _, _)| *key == service);
        let rules = self.running.iter().filter(|(key, runs)| names(runs) && self.clients(**key) > 0);
        rules.map(|(key, _)| *key).collect()
    }

    /// Whether a service that a rule names is not there, or not good.
    pub(super) fn misses(&self, rule: Key) -> bool {
        let found = |name| Self::find(&self.services, rule.0, name).and_then(|key| self.leaf(key));
        self.rules[&rule].services.iter().any(|name| found(name).is_none())
    }

    /// Whether a rule that is in force somewhere has a service with this ALG.
    pub(super) fn carries_alg(&self, alg: Key) -> bool {
        let names = |(_, leaves): &Running| leaves.iter().any(|(_, _, of)| *of == Some(alg));
        self.running.iter().any(|(key, runs)| names(runs) && self.clients(*key) > 0)
    }

    /// Services that name this ALG where no other stands in for it.
    pub(super) fn without_alg(&self) -> Vec<Key> {
        self.services.keys().filter(|key| !self.is_good_service(**key)).copied().collect()
    }

    /// What becomes of the first packet of a flow from a pod to this last octet and port.
    pub(super) fn fate(&self, pod: &str, opening: Opening, to: u8, port: u16) -> Fate {
        let pod = &self.pods[pod];
        let about = |(rule, leaves): &Running| {
            let there = match rule.to {
                Where::Everywhere => true,
                Where::Only => to == SERVER,
                Where::AllBut => to != SERVER,
            };
            let service = leaves.iter().find(|(_, service, _)| {
                service.port == port
                    && match opening {
                        Opening::Tcp => service.tcp,
                        Opening::Udp => service.udp,
                        Opening::Gre(_) => false,
                    }
            });
            service.filter(|_| there).map(|(_, _, alg)| alg.is_some())
        };
        let selecting = self.running.iter().filter(|(key, (rule, _))| self.selects(**key, rule.app, pod));
        let found = selecting.filter_map(|(_, runs)| Some((runs.0.order, runs.0.action, about(runs)?)));
        match found.min_by_key(|(order, _, _)| *order) {
            None | Some((_, Action::Allow, _)) => Fate::Pod,
            Some((_, Action::Nat, alg)) => Fate::Node { alg },
            Some((_, Action::Drop | Action::Reject, _)) => Fate::Nowhere,
        }
    }
}
