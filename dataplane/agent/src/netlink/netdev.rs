//! What a link's driver can do with XDP by itself, by the generic netlink family `netdev` (Linux 6.3).

use nix::errno::Errno;

use super::Error;
use super::attr::{Attrs, find};
use super::socket::Socket;

/// NETLINK_GENERIC.
const GENERIC: isize = 16;
/// linux/genetlink.h: who knows the families, the question for one, its name and its number.
const CONTROLLER: u16 = 16;
const GET_FAMILY: [u8; 4] = [3, 1, 0, 0];
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;
/// linux/netdev.h: the question for a device, its number, and what it can.
const GET_DEVICE: [u8; 4] = [1, 1, 0, 0];
const IFINDEX: u16 = 1;
const XDP_FEATURES: u16 = 3;
/// `enum netdev_xdp_act`: runs programs, carries out XDP_REDIRECT, sends frames that come by one.
const RUNS_AND_REDIRECTS: u64 = 1 | 2;
const SENDS: u64 = 4;

/// What a driver can (`enum netdev_xdp_act`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Features(pub(crate) u64);

impl Features {
    /// It runs a program, whose frames may leave by other links.
    pub(crate) fn redirects(self) -> bool {
        self.0 & RUNS_AND_REDIRECTS == RUNS_AND_REDIRECTS
    }

    /// Frames of another link's program may leave by it now.
    pub(crate) fn sends(self) -> bool {
        self.0 & SENDS != 0
    }
}

/// A connection to the family.
pub(crate) struct Netdev {
    socket: Socket,
    family: u16,
}

impl Netdev {
    /// Opens it in the calling thread's network namespace.
    ///
    /// # Errors
    /// Where the kernel has no such family (before Linux 6.3), among others.
    pub(crate) fn open() -> Result<Self, Error> {
        let mut socket = Socket::open(GENERIC)?;
        let question = Attrs::after(&GET_FAMILY).text(FAMILY_NAME, "netdev").into_bytes();
        let answers = socket.request(CONTROLLER, 0, &question)?;
        let number = |body: &Vec<u8>| find(body.get(4..)?, FAMILY_ID)?.try_into().ok().map(u16::from_ne_bytes);
        let family = answers.iter().find_map(|(_, body)| number(body));
        Ok(Self { socket, family: family.ok_or(Error::Protocol("a family without a number"))? })
    }

    /// What the driver of this link can now; `None` where there is no such link.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub(crate) fn features(&mut self, link: u32) -> Result<Option<Features>, Error> {
        let question = Attrs::after(&GET_DEVICE).u32(IFINDEX, link).into_bytes();
        let answers = match self.socket.request(self.family, 0, &question) {
            Ok(answers) => answers,
            Err(Error::Kernel { errno: Errno::ENODEV, .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let mask = |body: &Vec<u8>| find(body.get(4..)?, XDP_FEATURES)?.try_into().ok().map(u64::from_ne_bytes);
        Ok(answers.iter().find_map(|(_, body)| mask(body)).map(Features))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_link_runs_no_program_by_itself_and_a_link_that_is_not_there_has_nothing_to_tell() {
        let mut netdev = match Netdev::open() {
            Ok(netdev) => netdev,
            // Before Linux 6.3 there is nobody to ask.
            Err(error) => return assert!(matches!(error, Error::Kernel { errno: Errno::ENOENT, .. }), "{error}"),
        };
        let loopback = nix::net::if_::if_nametoindex("lo").unwrap();
        let can = netdev.features(loopback).unwrap().unwrap();
        assert_eq!((can.redirects(), can.sends()), (false, false));
        assert_eq!(netdev.features(u32::MAX >> 1).unwrap(), None);
    }
}
