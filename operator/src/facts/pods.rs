//! Pods, and which of two that claim one address has it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use callgate_compile::Since;
use callgate_proto::model::ObjectKey;
use kube::runtime::watcher::Event;

use super::{Change, PodFact, Table};

/// More names than this are not kept apart: whoever never asks (a standby) shall not collect them.
const MOST: usize = 4096;

/// Pods that have not finished, who claims each address, and what has changed since it was last asked.
///
/// An address is given out again as soon as a sandbox is gone, and the old pod's object may outlive that: so one that is
/// not being deleted has it before one that is, and of two alike the one that started later.
#[derive(Debug)]
pub struct Pods {
    table: Table<PodFact>,
    /// By address, names ascending; pods in their node's network, and finished ones, claim none.
    claims: BTreeMap<Ipv4Addr, Vec<ObjectKey>>,
    touched: Since,
}

impl Default for Pods {
    fn default() -> Self {
        Self { table: Table::default(), claims: BTreeMap::new(), touched: Since::Everything }
    }
}

impl Pods {
    /// Takes an event in, as [`Table::absorb`] does.
    pub fn absorb<K>(
        &mut self,
        event: &Event<K>,
        key: impl Fn(&K) -> ObjectKey,
        fact: impl Fn(&K) -> PodFact,
    ) -> Change {
        let one = match event {
            Event::Apply(object) | Event::Delete(object) => Some(key(object)),
            Event::Init | Event::InitApply(_) | Event::InitDone => None,
        };
        let before = one.as_ref().and_then(|key| self.table.get(key)).cloned();
        let change = self.table.absorb(event, key, fact);
        match (change, one) {
            (Change::None, _) => {}
            (Change::Some, Some(key)) => self.claim_anew(&key, before.as_ref()),
            (Change::Some, None) => self.claim_all(),
        }
        change
    }

    /// One of them.
    pub fn get(&self, key: &ObjectKey) -> Option<&PodFact> {
        self.table.get(key)
    }

    /// All of them, by namespace and name.
    pub fn objects(&self) -> &BTreeMap<ObjectKey, PodFact> {
        self.table.objects()
    }

    /// Whether a whole list has been read.
    pub fn is_synced(&self) -> bool {
        self.table.is_synced()
    }

    /// Whether this pod has the address that it claims. One in its node's network shares all of them.
    pub(super) fn has(&self, key: &ObjectKey, fact: &PodFact, address: Ipv4Addr) -> bool {
        fact.pod.host_network || self.owner(address) == Some(key)
    }

    /// Pods that may be others, or have other addresses, than when this was last asked.
    pub(super) fn take_touched(&mut self) -> Since {
        std::mem::replace(&mut self.touched, Since::Pods(BTreeSet::new()))
    }

    fn owner(&self, address: Ipv4Addr) -> Option<&ObjectKey> {
        let mut claims = self.claims.get(&address)?.iter().filter_map(|key| Some((key, rank(self.table.get(key)?))));
        let first = claims.next()?;
        // Of two that are alike in everything the first by name has it.
        Some(claims.fold(first, |best, next| if next.1 > best.1 { next } else { best }).0)
    }

    fn claim_anew(&mut self, key: &ObjectKey, before: Option<&PodFact>) {
        let after = self.table.get(key);
        let (old, new) = (before.map(claimed).unwrap_or_default(), after.map(claimed).unwrap_or_default());
        let mut touched = vec![key.clone()];
        for address in old {
            if let Some(claims) = self.claims.get_mut(address) {
                claims.retain(|other| other != key);
                touched.extend_from_slice(claims);
                if claims.is_empty() {
                    self.claims.remove(address);
                }
            }
        }
        for address in new {
            let claims = self.claims.entry(*address).or_default();
            touched.extend_from_slice(claims);
            if let Err(at) = claims.binary_search(key) {
                claims.insert(at, key.clone());
            }
        }
        if let Since::Pods(pods) = &mut self.touched {
            pods.extend(touched);
            if pods.len() > MOST {
                self.touched = Since::Everything;
            }
        }
    }

    fn claim_all(&mut self) {
        self.claims.clear();
        for (key, fact) in self.table.objects() {
            for address in claimed(fact) {
                let claims = self.claims.entry(*address).or_default();
                if claims.last() != Some(key) {
                    claims.push(key.clone());
                }
            }
        }
        self.touched = Since::Everything;
    }
}

fn claimed(fact: &PodFact) -> &[Ipv4Addr] {
    if fact.pod.host_network || fact.pod.finished { &[] } else { &fact.pod.addresses }
}

/// The higher has the address.
fn rank(fact: &PodFact) -> (bool, Option<jiff::Timestamp>, &str) {
    (!fact.deleting, fact.started, &fact.pod.uid)
}
