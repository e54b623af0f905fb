//! Two pods that claim one address: which of them has it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use callgate_proto::model::ObjectKey;

use super::PodFact;

/// Who has each address, pods in their node's network left out.
///
/// An address is given out again as soon as a sandbox is gone, and the old pod's object may outlive that: so one that is
/// not being deleted has it before one that is, and of two alike the one that started later.
pub(super) fn owners(pods: &BTreeMap<ObjectKey, PodFact>) -> BTreeMap<Ipv4Addr, &ObjectKey> {
    let mut owners: BTreeMap<Ipv4Addr, (&ObjectKey, &PodFact)> = BTreeMap::new();
    for (key, fact) in pods.iter().filter(|(_, fact)| !fact.pod.host_network && !fact.pod.finished) {
        for &address in &fact.pod.addresses {
            let place = owners.entry(address).or_insert((key, fact));
            if rank(fact) > rank(place.1) {
                *place = (key, fact);
            }
        }
    }
    owners.into_iter().map(|(address, (key, _))| (address, key)).collect()
}

/// The higher has the address.
fn rank(fact: &PodFact) -> (bool, Option<jiff::Timestamp>, &str) {
    (!fact.deleting, fact.started, &fact.pod.uid)
}
