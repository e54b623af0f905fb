//! The raw socket through which rewritten packets leave by the kernel's own routing, neighbours and OUTPUT path.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;

use nix::sys::socket::{getsockopt, setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

use super::sys::{self, TxBatch};

/// Bytes of send buffer asked for: packets wait here only for a neighbour's address or a busy device's queue.
pub(super) const SEND_BUFFER: usize = 8 << 20;

/// What became of the packets of one [`Emitter::send`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// The kernel took this many, from the first.
    Taken(usize),
    /// The first is larger than its device's MTU.
    TooBig,
    /// The first was not taken: no buffer (ENOBUFS, EAGAIN), no route, or forbidden by a filter in OUTPUT.
    Refused(RefusedBy),
}

/// Why the kernel did not take a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusedBy {
    /// ENOBUFS, EAGAIN or ENOMEM: a queue is full.
    Buffers,
    /// ENETUNREACH, EHOSTUNREACH, ENETDOWN, ENODEV or EINVAL: the destination cannot be reached now.
    Route,
    /// EPERM or EACCES: a filter of the host forbids it.
    Filter,
    /// Anything else.
    Other(i32),
}

impl RefusedBy {
    pub(super) fn of(error: &io::Error) -> Self {
        match error.raw_os_error().unwrap_or(0) {
            libc::ENOBUFS | libc::EAGAIN | libc::ENOMEM => Self::Buffers,
            libc::ENETUNREACH | libc::EHOSTUNREACH | libc::ENETDOWN | libc::ENODEV | libc::EINVAL => Self::Route,
            libc::EPERM | libc::EACCES => Self::Filter,
            other => Self::Other(other),
        }
    }
}

/// Sends whole IPv4 packets (IP_HDRINCL) with our packet mark.
pub struct Emitter {
    fd: OwnedFd,
    mark: u32,
    batch: TxBatch<libc::sockaddr_in>,
}

impl Emitter {
    /// Opens it; `mark` is set on every packet.
    ///
    /// # Errors
    /// Without CAP_NET_RAW and CAP_NET_ADMIN (EPERM).
    pub fn open(mark: u32) -> io::Result<Self> {
        Self::bound(mark, None)
    }

    /// Opens it for this link only.
    ///
    /// # Errors
    /// As `open`, and without such a link.
    pub fn open_to(link: &str, mark: u32) -> io::Result<Self> {
        Self::bound(mark, Some(link))
    }

    fn bound(mark: u32, link: Option<&str>) -> io::Result<Self> {
        let socket =
            Socket::new(Domain::IPV4, Type::RAW.nonblocking().cloexec(), Some(Protocol::from(libc::IPPROTO_RAW)))?;
        socket.set_header_included_v4(true)?;
        socket.set_mark(mark)?;
        socket.bind_device(link.map(str::as_bytes))?;
        let fd = OwnedFd::from(socket);
        if setsockopt(&fd, sockopt::SndBufForce, &SEND_BUFFER).is_err() {
            setsockopt(&fd, sockopt::SndBuf, &SEND_BUFFER)?;
        }
        Ok(Self { fd, mark, batch: TxBatch::new() })
    }

    /// Hands over as many of `packets` as one system call takes, in order, each to the destination in its header.
    pub fn send(&mut self, packets: &[&[u8]]) -> Sent {
        match self.batch.send(&self.fd, packets, |_, packet| sys::destination(packet)) {
            Ok(n) => Sent::Taken(n),
            Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => Sent::TooBig,
            Err(error) => Sent::Refused(RefusedBy::of(&error)),
        }
    }

    /// The MTU on the way to `destination`, bytes of an IPv4 packet.
    ///
    /// # Errors
    /// When there is no route.
    pub fn path_mtu(&self, destination: Ipv4Addr) -> io::Result<u16> {
        // It sends nothing, and lives for this question only: one that stayed would be an open port.
        let probe = Socket::new(Domain::IPV4, Type::DGRAM.cloexec(), Some(Protocol::UDP))?;
        probe.set_mark(self.mark)?;
        probe.connect(&SocketAddrV4::new(destination, 9).into())?;
        let mtu = getsockopt(&probe, sockopt::IpMtu)?;
        Ok(u16::try_from(mtu).unwrap_or(u16::MAX))
    }
}

/// Packets one [`Emitter::send`] takes at most.
pub const SEND_BATCH: usize = sys::BATCH;
