//! Whose calls and flows have to end: who had an address when something was last put into force for it, and who has it now.
//!
//! ```text
//!  held: another has it now, or nobody ┐
//!  leaving: the pod's link has gone    ┴─► calls end ─► flows go from conntrack (if that fails, the next time)
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::tenants::Tenant;

/// What is known of that. The next agent goes on with it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ends {
    /// Uid of the pod that had the address when a configuration was last put into force, unless what it had has ended since. `None`:
    /// nobody knows of one.
    held: Option<BTreeMap<Ipv4Addr, String>>,
    /// Pods that have left, whoever has their addresses now.
    leaving: BTreeSet<Ipv4Addr>,
    /// Their calls have ended; their flows may be in conntrack still.
    owed: BTreeSet<Ipv4Addr>,
    /// Addresses that are another pod's by a configuration which is not in force, and the uid of the pod they were taken from: it
    /// does not get them back by the configuration before, which may be carried out once more.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    taken: BTreeMap<Ipv4Addr, String>,
}

/// Addresses of which something has to end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Gone {
    /// Of `calls`, those that are somebody else's by now, as far as anybody knows: nothing may be sent there. Whoever has only lost its
    /// rule is there still, and waits to be told.
    pub(super) silent: BTreeSet<Ipv4Addr>,
    /// Calls and flows.
    pub(super) calls: BTreeSet<Ipv4Addr>,
    /// Flows alone: the calls have ended before, and whoever has the address now keeps its own.
    pub(super) owed: BTreeSet<Ipv4Addr>,
}

impl Ends {
    /// What has to end once these have the addresses.
    pub(super) fn gone(&self, tenants: &BTreeMap<Ipv4Addr, Tenant>) -> Gone {
        let held = self.held.iter().flatten();
        let gone = held.filter(|(address, uid)| tenants.get(address).is_none_or(|now| now.uid != **uid));
        let gone: BTreeSet<Ipv4Addr> = gone.map(|(address, _)| *address).collect();
        let another = gone.iter().filter(|address| tenants.contains_key(address));
        Gone {
            silent: another.chain(&self.leaving).copied().collect(),
            calls: gone.union(&self.leaving).copied().collect(),
            owed: self.owed.clone(),
        }
    }

    /// Pods have left.
    pub(super) fn leave(&mut self, addresses: &BTreeSet<Ipv4Addr>) {
        self.leaving.extend(addresses);
    }

    /// No rule of theirs is in force any more and their calls have ended: once for each pod, or the calls of the next one would. Their
    /// flows are owed.
    pub(super) fn calls_ended(&mut self, addresses: &BTreeSet<Ipv4Addr>) {
        self.leaving.retain(|address| !addresses.contains(address));
        if let Some(held) = &mut self.held {
            held.retain(|address, _| !addresses.contains(address));
        }
        self.owed.extend(addresses);
    }

    /// These are another pod's, and no rule of the pod before is in force for them, but neither is the configuration that says so. Before
    /// their calls are said to have ended.
    pub(super) fn taken(&mut self, addresses: &BTreeSet<Ipv4Addr>) {
        let held = self.held.iter().flatten().filter(|(address, _)| addresses.contains(address));
        self.taken.extend(held.map(|(address, uid)| (*address, uid.clone())));
    }

    /// Addresses that these have by a configuration of before, and that are another pod's since.
    pub(super) fn of_others(&self, tenants: &BTreeMap<Ipv4Addr, Tenant>) -> BTreeSet<Ipv4Addr> {
        let back =
            |(address, uid): &(&Ipv4Addr, &String)| tenants.get(address).is_some_and(|tenant| tenant.uid == **uid);
        self.taken.iter().filter(back).map(|(address, _)| *address).collect()
    }

    /// Their flows are in conntrack no more.
    pub(super) fn flows_ended(&mut self, addresses: &BTreeSet<Ipv4Addr>) {
        self.owed.retain(|address| !addresses.contains(address));
    }

    /// A configuration is in force, and these have the addresses, but for those of others.
    pub(super) fn in_force(&mut self, tenants: &BTreeMap<Ipv4Addr, Tenant>) {
        let others = self.of_others(tenants);
        self.taken.retain(|address, _| others.contains(address));
        let held = tenants.iter().filter(|(address, _)| !others.contains(address));
        self.held = Some(held.map(|(address, tenant)| (*address, tenant.uid.clone())).collect());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 2);

    fn at(uid: &str) -> BTreeMap<Ipv4Addr, Tenant> {
        [(ADDRESS, Tenant { uid: uid.to_owned(), restarts: 0 })].into()
    }

    fn here() -> BTreeSet<Ipv4Addr> {
        [ADDRESS].into()
    }

    /// This pod has the address, and something is in force for it.
    fn held(uid: &str) -> Ends {
        let mut ends = Ends::default();
        ends.in_force(&at(uid));
        ends
    }

    #[test]
    fn an_address_is_gone_when_its_uid_changes_or_nobody_has_it_and_a_new_one_is_not() {
        let gone = |silent, calls| Gone { silent, calls, owed: BTreeSet::new() };
        assert_eq!(held("a").gone(&at("b")), gone(here(), here()));
        assert_eq!(held("a").gone(&BTreeMap::new()), gone(BTreeSet::new(), here()));
        assert_eq!((held("a").gone(&at("a")), Ends::default().gone(&at("a"))), (Gone::default(), Gone::default()));
    }

    #[test]
    fn calls_end_once_for_a_pod_and_flows_are_owed_until_they_are_gone() {
        let mut ends = held("a");
        ends.calls_ended(&here());
        ends.in_force(&at("b"));
        assert_eq!(ends.gone(&at("b")), Gone { owed: here(), ..Gone::default() });
        assert_eq!(ends.gone(&at("c")), Gone { silent: here(), calls: here(), owed: here() }, "the one after it");
        ends.flows_ended(&here());
        assert_eq!(ends, held("b"));
    }

    #[test]
    fn what_a_pod_had_ends_once_though_the_configuration_of_the_next_is_not_in_force() {
        let mut ends = held("a");
        ends.calls_ended(&here());
        ends.flows_ended(&here());
        assert_eq!(ends.gone(&at("b")), Gone::default());
    }

    #[test]
    fn an_address_that_was_taken_from_a_pod_does_not_come_back_to_it_with_the_configuration_before() {
        let mut ends = held("a");
        assert_eq!(ends.of_others(&at("a")), BTreeSet::new());
        ends.taken(&here());
        ends.calls_ended(&here());
        ends.flows_ended(&here());
        // The agent starts anew, with what ran before.
        let mut ends: Ends = serde_json::from_str(&serde_json::to_string(&ends).unwrap()).unwrap();
        assert_eq!(ends.of_others(&at("a")), here());
        ends.in_force(&at("a"));
        assert_eq!((ends.of_others(&at("a")), ends.gone(&at("b"))), (here(), Gone::default()), "once more");
        ends.in_force(&at("b"));
        assert_eq!(ends, held("b"));
    }

    #[test]
    fn whoever_has_left_is_silent_and_gone_whatever_the_operator_says_of_it() {
        let mut ends = held("a");
        ends.leave(&here());
        let left = Gone { silent: here(), calls: here(), owed: BTreeSet::new() };
        assert_eq!((ends.gone(&at("a")), ends.gone(&BTreeMap::new())), (left.clone(), left));
        ends.calls_ended(&here());
        ends.flows_ended(&here());
        assert_eq!(ends.gone(&at("b")), Gone::default());
    }
}
