//! Links: the veth pair, and what a link is called.

use nix::errno::Errno;
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL};
use rtnetlink::packet_route::RouteNetlinkMessage as Message;
use rtnetlink::packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType,
    LinkMessage,
};
use rtnetlink::{LinkUnspec, LinkVeth};

use super::rt::Rt;
use super::{Error, sys};

/// What is known about a link.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Largest packet, bytes.
    pub mtu: u32,
    /// Kind (`veth`, …), empty for a physical one.
    pub kind: String,
    /// The link at its other end or below it, if any.
    pub peer: Option<u32>,
    /// Administratively up.
    pub up: bool,
    /// Talks to the host itself only.
    pub loopback: bool,
    /// Its packets begin with an Ethernet header.
    pub ethernet: bool,
    /// Asks nobody for the addresses of neighbours.
    pub(crate) noarp: bool,
    /// The link it is a part of: a bridge, a bond.
    pub(crate) master: Option<u32>,
    /// Its Ethernet address; zeroes where it has none.
    pub(crate) mac: [u8; 6],
}

impl Link {
    fn read(message: Message) -> Option<Self> {
        let Message::NewLink(LinkMessage { header, attributes, .. }) = message else { return None };
        let has = |flag| header.flags.contains(flag);
        let (up, loopback, noarp) = (has(LinkFlags::Up), has(LinkFlags::Loopback), has(LinkFlags::Noarp));
        let ethernet = header.link_layer_type == LinkLayerType::Ether;
        let mut link = Self { index: header.index, up, loopback, noarp, ethernet, ..Self::default() };
        for attribute in attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::Mtu(mtu) => link.mtu = mtu,
                LinkAttribute::Controller(master) => link.master = Some(master).filter(|master| *master > 0),
                LinkAttribute::Address(address) => link.mac = address.as_slice().try_into().unwrap_or_default(),
                LinkAttribute::Link(peer) => link.peer = Some(peer).filter(|peer| *peer > 0),
                LinkAttribute::LinkInfo(infos) => {
                    let kind = infos.iter().find_map(|info| match info {
                        LinkInfo::Kind(kind) => Some(kind.to_string()),
                        _ => None,
                    });
                    link.kind = kind.unwrap_or_default();
                }
                _ => {}
            }
        }
        Some(link)
    }
}

/// The link with this name; `None` if there is none.
pub(crate) fn by_name(rt: &Rt, name: &str) -> Result<Option<Link>, Error> {
    get(rt, LinkUnspec::new_with_name(name).build())
}

/// The link with this number; `None` if there is none.
pub(crate) fn by_index(rt: &Rt, index: u32) -> Result<Option<Link>, Error> {
    get(rt, LinkUnspec::new_with_index(index).build())
}

fn get(rt: &Rt, link: LinkMessage) -> Result<Option<Link>, Error> {
    match rt.request(&Message::GetLink(link), 0) {
        Ok(answers) => Ok(answers.into_iter().find_map(Link::read)),
        Err(Error::Kernel { errno: Errno::ENODEV, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// All links, by number.
pub(crate) fn all(rt: &Rt) -> Result<Vec<Link>, Error> {
    let answers = rt.request(&Message::GetLink(LinkMessage::default()), NLM_F_DUMP)?;
    let mut links: Vec<Link> = answers.into_iter().filter_map(Link::read).collect();
    links.sort_by_key(|link| link.index);
    Ok(links)
}

/// Makes a veth pair, down.
pub(crate) fn make_pair(rt: &Rt, near: &str, far: &str, mtu: u32) -> Result<(), Error> {
    let peer = InfoVeth::Peer(LinkUnspec::new_with_name(far).mtu(mtu).build());
    let pair = LinkVeth::new(near, far).mtu(mtu).set_info_data(InfoData::Veth(peer)).build();
    rt.request(&Message::NewLink(pair), NLM_F_CREATE | NLM_F_EXCL).map(drop)
}

/// Up, without ARP (there is nobody to ask) and without offloads: then the kernel cuts and completes packets itself before
/// they reach the far end. Changes nothing that is so already; true if there was something to change.
pub(crate) fn ready(rt: &Rt, link: &Link, mtu: u32) -> Result<bool, Error> {
    sys::offloads_off(&link.name).map_err(Error::Socket)?;
    if link.up && link.noarp && link.mtu == mtu {
        return Ok(false);
    }
    let wanted = LinkUnspec::new_with_index(link.index).up().arp(false).mtu(mtu).build();
    rt.request(&Message::NewLink(wanted), 0).map(|_| true)
}

/// Whether a link's card takes VLAN tags off frames before anybody sees them.
///
/// # Errors
/// When the kernel does not tell.
pub(crate) fn takes_tags_off(link: &Link) -> Result<bool, Error> {
    sys::takes_tags_off(&link.name).map_err(Error::Socket)
}

/// No IPv6 address of its own accord: for where /proc/sys cannot be written, as in a container that is not privileged.
pub(crate) fn without_ipv6_address(rt: &Rt, link: &Link) -> Result<(), Error> {
    let mode = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)]);
    let wanted = LinkUnspec::new_with_index(link.index);
    let wanted = wanted.append_extra_attribute(LinkAttribute::AfSpecUnspec(vec![mode])).build();
    rt.request(&Message::NewLink(wanted), 0).map(drop)
}

/// Removes a link (and its peer); one that is gone already is fine.
pub(crate) fn remove(rt: &Rt, name: &str) -> Result<(), Error> {
    match rt.request(&Message::DelLink(LinkUnspec::new_with_name(name).build()), 0) {
        Ok(_) | Err(Error::Kernel { errno: Errno::ENODEV, .. }) => Ok(()),
        Err(error) => Err(error),
    }
}
