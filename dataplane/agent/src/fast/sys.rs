//! bpf(2) where aya does not go: links by number of the device, their pins, and the map's memory.

use std::ffi::CString;
use std::io;
use std::mem::size_of;
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::layout::Slot;
use crate::mapped::Mapped;

/// Commands and constants of linux/bpf.h.
const OBJ_PIN: i64 = 6;
const OBJ_GET: i64 = 7;
const OBJ_GET_INFO_BY_FD: i64 = 15;
const LINK_CREATE: i64 = 28;
const LINK_UPDATE: i64 = 29;
const LINK_DETACH: i64 = 34;
const XDP: u32 = 37;
const TCX_INGRESS: u32 = 46;
/// linux/if_link.h XDP_FLAGS_DRV_MODE: by the driver, and not behind it.
const BY_THE_DRIVER: u32 = 1 << 2;

/// `union bpf_attr`, as far as it is used here, is at most this long; what is not written is 0.
const ATTR: usize = 64;

/// A `union bpf_attr`.
#[repr(C, align(8))]
struct Attr([u8; ATTR]);

impl Attr {
    fn new() -> Self {
        Self([0; ATTR])
    }

    fn u32(mut self, at: usize, value: u32) -> Self {
        self.0[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        self
    }

    fn u64(mut self, at: usize, value: u64) -> Self {
        self.0[at..at + 8].copy_from_slice(&value.to_ne_bytes());
        self
    }

    fn fd(self, at: usize, fd: &impl AsFd) -> Self {
        self.u32(at, fd.as_fd().as_raw_fd() as u32)
    }

    /// # Safety
    /// What `self` points to must be there, and may be written where `command` writes.
    unsafe fn call(&mut self, command: i64) -> io::Result<i64> {
        // SAFETY: the kernel reads and writes the attribute within its length, and what it points to as the caller has promised.
        let result = unsafe { libc::syscall(libc::SYS_bpf, command, self.0.as_mut_ptr(), ATTR) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
    }
}

fn owned(fd: i64) -> OwnedFd {
    // SAFETY: the kernel has just given this descriptor to us alone.
    unsafe { OwnedFd::from_raw_fd(fd as i32) }
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)
}

/// Puts a program at the end of what runs at tcx ingress of the device with this number.
///
/// # Errors
/// EINVAL where the kernel has no tcx (before 6.6), ENODEV without such a device.
pub(super) fn attach(program: &impl AsFd, device: u32) -> io::Result<OwnedFd> {
    // prog_fd, target_ifindex, attach_type.
    let mut attr = Attr::new().fd(0, program).u32(4, device).u32(8, TCX_INGRESS);
    // SAFETY: it points to nothing.
    unsafe { attr.call(LINK_CREATE) }.map(owned)
}

/// Puts a program before everything else on the device with this number, run by its driver.
///
/// # Errors
/// EBUSY where there is a program already, EOPNOTSUPP where the driver runs none, EINVAL or ERANGE where frames are too large, ENODEV
/// without such a device.
pub(super) fn attach_xdp(program: &impl AsFd, device: u32) -> io::Result<OwnedFd> {
    // prog_fd, target_ifindex, attach_type, flags.
    let mut attr = Attr::new().fd(0, program).u32(4, device).u32(8, XDP).u32(12, BY_THE_DRIVER);
    // SAFETY: it points to nothing.
    unsafe { attr.call(LINK_CREATE) }.map(owned)
}

/// Another program in the place of a link's, from one packet to the next.
pub(super) fn replace(link: &impl AsFd, program: &impl AsFd) -> io::Result<()> {
    // link_fd, new_prog_fd.
    let mut attr = Attr::new().fd(0, link).fd(4, program);
    // SAFETY: it points to nothing.
    unsafe { attr.call(LINK_UPDATE) }.map(drop)
}

/// Takes a link's program from its device, now: without its name and descriptors it goes in the kernel's own time, and until then the
/// same program is refused there (EEXIST).
pub(super) fn detach(link: &impl AsFd) -> io::Result<()> {
    // link_fd.
    let mut attr = Attr::new().fd(0, link);
    // SAFETY: it points to nothing.
    unsafe { attr.call(LINK_DETACH) }.map(drop)
}

/// Number of the device a tcx or XDP link is on; 0 once it is on none any more.
pub(super) fn device_of(link: &impl AsFd) -> io::Result<u32> {
    // struct bpf_link_info: type, id, prog_id, (padding), tcx.ifindex or xdp.ifindex.
    let mut info = [0u32; 16];
    let mut attr = Attr::new().fd(0, link).u32(4, size_of::<[u32; 16]>() as u32).u64(8, info.as_mut_ptr() as u64);
    // SAFETY: the kernel writes at most as many octets as it is told, and `info` has them.
    unsafe { attr.call(OBJ_GET_INFO_BY_FD)? };
    Ok(info[4])
}

/// Gives a program, map or link a name in a bpf file system: it lives as long as the name.
pub(super) fn pin(object: &impl AsFd, path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    // pathname, bpf_fd.
    let mut attr = Attr::new().u64(0, path.as_ptr() as u64).fd(8, object);
    // SAFETY: the path is there and only read.
    unsafe { attr.call(OBJ_PIN) }.map(drop)
}

/// What has this name in a bpf file system.
pub(super) fn pinned(path: &Path) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    let mut attr = Attr::new().u64(0, path.as_ptr() as u64);
    // SAFETY: the path is there and only read.
    unsafe { attr.call(OBJ_GET) }.map(owned)
}

/// The memory of an array map that the kernel and we both see (BPF_F_MMAPABLE, Linux 5.5).
#[derive(Debug)]
pub(super) struct Shared {
    memory: Mapped,
    count: usize,
}

// SAFETY: the mapping belongs to this value alone, and slots are changed only as atomics.
unsafe impl Send for Shared {}

impl Shared {
    /// The memory of `map`, which is so many slots.
    ///
    /// # Errors
    /// As `Mapped::of`.
    pub(super) fn of(map: &impl AsFd, count: usize) -> io::Result<Self> {
        Ok(Self { memory: Mapped::of(map, count * size_of::<Slot>())?, count })
    }
}

impl Deref for Shared {
    type Target = [Slot];

    fn deref(&self) -> &[Slot] {
        // SAFETY: the mapping is of this length, page-aligned, and there until `drop`; a Slot is atomics, of which any octets are
        // values, and the kernel's program changes them as such.
        unsafe { std::slice::from_raw_parts(self.memory.start().as_ptr().cast(), self.count) }
    }
}
