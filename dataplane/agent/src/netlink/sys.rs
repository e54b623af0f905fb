//! The only unsafe code of the netlink module: the switches of a link's offloads, set and read.

use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// SIOCETHTOOL (linux/sockios.h).
const SIOCETHTOOL: libc::c_ulong = 0x8946;
/// Commands to read and to set (linux/ethtool.h): TCP segmentation, generic segmentation, and transmit checksums, which the
/// others need and which therefore come last.
const SWITCHES: [(u32, u32); 3] = [(0x1e, 0x1f), (0x23, 0x24), (0x16, 0x17)];

/// ETHTOOL_GFLAGS and ETH_FLAG_RXVLAN (linux/ethtool.h).
const GET_FLAGS: u32 = 0x25;
const RX_VLAN: u32 = 1 << 8;

/// struct ethtool_value.
#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

/// Switches checksum and segmentation offload of a link off, as far as they are on.
pub(super) fn offloads_off(name: &str) -> Result<(), Errno> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    for (read, set) in SWITCHES {
        if ethtool(&socket, name, read, 0)? != 0 {
            ethtool(&socket, name, set, 0)?;
        }
    }
    Ok(())
}

/// Whether a link's card takes VLAN tags off frames before anybody sees them.
pub(super) fn takes_tags_off(name: &str) -> Result<bool, Errno> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    Ok(ethtool(&socket, name, GET_FLAGS, 0)? & RX_VLAN != 0)
}

/// One ethtool command; its value afterwards.
fn ethtool(socket: &impl AsRawFd, name: &str, command: u32, data: u32) -> Result<u32, Errno> {
    let mut value = EthtoolValue { command, data };
    // SAFETY: ifreq is plain data; all zeroes is a value of it.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes().take(libc::IFNAMSIZ - 1)) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: request is an ifreq whose data points to an ethtool_value; both live until the call returns.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL as _, &raw mut request) };
    Errno::result(result)?;
    Ok(value.data)
}
