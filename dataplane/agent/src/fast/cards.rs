//! Which links may have XDP. Nothing here acts.

use std::collections::BTreeMap;

use crate::netlink::{Features, Link};

/// What decides it, beside the link itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Facts {
    /// What its driver can now.
    pub(super) can: Features,
    /// Its card takes VLAN tags off frames before anybody sees them.
    pub(super) takes_tags_off: bool,
    /// The program is on it: many a card says only then that it sends for others.
    pub(super) on: bool,
}

/// Why this link gets no XDP, or keeps it no longer; `None` where it may have it.
pub(super) fn unfit(link: &Link, links: &BTreeMap<u32, Link>, facts: Facts) -> Option<String> {
    let Facts { can, takes_tags_off, on } = facts;
    let is_veth = link.kind == "veth";
    let why = if links.values().any(|other| other.master == Some(link.index)) {
        // The program runs with the number of the part, by which calls do not come in: bonds, cards of Hyper-V.
        "what comes by it comes by other links, its parts"
    } else if !can.redirects() {
        "its driver has no native XDP"
    } else if !is_veth && takes_tags_off {
        // Nothing would tell frames of a VLAN, which may be another tenant's, from those without.
        return Some(format!(
            "it takes VLAN tags off frames before XDP sees them: ethtool -K {} rxvlan off",
            link.name
        ));
    } else if is_veth && links.values().any(|other| other.kind == "vlan" && other.peer == Some(link.index)) {
        // The same, and it cannot be switched off: a tag is not in a frame there, but beside it.
        "it carries VLANs"
    } else if can.sends() {
        return None;
    } else if is_veth {
        // Known before, and a program would cost its other end its offloads for nothing.
        "its other end takes no frames of XDP (GRO is off there)"
    } else if on {
        "its driver sends no frames of XDP"
    } else {
        return None;
    };
    Some(why.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RUNS and REDIRECTS and, of `ALL`, SENDS.
    const ALL: Facts = Facts { can: Features(7), takes_tags_off: false, on: true };
    const SILENT: Facts = Facts { can: Features(3), ..ALL };

    #[test]
    fn xdp_is_for_links_whose_drivers_run_it_and_send_for_it_and_by_which_no_vlan_comes_unseen() {
        let link = |kind: &str, index, peer| {
            let name = if kind.is_empty() { "eth0".into() } else { format!("{kind}0") };
            Link { index, name, kind: kind.into(), peer, ..Link::default() }
        };
        let (card, veth) = (link("", 2, None), link("veth", 3, Some(2)));
        let links: BTreeMap<u32, Link> = [card.clone(), veth.clone()].map(|link| (link.index, link)).into();
        let why = |link: &Link, facts| unfit(link, &links, facts);
        let tags = Facts { takes_tags_off: true, ..ALL };
        assert_eq!([why(&card, ALL), why(&veth, ALL), why(&veth, tags)], [None, None, None]);
        assert_eq!(why(&card, Facts { on: false, ..SILENT }), None, "it may send once the program is on it");
        let told = [
            (why(&card, SILENT), "its driver sends no frames of XDP"),
            (why(&veth, Facts { on: false, ..SILENT }), "its other end takes no frames of XDP (GRO is off there)"),
            (why(&card, Facts { can: Features(4), ..ALL }), "its driver has no native XDP"),
            (why(&card, tags), "it takes VLAN tags off frames before XDP sees them: ethtool -K eth0 rxvlan off"),
        ];
        for (why, expected) in told {
            assert_eq!(why.as_deref(), Some(expected));
        }
        let mut with_part = links.clone();
        with_part.insert(4, Link { master: Some(2), ..link("", 4, None) });
        assert_eq!(unfit(&card, &with_part, ALL).as_deref(), Some("what comes by it comes by other links, its parts"));
        let mut with_vlan = links.clone();
        with_vlan.insert(4, link("vlan", 4, Some(3)));
        assert_eq!(unfit(&veth, &with_vlan, ALL).as_deref(), Some("it carries VLANs"));
    }
}
