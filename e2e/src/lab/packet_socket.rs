//! An AF_PACKET socket on one interface, for captures, and what others need of it. The few system calls std and nix have no words for are here.

use std::io::Read as _;
use std::mem::{size_of, zeroed};
use std::os::fd::AsRawFd;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use nix::net::if_::if_nametoindex;
use socket2::{Domain, Protocol, Socket, Type};

/// Receive buffer, bytes: enough for seconds of a busy lab while the reader waits for a CPU.
const BUFFER: libc::c_int = 64 << 20;

/// Sees every frame of one interface, both directions, once each.
#[derive(Debug)]
pub struct PacketSocket {
    socket: Socket,
}

impl PacketSocket {
    /// Opens it in the network namespace of the calling thread. A read gives up after 50 ms.
    ///
    /// # Errors
    /// Without CAP_NET_RAW, or if there is no such interface.
    pub fn open(interface: &str) -> anyhow::Result<Self> {
        let socket = unbound()?;
        set_int(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, BUFFER)?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        bind_to(&socket, interface, libc::ETH_P_ALL as u16)?;
        Ok(Self { socket })
    }

    /// Reads one frame; `None` if there is none within 50 ms.
    ///
    /// # Errors
    /// What recv(2) says.
    pub fn read(&self, buffer: &mut [u8]) -> std::io::Result<Option<usize>> {
        match (&self.socket).read(buffer) {
            Ok(length) => Ok(Some(length)),
            Err(error) => match error.kind() {
                std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted => Ok(None),
                _ => Err(error),
            },
        }
    }

    /// Frames that did not fit into the buffer since the last call.
    ///
    /// # Errors
    /// What getsockopt(2) says.
    pub fn dropped(&self) -> std::io::Result<u32> {
        // SAFETY: a tpacket_stats of zeroes is a valid value: two integers.
        let mut stats: libc::tpacket_stats = unsafe { zeroed() };
        let mut length = size_of::<libc::tpacket_stats>() as u32;
        // SAFETY: pointer and length describe `stats`, which is writable.
        let done = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut stats).cast(),
                &raw mut length,
            )
        };
        if done == 0 { Ok(stats.tp_drops) } else { Err(std::io::Error::last_os_error()) }
    }
}

/// A packet socket that receives nothing until it is bound.
pub(crate) fn unbound() -> anyhow::Result<Socket> {
    Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0))).context("AF_PACKET socket")
}

/// Binds a packet socket to one interface; it receives frames of this ethertype, none with 0.
pub(crate) fn bind_to(socket: &Socket, interface: &str, protocol: u16) -> anyhow::Result<()> {
    // SAFETY: a sockaddr_ll of zeroes is a valid value.
    let mut address: libc::sockaddr_ll = unsafe { zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol.to_be();
    address.sll_ifindex = if_nametoindex(interface).with_context(|| format!("no interface {interface}"))? as i32;
    // SAFETY: the address is a sockaddr_ll and its length is given.
    let bound =
        unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size_of::<libc::sockaddr_ll>() as u32) };
    ensure!(bound == 0, "bind to {interface}: {}", std::io::Error::last_os_error());
    Ok(())
}

/// setsockopt(2) for the options whose value is an int and that std, socket2 and nix do not know.
pub(crate) fn set_int(
    socket: &impl AsRawFd,
    level: libc::c_int,
    option: libc::c_int,
    value: libc::c_int,
) -> anyhow::Result<()> {
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: value and length describe one readable int.
    let done = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), length) };
    ensure!(done == 0, "setsockopt {option}: {}", std::io::Error::last_os_error());
    Ok(())
}
