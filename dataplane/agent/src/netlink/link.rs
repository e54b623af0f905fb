//! Links: the veth pair, and what a link is called.

use nix::errno::Errno;

use super::attr::{Attrs, find};
use super::socket::{CREATE, EXCL, Socket};
use super::{Error, sys};

const NEW_LINK: u16 = 16;
const DELETE_LINK: u16 = 17;
const GET_LINK: u16 = 18;

const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINKINFO: u16 = 18;

const IFF_UP: u32 = 0x1;
const IFF_NOARP: u32 = 0x80;

/// What is known about a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    /// Its number.
    pub(crate) index: u32,
    /// Its name.
    pub(crate) name: String,
    /// Largest packet, bytes.
    pub(crate) mtu: u32,
    /// Kind (`veth`, …), empty for a physical one.
    pub(crate) kind: String,
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
    let index = u32::from_ne_bytes(body.get(4..8)?.try_into().ok()?);
    let attrs = body.get(16..)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned();
    let mtu = find(attrs, IFLA_MTU).and_then(|mtu| mtu.try_into().ok()).map_or(0, u32::from_ne_bytes);
    let kind = find(attrs, IFLA_LINKINFO).and_then(|info| find(info, 1)).map(text).unwrap_or_default();
    Some(Link { index, name: find(attrs, IFLA_IFNAME).map(text)?, mtu, kind })
}

/// The link with this number or name; `None` if there is none.
pub(crate) fn get(socket: &mut Socket, index: u32, name: Option<&str>) -> Result<Option<Link>, Error> {
    let mut attrs = Attrs::after(&header(index, 0, 0));
    if let Some(name) = name {
        attrs = attrs.text(IFLA_IFNAME, name);
    }
    match socket.request(GET_LINK, 0, &attrs.into_bytes()) {
        Ok(answers) => Ok(answers.iter().find(|(kind, _)| *kind == NEW_LINK).and_then(|(_, body)| parse(body))),
        Err(Error::Kernel { errno: Errno::ENODEV, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes a veth pair, not up yet, without ARP (there is nobody to ask) and without offloads: the kernel then cuts and completes
/// packets itself before they reach the far end.
pub(crate) fn make_pair(socket: &mut Socket, near: &str, far: &str, mtu: u32) -> Result<(), Error> {
    let peer = Attrs::after(&header(0, IFF_NOARP, IFF_NOARP)).text(IFLA_IFNAME, far).u32(IFLA_MTU, mtu);
    let info = Attrs::new().text(1, "veth").nest(2, Attrs::new().nest(1, peer));
    let attrs = Attrs::after(&header(0, IFF_NOARP, IFF_NOARP))
        .text(IFLA_IFNAME, near)
        .u32(IFLA_MTU, mtu)
        .nest(IFLA_LINKINFO, info);
    socket.request(NEW_LINK, CREATE | EXCL, &attrs.into_bytes())?;
    for name in [near, far] {
        sys::offloads_off(name).map_err(Error::Socket)?;
    }
    Ok(())
}

/// Switches a link on.
pub(crate) fn up(socket: &mut Socket, name: &str) -> Result<(), Error> {
    let attrs = Attrs::after(&header(0, IFF_UP, IFF_UP)).text(IFLA_IFNAME, name);
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
