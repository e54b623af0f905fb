//! What goes on running although something about it is wrong now: the last good configuration.
use std::collections::BTreeMap;
use std::sync::Arc;

use callgate_proto::model::{self, ObjectKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Candidate;
use crate::resolve::{Algs, GoodRule, Leaf, Services};

/// The rules as they run, each with copies of what it names. Opaque; can be saved and given to the next compile, also
/// of the next process. A clone costs nothing.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct LastGood {
    #[serde(serialize_with = "shared", deserialize_with = "to_share")]
    rules: Rules,
}

type Rules = Arc<Vec<(ObjectKey, Arc<GoodRule>)>>;

impl PartialEq for LastGood {
    fn eq(&self, other: &Self) -> bool {
        // Most often it is the very same.
        Arc::ptr_eq(&self.rules, &other.rules) || self.rules == other.rules
    }
}

impl Eq for LastGood {}

fn shared<S: Serializer>(rules: &Rules, serializer: S) -> Result<S::Ok, S::Error> {
    rules.as_slice().serialize(serializer)
}

fn to_share<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Rules, D::Error> {
    Vec::deserialize(deserializer).map(Arc::new)
}

impl LastGood {
    /// What runs from now on.
    pub(super) fn of<'a>(candidates: impl Iterator<Item = &'a Candidate>) -> Self {
        let rules = candidates.map(|candidate| (candidate.key.clone(), Arc::clone(&candidate.rule)));
        Self { rules: Arc::new(rules.collect()) }
    }

    /// The rules by name.
    pub(super) fn by_key(&self) -> BTreeMap<&ObjectKey, &GoodRule> {
        self.rules.iter().map(|(key, rule)| (key, rule.as_ref())).collect()
    }
}

/// `rule` as it ran, with today's version of every service and ALG that is good today: a kept rule follows what can be followed. A
/// service that has an ALG now is nothing to a rule that does not translate: what runs there would lose its limit and its time-outs.
pub(super) fn refreshed(rule: &GoodRule, algs: &Algs, services: &Services) -> GoodRule {
    let mut rule = rule.clone();
    let translates = rule.action == model::Action::Nat;
    for leaf in &mut rule.services {
        if let Some(today) = today(services, &leaf.key).filter(|today| translates || today.alg.is_none()) {
            leaf.clone_from(today);
        }
    }
    let named = rule.services.iter().filter_map(|leaf| leaf.alg.as_ref());
    let mut used: BTreeMap<&ObjectKey, &model::PptpAlg> = BTreeMap::new();
    for key in named {
        let today = algs.get(key).and_then(|(alg, _)| alg.as_ref());
        if let Some(alg) = today.or_else(|| rule.algs.iter().find(|alg| alg.key == *key)) {
            used.insert(key, alg);
        }
    }
    let used: Vec<model::PptpAlg> = used.into_values().cloned().collect();
    rule.algs = used;
    rule
}

/// The leaf called `key`, where it is good today and still a leaf.
fn today<'a>(services: &'a Services, key: &ObjectKey) -> Option<&'a Arc<Leaf>> {
    match services.get(key)?.0.as_deref() {
        Some([leaf]) if leaf.key == *key => Some(leaf),
        Some(_) | None => None,
    }
}
