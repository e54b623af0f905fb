//! A TUN device with a point-to-point address, made and configured for one PPP link.

use std::fs::{File, OpenOptions};
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::Command;

use anyhow::{Context as _, bail, ensure};

/// MTU of the tunnel device, bytes: what is left of 1500 after IP, GRE with both numbers, PPP and byte stuffing's share.
pub const MTU: u32 = 1400;

/// An open TUN device; it disappears when the file is closed.
#[derive(Debug)]
pub struct Tun {
    /// Reads and writes one IPv4 packet at a time, without blocking.
    pub file: File,
    /// Name the kernel gave it, such as `ppp0`.
    pub name: String,
}

impl Tun {
    /// Makes the next free `pppN` in this network namespace.
    ///
    /// # Errors
    /// If /dev/net/tun cannot be opened, or the kernel refuses (needs CAP_NET_ADMIN).
    pub fn open() -> anyhow::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open("/dev/net/tun")
            .context("/dev/net/tun: needs root and a kernel with TUN")?;
        // SAFETY: an ifreq of zeroes is a valid value: all its members are integers or arrays of them.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (slot, byte) in request.ifr_name.iter_mut().zip(b"ppp%d") {
            *slot = *byte as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
        // SAFETY: TUNSETIFF reads and writes one ifreq (linux/if_tun.h), which `request` is, and the fd is open.
        let done = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
        ensure!(done == 0, "TUNSETIFF: {}", std::io::Error::last_os_error());
        let name = request.ifr_name.iter().map(|c| *c as u8).take_while(|byte| *byte != 0).collect();
        Ok(Self { file, name: String::from_utf8(name).context("name of the TUN device")? })
    }

    /// Gives it its addresses and sets it up.
    ///
    /// # Errors
    /// If `ip` fails, with what it said.
    pub fn configure(&self, local: Ipv4Addr, remote: Ipv4Addr) -> anyhow::Result<()> {
        let (local, remote, mtu) = (local.to_string(), remote.to_string(), MTU.to_string());
        ip(&["addr", "replace", &local, "peer", &remote, "dev", &self.name])?;
        ip(&["link", "set", &self.name, "mtu", &mtu, "up"])
    }
}

fn ip(args: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("ip").args(args).output().context("ip: is iproute2 installed?")?;
    if !output.status.success() {
        bail!("ip {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
