//! Two pods that claim one address: which of them has it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use callgate_proto::model::ObjectKey;

use super::PodFact;

/// Who has each address, pods in their node's network left out.
///
/// An address is given out again as soon as a sandbox is gone, and the old pod's object may outlive that: so one that is
/// not being deleted has it before one that is, and of two alike the one that started later.
pub(super) fn owners(pods: &BTreeMap<ObjectKey, PodFact>) -> Owners<'_> {
    let owning = pods.iter().filter(|(_, fact)| !fact.pod.host_network && !fact.pod.finished);
    let mut claims: Vec<(Ipv4Addr, &ObjectKey, &PodFact)> =
        owning.flat_map(|(key, fact)| fact.pod.addresses.iter().map(move |&address| (address, key, fact))).collect();
    // Stable: of two that are alike in everything the first by name has it.
    claims.sort_by_key(|(address, _, _)| *address);
    claims.dedup_by(|later, first| {
        let same = later.0 == first.0;
        if same && rank(later.2) > rank(first.2) {
            *first = *later;
        }
        same
    });
    Owners(claims)
}

/// Who has each address, by address: a sorted list is made and searched faster than a map of as many.
pub(super) struct Owners<'a>(Vec<(Ipv4Addr, &'a ObjectKey, &'a PodFact)>);

impl Owners<'_> {
    /// Whether the pod that is filed under this very key has the address.
    pub(super) fn has(&self, key: &ObjectKey, address: Ipv4Addr) -> bool {
        let at = self.0.binary_search_by_key(&address, |(address, _, _)| *address).ok();
        // Keys of the same table: no need to compare what they say.
        at.and_then(|at| self.0.get(at)).is_some_and(|(_, owner, _)| std::ptr::eq(*owner, key))
    }
}

/// The higher has the address.
fn rank(fact: &PodFact) -> (bool, Option<jiff::Timestamp>, &str) {
    (!fact.deleting, fact.started, &fact.pod.uid)
}
