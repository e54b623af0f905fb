//! Rule tags: the small number in a flow's connection mark that says which rule it obeys, stable across applies and restarts.

use std::collections::{BTreeMap, BTreeSet};

use callgate_proto::model::{Action, NodeConfig, ObjectKey};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Highest tag a rule can get.
pub const LAST_TAG: u16 = 2046;

/// Tag of what is the ALG's without a rule of its own: GRE of pods, and connections that were first seen in a packet of ours towards
/// the pod (after `conntrack -F`, when the server speaks first).
pub const SENT_TAG: u16 = 2047;

/// In which way a rule treats a flow. A rule has one tag for each way it needs, so that an edited rule never changes
/// the verdict of a flow that is already established.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Via {
    /// NAT or Allow, by the kernel alone.
    Kernel,
    /// The same, without ICMP errors to the client (`forwardIcmpErrors: false`).
    KernelQuiet,
    /// Steered to the PPTP ALG.
    Alg,
    /// Answered with RST or ICMP.
    Reject,
}

/// What a tag stands for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TagKey {
    /// The rule.
    pub rule: ObjectKey,
    /// How it treats the flow.
    pub via: Via,
}

/// Which tag each rule has. Part of `Record`, so that a new process reads old connection marks rightly.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<Entry>", into = "Vec<Entry>")]
pub struct Tags {
    live: BTreeMap<TagKey, u16>,
    retired: BTreeSet<u16>,
}

/// The serialised form: one tag.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Entry {
    tag: u16,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    key: Option<TagKey>,
}

/// More rules than tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "the rules of this node need {needed} connection tags, and there are 2046: merge rules that differ only in source, destination or service"
)]
pub struct TagsExhausted {
    /// Tags wanted.
    pub needed: usize,
}

impl Tags {
    /// Those whose rules nobody remembers, as of rules that are gone.
    pub(super) fn forgotten(tags: impl Iterator<Item = u16>) -> Self {
        Self { live: BTreeMap::new(), retired: tags.collect() }
    }

    /// The tag of a rule in one of its ways; `None` if it has none yet.
    pub fn get(&self, rule: &ObjectKey, via: Via) -> Option<u16> {
        self.live.get(&TagKey { rule: rule.clone(), via }).copied()
    }

    /// Every tag of a rule that exists, by rule and way.
    pub fn live(&self) -> impl Iterator<Item = (&TagKey, u16)> {
        self.live.iter().map(|(key, tag)| (key, *tag))
    }

    /// Tags of rules that are gone, whose flows are not flushed yet; ascending.
    pub fn retired(&self) -> impl Iterator<Item = u16> {
        self.retired.iter().copied()
    }

    /// The tags `config` needs: those of rules that stay are kept (also ways no longer used, for flows that still
    /// carry them), those of rules that are gone are retired, new ones get the lowest free numbers in rule order. Those for
    /// which no number is free before retired ones are flushed get theirs from the next `assign` after that.
    pub fn assign(&self, config: &NodeConfig) -> Result<Self, TagsExhausted> {
        let rules: BTreeSet<&ObjectKey> = config.rules.iter().map(|rule| &rule.key).collect();
        let wanted = wanted(config);
        if wanted.len() > usize::from(LAST_TAG) {
            return Err(TagsExhausted { needed: wanted.len() });
        }
        let used: BTreeSet<&TagKey> = wanted.iter().collect();
        let mut next = Self { live: BTreeMap::new(), retired: self.retired.clone() };
        for (key, tag) in &self.live {
            // What is rejected has no flow that could live on.
            match rules.contains(&key.rule) && (key.via != Via::Reject || used.contains(key)) {
                true => drop(next.live.insert(key.clone(), *tag)),
                false => drop(next.retired.insert(*tag)),
            }
        }
        next.make_room(&wanted, &used);
        let taken: BTreeSet<u16> = next.live.values().copied().chain(next.retired.iter().copied()).collect();
        let free = (1..=LAST_TAG).filter(|tag| !taken.contains(tag));
        let new: Vec<TagKey> = wanted.into_iter().filter(|key| !next.live.contains_key(key)).collect();
        next.live.extend(new.into_iter().zip(free));
        Ok(next)
    }

    /// Where old ways of edited rules leave too few numbers, as many of them as are missing go. First those whose flows can obey the
    /// rule's new way and live on; then the kernel's; the ALG's last, since a call hangs on each.
    fn make_room(&mut self, wanted: &[TagKey], used: &BTreeSet<&TagKey>) {
        let new: Vec<&TagKey> = wanted.iter().filter(|key| !self.live.contains_key(key)).collect();
        let mut missing = (self.live.len() + new.len()).saturating_sub(usize::from(LAST_TAG));
        for key in new {
            let other = match key.via {
                Via::Kernel => Via::KernelQuiet,
                Via::KernelQuiet => Via::Kernel,
                Via::Alg | Via::Reject => continue,
            };
            let old = TagKey { rule: key.rule.clone(), via: other };
            if missing == 0 || used.contains(&old) {
                continue;
            }
            if let Some(tag) = self.live.remove(&old) {
                self.live.insert(key.clone(), tag);
                missing -= 1;
            }
        }
        let unused = self.live.iter().filter(|(key, _)| !used.contains(key));
        let mut unused: Vec<(bool, u16, TagKey)> =
            unused.map(|(key, tag)| (key.via == Via::Alg, *tag, key.clone())).collect();
        unused.sort();
        for (_, tag, key) in unused.into_iter().take(missing) {
            self.live.remove(&key);
            self.retired.insert(tag);
        }
    }

    /// The same for an ALG that has no connection: its tags that no rule of `config` wants any more are retired.
    pub fn without_idle(&self, config: &NodeConfig) -> Self {
        let wanted: BTreeSet<TagKey> = wanted(config).into_iter().collect();
        let mut next = self.clone();
        for (key, tag) in self.live.iter().filter(|(key, _)| key.via == Via::Alg && !wanted.contains(key)) {
            next.live.remove(key);
            next.retired.insert(*tag);
        }
        next
    }

    /// The same once the flows of all retired tags are flushed.
    pub fn flushed(&self) -> Self {
        Self { live: self.live.clone(), retired: BTreeSet::new() }
    }
}

/// What `config` needs tags for, in rule order, each once.
fn wanted(config: &NodeConfig) -> Vec<TagKey> {
    let mut seen = BTreeSet::new();
    let mut keys = Vec::new();
    for rule in &config.rules {
        for service in config.services_of(rule) {
            let Some(via) = via(rule.action, service.alg.is_some(), service.forward_icmp_errors) else { continue };
            let key = TagKey { rule: rule.key.clone(), via };
            if seen.insert(key.clone()) {
                keys.push(key);
            }
        }
    }
    keys
}

/// The way a rule treats flows of a service; `None` where no packet lives on to need a tag.
pub fn via(action: Action, alg: bool, forward_icmp_errors: bool) -> Option<Via> {
    match action {
        Action::Nat if alg => Some(Via::Alg),
        Action::Nat | Action::Allow if forward_icmp_errors => Some(Via::Kernel),
        Action::Nat | Action::Allow => Some(Via::KernelQuiet),
        Action::Drop => None,
        Action::Reject => Some(Via::Reject),
    }
}

impl From<Tags> for Vec<Entry> {
    fn from(tags: Tags) -> Self {
        let mut entries: Vec<Entry> = tags.live.into_iter().map(|(key, tag)| Entry { tag, key: Some(key) }).collect();
        entries.extend(tags.retired.into_iter().map(|tag| Entry { tag, key: None }));
        entries.sort_by_key(|entry| entry.tag);
        entries
    }
}

impl From<Vec<Entry>> for Tags {
    fn from(entries: Vec<Entry>) -> Self {
        let mut tags = Self::default();
        for Entry { tag, key } in entries {
            match key {
                Some(key) => drop(tags.live.insert(key, tag)),
                None => drop(tags.retired.insert(tag)),
            }
        }
        tags
    }
}

#[cfg(test)]
#[path = "tags_tests.rs"]
mod tests;
