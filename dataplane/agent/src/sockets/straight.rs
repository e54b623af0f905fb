//! A packet socket that sends IPv4 packets to neighbours whose Ethernet address is known, past routing and the OUTPUT path.

use std::io;
use std::os::fd::OwnedFd;

use nix::sys::socket::{setsockopt, sockopt};

use super::emitter::{RefusedBy, Sent};
use super::sys::{self, TxBatch};

/// Where a packet goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Neighbour {
    /// By this link.
    pub link: u32,
    /// To this Ethernet address.
    pub address: [u8; 6],
}

/// Sends whole IPv4 packets with our packet mark, through the queueing discipline of the link.
pub struct Straight {
    fd: OwnedFd,
    batch: TxBatch<libc::sockaddr_ll>,
}

impl Straight {
    /// Opens it; `mark` is set on every packet.
    ///
    /// # Errors
    /// Without CAP_NET_RAW and CAP_NET_ADMIN (EPERM).
    pub fn open(mark: u32) -> io::Result<Self> {
        let fd = sys::cooked_socket()?;
        setsockopt(&fd, sockopt::Mark, &mark)?;
        if setsockopt(&fd, sockopt::SndBufForce, &super::emitter::SEND_BUFFER).is_err() {
            setsockopt(&fd, sockopt::SndBuf, &super::emitter::SEND_BUFFER)?;
        }
        Ok(Self { fd, batch: TxBatch::new() })
    }

    /// Hands over as many of `packets` as one system call takes, in order, each to its own of `neighbours`.
    pub fn send(&mut self, packets: &[&[u8]], neighbours: &[Neighbour]) -> Sent {
        let name = |at: usize, _: &[u8]| {
            let Neighbour { link, address } = neighbours[at];
            sys::link_address(link, address)
        };
        match self.batch.send(&self.fd, &packets[..packets.len().min(neighbours.len())], name) {
            Ok(n) => Sent::Taken(n),
            Err(error) => Sent::Refused(RefusedBy::of(&error)),
        }
    }
}
