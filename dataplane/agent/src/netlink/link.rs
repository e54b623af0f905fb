//! Links: the veth pair, and what a link is called.

use nix::errno::Errno;

use super::attr::{Attrs, find, find_text, find_u32};
use super::socket::{CREATE, DUMP, EXCL, Socket};
use super::{Error, sys};

const NEW_LINK: u16 = 16;
const DELETE_LINK: u16 = 17;
const GET_LINK: u16 = 18;

const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_LINKINFO: u16 = 18;

const IFF_UP: u32 = 0x1;
const IFF_LOOPBACK: u32 = 0x8;
const IFF_NOARP: u32 = 0x80;

/// What is known about a link.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// IFF_* flags.
    pub(crate) flags: u32,
}

/// ifinfomsg.
fn header(index: u32, flags: u32, change: u32) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    bytes.extend_from_slice(&index.to_ne_bytes());
    bytes.extend_from_slice(&flags.to_ne_bytes());
    bytes.extend_from_slice(&change.to_ne_bytes());
    bytes
}

fn parse(body: &[u8]) -> Option<Link> {
    let word = |at: usize| Some(u32::from_ne_bytes(body.get(at..at + 4)?.try_into().ok()?));
    let (index, flags, attrs) = (word(4)?, word(8)?, body.get(16..)?);
    Some(Link {
        index,
        name: find_text(attrs, IFLA_IFNAME)?,
        mtu: find_u32(attrs, IFLA_MTU).unwrap_or(0),
        kind: find(attrs, IFLA_LINKINFO).and_then(|info| find_text(info, 1)).unwrap_or_default(),
        peer: find_u32(attrs, IFLA_LINK).filter(|peer| *peer > 0),
        up: flags & IFF_UP != 0,
        loopback: flags & IFF_LOOPBACK != 0,
        flags,
    })
}

/// The link with this name; `None` if there is none.
pub(crate) fn by_name(socket: &mut Socket, name: &str) -> Result<Option<Link>, Error> {
    get(socket, Attrs::after(&header(0, 0, 0)).text(IFLA_IFNAME, name))
}

/// The link with this number; `None` if there is none.
pub(crate) fn by_index(socket: &mut Socket, index: u32) -> Result<Option<Link>, Error> {
    get(socket, Attrs::after(&header(index, 0, 0)))
}

fn get(socket: &mut Socket, request: Attrs) -> Result<Option<Link>, Error> {
    match socket.request(GET_LINK, 0, &request.into_bytes()) {
        Ok(answers) => Ok(answers.iter().find(|(kind, _)| *kind == NEW_LINK).and_then(|(_, body)| parse(body))),
        Err(Error::Kernel { errno: Errno::ENODEV, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// All links, by number.
pub(crate) fn all(socket: &mut Socket) -> Result<Vec<Link>, Error> {
    let answers = socket.request(GET_LINK, DUMP, &header(0, 0, 0))?;
    let mut links: Vec<Link> = answers.iter().filter_map(|(_, body)| parse(body)).collect();
    links.sort_by_key(|link| link.index);
    Ok(links)
}

/// Makes a veth pair, down.
pub(crate) fn make_pair(socket: &mut Socket, near: &str, far: &str, mtu: u32) -> Result<(), Error> {
    let peer = Attrs::after(&header(0, 0, 0)).text(IFLA_IFNAME, far).u32(IFLA_MTU, mtu);
    let info = Attrs::new().text(1, "veth").nest(2, Attrs::new().nest(1, peer));
    let attrs = Attrs::after(&header(0, 0, 0)).text(IFLA_IFNAME, near).u32(IFLA_MTU, mtu).nest(IFLA_LINKINFO, info);
    socket.request(NEW_LINK, CREATE | EXCL, &attrs.into_bytes()).map(|_| ())
}

/// Up, without ARP (there is nobody to ask) and without offloads: then the kernel cuts and completes packets itself before
/// they reach the far end. Changes nothing that is so already; true if there was something to change.
pub(crate) fn ready(socket: &mut Socket, link: &Link, mtu: u32) -> Result<bool, Error> {
    sys::offloads_off(&link.name).map_err(Error::Socket)?;
    let flags = IFF_UP | IFF_NOARP;
    if link.flags & flags == flags && link.mtu == mtu {
        return Ok(false);
    }
    let attrs = Attrs::after(&header(link.index, flags, flags)).u32(IFLA_MTU, mtu);
    socket.request(NEW_LINK, 0, &attrs.into_bytes()).map(|_| true)
}

/// No IPv6 address of its own accord: for where /proc/sys cannot be written, as in a container that is not privileged.
pub(crate) fn without_ipv6_address(socket: &mut Socket, link: &Link) -> Result<(), Error> {
    // IFLA_AF_SPEC, AF_INET6, IFLA_INET6_ADDR_GEN_MODE: IN6_ADDR_GEN_MODE_NONE (linux/if_link.h).
    let mode = Attrs::new().nest(10, Attrs::new().bytes(8, &[1]));
    let attrs = Attrs::after(&header(link.index, 0, 0)).nest(26, mode);
    socket.request(NEW_LINK, 0, &attrs.into_bytes()).map(|_| ())
}

/// Removes a link (and its peer); one that is gone already is fine.
pub(crate) fn remove(socket: &mut Socket, name: &str) -> Result<(), Error> {
    let attrs = Attrs::after(&header(0, 0, 0)).text(IFLA_IFNAME, name);
    match socket.request(DELETE_LINK, 0, &attrs.into_bytes()) {
        Ok(_) | Err(Error::Kernel { errno: Errno::ENODEV, .. }) => Ok(()),
        Err(error) => Err(error),
    }
}
