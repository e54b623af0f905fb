//! What the fast path shall be, from calls and ways, and what has to be done to get there. Nothing here acts.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use callgate_pptp::CallPath;

use super::layout::{Entry, Key, Replaced, Rule};

/// The way to one end of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    /// Number of the link.
    pub link: u32,
    /// The neighbour on it: the end itself, or a router.
    pub next_hop: Ipv4Addr,
    /// Largest packet on it, bytes.
    pub mtu: u32,
}

/// Both directions of a call: client to server, then server to client.
#[must_use]
pub fn rules(path: &CallPath, client: &Way, server: &Way) -> [(Key, Rule); 2] {
    let rule = |from: &Way, to: &Way, address, call_id| Rule {
        from_link: from.link,
        to_link: to.link,
        address,
        call_id,
        next_hop: to.next_hop,
        // No IPv4 packet is larger.
        mtu: u16::try_from(to.mtu).unwrap_or(u16::MAX),
    };
    let up = rule(client, server, Replaced::Source(path.external), path.pac.server);
    let down = rule(server, client, Replaced::Destination(path.client), path.pns.client);
    let [up_key, down_key] = keys(path);
    [(up_key, up), (down_key, down)]
}

/// Under which keys they are.
#[must_use]
pub fn keys(path: &CallPath) -> [Key; 2] {
    [Key::new(path.client, path.server, path.pac.client), Key::new(path.server, path.external, path.pns.server)]
}

/// What has to be done to a map that another run has left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Adoption {
    /// Of no call, or of one that has another translation now: away, before anything is read.
    pub remove: Vec<Key>,
    /// Calls whose both directions are there and stay, with the ways they have.
    pub keep: BTreeMap<CallPath, [Entry; 2]>,
}

/// Keeps of what was `found` what belongs to a live call as it is now. Ways may have changed since: whoever keeps them looks.
#[must_use]
pub fn adopt(live: &BTreeSet<CallPath>, found: &BTreeMap<Key, Entry>) -> Adoption {
    let mut adoption = Adoption::default();
    let mut kept = BTreeSet::new();
    let nowhere = Way { link: 0, next_hop: Ipv4Addr::UNSPECIFIED, mtu: 0 };
    for path in live {
        let wanted = rules(path, &nowhere, &nowhere);
        let entries = wanted.map(|(key, rule)| found.get(&key).filter(|entry| entry.rule.translates_as(&rule)));
        // Two calls of a client with one PAC id have one way up: the first has it.
        if let [Some(up), Some(down)] = entries
            && wanted.iter().all(|(key, _)| !kept.contains(key))
        {
            kept.extend(wanted.map(|(key, _)| key));
            adoption.keep.insert(*path, [*up, *down]);
        }
    }
    adoption.remove = found.keys().filter(|key| !kept.contains(*key)).copied().collect();
    adoption
}

/// Links that have the program and need it no more: no call comes in by them, and they are not `spared`.
#[must_use]
pub fn superfluous(wanted: &BTreeSet<u32>, attached: &BTreeSet<u32>, spared: &BTreeSet<u32>) -> Vec<u32> {
    attached.difference(wanted).filter(|link| !spared.contains(link)).copied().collect()
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
