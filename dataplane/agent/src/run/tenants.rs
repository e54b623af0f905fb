//! Who lives behind which link: an address whose link has gone is its pod's no more, before anybody else can say so.
//!
//! A CNI gives an address out again as soon as a pod's network is gone. The operator hears of that over kubelet and API server, and
//! while it is away never; the kernel tells it within microseconds. What has left comes back when the operator names another pod,
//! or the same one with containers that have been started anew: those are in another sandbox.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

/// A pod as its address knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tenant {
    /// metadata.uid.
    pub(crate) uid: String,
    /// How often its containers have been started anew.
    pub(crate) restarts: u32,
}

/// What is known of one address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Tenancy {
    tenant: Tenant,
    /// Number of the link, once it is known.
    door: Option<u32>,
    /// The link has gone.
    left: bool,
}

/// All of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tenants(BTreeMap<Ipv4Addr, Tenancy>);

impl Tenants {
    /// What the operator says now.
    pub(super) fn say(&mut self, tenants: &BTreeMap<Ipv4Addr, Tenant>) {
        let mut before = std::mem::take(&mut self.0);
        let now = tenants.iter().map(|(address, tenant)| {
            let same = before
                .remove(address)
                .filter(|old| old.tenant.uid == tenant.uid && (!old.left || old.tenant.restarts == tenant.restarts));
            let (door, left) = same.map_or((None, false), |old| (old.door, old.left));
            (*address, Tenancy { tenant: tenant.clone(), door, left })
        });
        self.0 = now.collect();
    }

    /// Addresses whose link is not known yet, and whose they are.
    pub(super) fn unknown(&self) -> BTreeMap<Ipv4Addr, Tenant> {
        let unknown = self.0.iter().filter(|(_, tenancy)| tenancy.door.is_none() && !tenancy.left);
        unknown.map(|(address, tenancy)| (*address, tenancy.tenant.clone())).collect()
    }

    /// Whether this is one of them.
    pub(super) fn is_unknown(&self, address: Ipv4Addr) -> bool {
        self.0.get(&address).is_some_and(|tenancy| tenancy.door.is_none() && !tenancy.left)
    }

    /// Their links, as far as they were found; `unknown` is what was looked for. One that is known stays: whoever answers for an address
    /// later is somebody else. So is whoever the operator named while it was looked.
    pub(super) fn found(&mut self, doors: &BTreeMap<Ipv4Addr, u32>, unknown: &BTreeMap<Ipv4Addr, Tenant>) {
        for (address, door) in doors {
            let tenancy = self.0.get_mut(address).filter(|tenancy| tenancy.door.is_none() && !tenancy.left);
            if let Some(tenancy) = tenancy.filter(|tenancy| unknown.get(address) == Some(&tenancy.tenant)) {
                tenancy.door = Some(*door);
            }
        }
    }

    /// Links of which `remains` is not true have gone. Addresses whose pod has left with them.
    pub(super) fn leave(&mut self, remains: impl Fn(u32) -> bool) -> BTreeSet<Ipv4Addr> {
        let mut leaving = BTreeSet::new();
        for (address, tenancy) in &mut self.0 {
            if !tenancy.left && tenancy.door.is_some_and(|door| !remains(door)) {
                tenancy.left = true;
                leaving.insert(*address);
            }
        }
        leaving
    }

    /// Addresses that belong to nobody the operator has named.
    pub(super) fn left(&self) -> BTreeSet<Ipv4Addr> {
        self.0.iter().filter(|(_, tenancy)| tenancy.left).map(|(address, _)| *address).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 2);

    fn said(uid: &str, restarts: u32) -> BTreeMap<Ipv4Addr, Tenant> {
        [(ADDRESS, Tenant { uid: uid.to_owned(), restarts })].into()
    }

    /// A pod whose link is known.
    fn settled() -> Tenants {
        let mut tenants = Tenants::default();
        tenants.say(&said("a", 0));
        tenants.found(&[(ADDRESS, 7)].into(), &said("a", 0));
        tenants
    }

    #[test]
    fn an_address_whose_link_has_gone_stays_left_however_often_the_operator_repeats_the_old_pod() {
        let mut tenants = settled();
        assert_eq!(tenants.leave(|link| link != 8), BTreeSet::new(), "the link of somebody else");
        assert_eq!(tenants.leave(|link| link != 7), [ADDRESS].into());
        assert_eq!(tenants.leave(|link| link != 7), BTreeSet::new(), "it leaves once");
        tenants.say(&said("a", 0));
        assert_eq!((tenants.left(), tenants.unknown()), ([ADDRESS].into(), BTreeMap::new()));
    }

    #[test]
    fn another_pod_or_the_same_in_another_sandbox_ends_that_and_its_link_is_looked_for_anew() {
        for next in [said("b", 0), said("a", 1)] {
            let mut tenants = settled();
            tenants.leave(|_| false);
            tenants.say(&next);
            assert_eq!((tenants.left(), tenants.unknown()), (BTreeSet::new(), next.clone()), "{next:?}");
        }
        let mut tenants = settled();
        tenants.leave(|_| false);
        tenants.say(&BTreeMap::new());
        assert_eq!(tenants, Tenants::default(), "nobody: nothing is kept");
    }

    #[test]
    fn a_container_that_is_started_anew_in_its_sandbox_changes_nothing() {
        let mut tenants = settled();
        tenants.say(&said("a", 3));
        assert_eq!((tenants.left(), tenants.unknown()), (BTreeSet::new(), BTreeMap::new()));
        assert_eq!(tenants.leave(|link| link != 7), [ADDRESS].into(), "the link is the one it had");
    }

    #[test]
    fn a_link_that_is_known_is_not_taken_for_another_that_answers_later() {
        let mut tenants = settled();
        tenants.found(&[(ADDRESS, 9)].into(), &said("a", 0));
        assert_eq!(tenants.leave(|link| link != 9), BTreeSet::new());
        assert_eq!(tenants.leave(|link| link != 7), [ADDRESS].into());
        tenants.found(&[(ADDRESS, 9)].into(), &said("a", 0));
        assert_eq!(tenants.left(), [ADDRESS].into());
    }

    #[test]
    fn a_link_that_was_found_for_the_pod_before_is_not_the_next_ones() {
        let mut tenants = Tenants::default();
        tenants.say(&said("a", 0));
        let looked_for = tenants.unknown();
        tenants.say(&said("b", 0));
        tenants.found(&[(ADDRESS, 7)].into(), &looked_for);
        assert_eq!(tenants.unknown(), said("b", 0));
    }

    #[test]
    fn what_is_on_disk_is_what_was_known() {
        let mut tenants = settled();
        tenants.leave(|_| false);
        let text = serde_json::to_string(&tenants).unwrap();
        assert_eq!(text, r#"{"10.244.1.2":{"tenant":{"uid":"a","restarts":0},"door":7,"left":true}}"#);
        assert_eq!(serde_json::from_str::<Tenants>(&text).unwrap(), tenants);
    }
}
