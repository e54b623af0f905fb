//! Which links may have XDP. Nothing here acts.

use std::collections::BTreeMap;

use crate::netlink::{Features, Link};

/// Why this link gets no XDP, or keeps it no longer; `None` where it may have it. `can`: what its driver can now, `on`: the program is
/// on it, since what a card sends it sends only then, by many drivers.
pub(super) fn unfit(link: &Link, links: &BTreeMap<u32, Link>, can: Option<Features>, on: bool) -> Option<&'static str> {
    let Some(can) = can else { return Some("the kernel says nothing of its driver") };
    if links.values().any(|other| other.kind == "vlan" && other.peer == Some(link.index)) {
        // A card may have taken the tag off: then nothing tells them from those without.
        return Some("it carries VLANs");
    }
    if !can.redirects() {
        return Some("its driver has no native XDP");
    }
    // Of a veth that is known before, and a program would cost its other end its offloads for nothing.
    if !can.sends() && (on || link.kind == "veth") {
        return Some(match link.kind.as_str() {
            "veth" => "its other end takes no frames of XDP (GRO is off there)",
            _ => "its driver sends no frames of XDP",
        });
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Features = Features(7);
    const NO_SENDING: Features = Features(3);

    #[test]
    fn xdp_is_for_links_whose_drivers_run_it_and_send_for_it_and_that_carry_no_vlans() {
        let link = |kind: &str, index, peer| Link { index, kind: kind.into(), peer, ..Link::default() };
        let (card, veth) = (link("", 2, None), link("veth", 3, Some(2)));
        let links: BTreeMap<u32, Link> = [card.clone(), veth.clone()].map(|link| (link.index, link)).into();
        assert_eq!([&card, &veth].map(|link| unfit(link, &links, Some(ALL), true)), [None; 2]);
        assert_eq!(unfit(&card, &links, Some(NO_SENDING), false), None, "it may send once the program is on it");
        assert_eq!(unfit(&card, &links, Some(NO_SENDING), true), Some("its driver sends no frames of XDP"));
        let veth_without = unfit(&veth, &links, Some(NO_SENDING), false);
        assert_eq!(veth_without, Some("its other end takes no frames of XDP (GRO is off there)"));
        assert_eq!(unfit(&card, &links, Some(Features(4)), false), Some("its driver has no native XDP"));
        assert_eq!(unfit(&card, &links, None, false), Some("the kernel says nothing of its driver"));
        let mut with_vlan = links.clone();
        with_vlan.insert(4, link("vlan", 4, Some(2)));
        assert_eq!(unfit(&card, &with_vlan, Some(ALL), true), Some("it carries VLANs"));
    }
}
