//! An AF_PACKET socket on one interface, for captures. The few system calls std and nix have no words for are here.

use std::ffi::CString;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use anyhow::{Context as _, ensure};

/// Receive buffer, bytes: enough for seconds of a busy lab while the reader waits for a CPU.
const BUFFER: libc::c_int = 64 << 20;

/// Sees every frame of one interface, both directions, once each.
#[derive(Debug)]
pub struct PacketSocket {
    fd: OwnedFd,
}

impl PacketSocket {
    /// Opens it in the network namespace of the calling thread. A read gives up after 50 ms.
    ///
    /// # Errors
    /// Without CAP_NET_RAW, or if there is no such interface.
    pub fn open(interface: &str) -> anyhow::Result<Self> {
        let all = libc::ETH_P_ALL as u16;
        let name = CString::new(interface).context("name of the interface")?;
        // SAFETY: `name` is a NUL-terminated string that lives through the call.
        let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
        ensure!(index != 0, "no interface {interface}");
        // SAFETY: socket(2) takes integers only.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        ensure!(fd >= 0, "AF_PACKET socket: {}", std::io::Error::last_os_error());
        // SAFETY: the kernel has just given us this descriptor, nobody else owns it.
        let socket = Self { fd: unsafe { OwnedFd::from_raw_fd(fd) } };
        socket.set(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &BUFFER)?;
        let timeout = libc::timeval { tv_sec: 0, tv_usec: 50_000 };
        socket.set(libc::SOL_SOCKET, libc::SO_RCVTIMEO, &timeout)?;
        // SAFETY: a sockaddr_ll of zeroes is a valid value.
        let mut address: libc::sockaddr_ll = unsafe { zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = all.to_be();
        address.sll_ifindex = index as i32;
        // SAFETY: the address is a sockaddr_ll and its length is given.
        let bound = unsafe { libc::bind(fd, (&raw const address).cast(), size_of::<libc::sockaddr_ll>() as u32) };
        ensure!(bound == 0, "bind to {interface}: {}", std::io::Error::last_os_error());
        Ok(socket)
    }

    fn set<T>(&self, level: libc::c_int, option: libc::c_int, value: &T) -> anyhow::Result<()> {
        // SAFETY: value and length describe one readable T.
        let done = unsafe {
            libc::setsockopt(self.fd.as_raw_fd(), level, option, (&raw const *value).cast(), size_of::<T>() as u32)
        };
        ensure!(done == 0, "setsockopt {option}: {}", std::io::Error::last_os_error());
        Ok(())
    }

    /// Reads one frame; `None` if there is none within 50 ms.
    ///
    /// # Errors
    /// What recv(2) says.
    pub fn read(&self, buffer: &mut [u8]) -> std::io::Result<Option<usize>> {
        // SAFETY: pointer and length describe `buffer`, which is writable.
        let length = unsafe { libc::recv(self.fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
        if length >= 0 {
            return Ok(Some(length as usize));
        }
        let error = std::io::Error::last_os_error();
        match error.kind() {
            std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted => Ok(None),
            _ => Err(error),
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
                self.fd.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut stats).cast(),
                &raw mut length,
            )
        };
        if done == 0 { Ok(stats.tp_drops) } else { Err(std::io::Error::last_os_error()) }
    }
}
