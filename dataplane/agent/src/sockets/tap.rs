//! One AF_PACKET socket that reads the IPv4 packets arriving on one interface, as far as its filter lets them.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{SockFilter, SockRef};

use super::filter::Instruction;
use super::ring::Ring;
use super::sys;

/// Bytes of receive buffer asked for (SO_RCVBUFFORCE, which goes beyond rmem_max), for what does not fit the ring, and for everything
/// where there is none: about 5,000 packets of 1,400 bytes while the thread is busy elsewhere.
const RECEIVE_BUFFER: usize = 8 << 20;

/// A tap on one interface.
///
/// It is bound to ETH_P_IP and not to ETH_P_ALL: packets that an eBPF program at tc takes for itself do not come here (measured).
#[derive(Debug)]
pub struct Tap {
    fd: OwnedFd,
    ifindex: u32,
    ring: Option<Arc<Ring>>,
    drops: AtomicU64,
}

impl Tap {
    /// Opens a tap on interface `ifindex` and begins to receive.
    ///
    /// # Errors
    /// Without CAP_NET_RAW (EPERM), or when there is no such interface (ENODEV).
    pub fn open(ifindex: u32, filter: &[Instruction]) -> io::Result<Self> {
        let fd = sys::packet_socket()?;
        sys::set_packet_option(&fd, libc::PACKET_VNET_HDR, 1)?;
        sys::set_packet_option(&fd, libc::PACKET_AUXDATA, 1)?;
        sys::set_packet_option(&fd, libc::PACKET_IGNORE_OUTGOING, 1)?;
        // In a container without CAP_NET_ADMIN in the initial user namespace the limit of rmem_max has to do.
        if setsockopt(&fd, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
            setsockopt(&fd, sockopt::RcvBuf, &RECEIVE_BUFFER)?;
        }
        // Without memory for a ring each packet costs half a microsecond more, and no more than that.
        let ring = Ring::of(&fd).ok().map(Arc::new);
        attach(&fd, filter)?;
        sys::bind_ipv4(&fd, ifindex)?;
        Ok(Self { fd, ifindex, ring, drops: AtomicU64::new(0) })
    }

    /// Replaces the filter; the kernel swaps it between two packets.
    ///
    /// # Errors
    /// What SO_ATTACH_FILTER gives.
    pub fn set_filter(&self, filter: &[Instruction]) -> io::Result<()> {
        attach(&self.fd, filter)
    }

    /// The interface it reads.
    #[must_use]
    pub fn ifindex(&self) -> u32 {
        self.ifindex
    }

    /// Whether it reads its interface. One that was removed, or was in another network namespace, is read no more, also when it is
    /// there again with the same number. Asks nothing that waits for who changes links.
    #[must_use]
    pub fn is_bound(&self) -> bool {
        sys::bound_to(&self.fd).is_ok_and(|ifindex| ifindex == self.ifindex as i32)
    }

    /// Packets the kernel has dropped since `open` because the socket's buffer was full.
    pub fn drops(&self) -> u64 {
        // Reading resets the kernel's count.
        let new = sys::packet_drops(&self.fd).unwrap_or(0);
        self.drops.fetch_add(new, Ordering::Relaxed) + new
    }

    /// Whether a frame is in the ring: never where there is none, and nothing is said about errors. Costs no system call.
    #[must_use]
    pub fn waits(&self) -> bool {
        self.ring.as_ref().is_some_and(|ring| ring.waits())
    }

    /// Where frames come in; `None` where they are read from the socket.
    pub(super) fn ring(&self) -> Option<&Arc<Ring>> {
        self.ring.as_ref()
    }

    /// What has gone wrong since the last call; ENETDOWN once when the interface goes down.
    pub(super) fn take_error(&self) -> io::Result<()> {
        SockRef::from(&self.fd).take_error()?.map_or(Ok(()), Err)
    }

    pub(super) fn socket(&self) -> &OwnedFd {
        &self.fd
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn attach(fd: &OwnedFd, filter: &[Instruction]) -> io::Result<()> {
    let program: Vec<_> = filter.iter().map(|i| SockFilter::new(i.code, i.yes, i.no, i.k)).collect();
    SockRef::from(fd).attach_filter(&program)
}
