//! The unsafe code of the agent's sockets, but for the ring's: AF_PACKET set-up and batches of recvmmsg and sendmmsg.

use std::io;
use std::mem::size_of;
use std::net::Ipv4Addr;
use std::ops::Range;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Packets a batch.
pub(super) const BATCH: usize = 64;

/// virtio_net_hdr without merged buffers (linux/virtio_net.h), which PACKET_VNET_HDR puts before each frame.
pub(super) const VNET_HEADER: usize = 10;

/// A link-layer header, a VLAN tag left in place, the longest IPv4 packet and the vnet header, rounded up to an odd number
/// of cache lines: an even stride would put the headers of all slots into the same few cache sets.
const SLOT: usize = 1035 * 64;

/// An AF_PACKET socket that receives nothing yet: no protocol, so that a filter can be attached first.
pub(super) fn packet_socket() -> io::Result<OwnedFd> {
    socket_of(libc::SOCK_RAW)
}

/// An AF_PACKET socket that writes link-layer headers itself and receives nothing.
pub(super) fn cooked_socket() -> io::Result<OwnedFd> {
    socket_of(libc::SOCK_DGRAM)
}

fn socket_of(kind: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: socket() takes no pointers.
    let fd = unsafe { libc::socket(libc::AF_PACKET, kind | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: fd was returned by socket() just now and is owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Starts reception of IPv4 (0x0800) on one interface.
pub(super) fn bind_ipv4(fd: &OwnedFd, ifindex: u32) -> io::Result<()> {
    // SAFETY: sockaddr_ll is plain data; all zeroes is a value of it.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (libc::ETH_P_IP as u16).to_be();
    address.sll_ifindex = ifindex as i32;
    // SAFETY: address points to a sockaddr_ll of the length given.
    let r = unsafe {
        libc::bind(fd.as_raw_fd(), (&raw const address).cast(), size_of::<libc::sockaddr_ll>() as libc::socklen_t)
    };
    if r == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Index of the interface a packet socket reads; -1 once that has been taken away (net/packet/af_packet.c, `packet_notifier`).
pub(super) fn bound_to(fd: &OwnedFd) -> io::Result<i32> {
    // SAFETY: sockaddr_ll is plain data; all zeroes is a value of it.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    let mut length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: address has the length given, and the kernel writes no more than that.
    let r = unsafe { libc::getsockname(fd.as_raw_fd(), (&raw mut address).cast(), &raw mut length) };
    if r == 0 { Ok(address.sll_ifindex) } else { Err(io::Error::last_os_error()) }
}

/// Sets an option of level SOL_PACKET, whose value is plain data.
pub(super) fn set_packet_option<T: Copy>(fd: &OwnedFd, option: i32, value: T) -> io::Result<()> {
    // SAFETY: the value has the length given, and is only read.
    let r = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_PACKET,
            option,
            (&raw const value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if r == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Packets the kernel dropped for want of buffer since the last call (packet(7), PACKET_STATISTICS: reading resets).
pub(super) fn packet_drops(fd: &OwnedFd) -> io::Result<u64> {
    // SAFETY: tpacket_stats is plain data; all zeroes is a value of it.
    let mut stats: libc::tpacket_stats = unsafe { std::mem::zeroed() };
    let mut length = size_of::<libc::tpacket_stats>() as libc::socklen_t;
    // SAFETY: stats has the length given, and the kernel writes no more than that.
    let r = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            (&raw mut stats).cast(),
            &raw mut length,
        )
    };
    if r == 0 { Ok(u64::from(stats.tp_drops)) } else { Err(io::Error::last_os_error()) }
}

/// What the kernel says about a frame beside its bytes (virtio_net_hdr).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Offload {
    /// The checksum at `csum_start + csum_offset` is only that of the pseudo-header.
    pub needs_checksum: bool,
    /// VIRTIO_NET_HDR_GSO_*: 0 is none, 1 TCP over IPv4; bit 0x80 says ECN.
    pub gso_type: u8,
    /// Payload bytes of each segment that was merged, or is to be cut.
    pub gso_size: u16,
    /// From the start of the frame (link-layer header included), bytes.
    pub csum_start: u16,
    /// From `csum_start`, bytes.
    pub csum_offset: u16,
}

impl Offload {
    /// Out of the header before a frame.
    pub(super) fn read(vnet: &[u8; VNET_HEADER]) -> Self {
        let word = |at: usize| u16::from_ne_bytes([vnet[at], vnet[at + 1]]);
        Self {
            needs_checksum: vnet[0] & 1 != 0,
            gso_type: vnet[1],
            gso_size: word(4),
            csum_start: word(6),
            csum_offset: word(8),
        }
    }
}

/// One frame out of a batch.
pub(super) struct Frame<'a> {
    pub(super) offload: Offload,
    /// Where the IPv4 header begins in `bytes`; what is before is the link layer's.
    pub(super) network: usize,
    /// The frame was longer than a slot, its end is missing.
    pub(super) truncated: bool,
    /// Where `bytes` begins in the slot.
    pub(super) start: usize,
    pub(super) bytes: &'a mut [u8],
}

/// Room for one recvmmsg: allocated once, used for every batch.
pub(super) struct RxBatch {
    slots: Box<[u8]>,
    /// One cmsghdr with a tpacket_auxdata each; u64 for its alignment.
    controls: Box<[[u64; 8]]>,
    vectors: Box<[libc::iovec]>,
    headers: Box<[libc::mmsghdr]>,
}

impl RxBatch {
    pub(super) fn new() -> Self {
        Self {
            // Zeroed by the allocator without touching it: pages come into being only as far as packets fill them.
            slots: vec![0; BATCH * SLOT].into_boxed_slice(),
            controls: vec![[0; 8]; BATCH].into_boxed_slice(),
            vectors: vec![libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; BATCH].into_boxed_slice(),
            headers: vec![no_message(); BATCH].into_boxed_slice(),
        }
    }

    /// Reads frames into these slots without waiting; how many there were.
    pub(super) fn receive(&mut self, fd: &OwnedFd, into: Range<usize>) -> io::Result<usize> {
        let slots = self.slots.as_mut_ptr();
        let into = into.start.min(BATCH)..into.end.min(BATCH);
        for i in into.clone() {
            // SAFETY: i < BATCH, and slots is BATCH * SLOT bytes long.
            let base = unsafe { slots.add(i * SLOT) };
            self.vectors[i] = libc::iovec { iov_base: base.cast(), iov_len: SLOT };
            let header = &mut self.headers[i].msg_hdr;
            header.msg_iov = &raw mut self.vectors[i];
            header.msg_iovlen = 1;
            header.msg_control = (&raw mut self.controls[i]).cast();
            header.msg_controllen = size_of::<[u64; 8]>() as _;
        }
        // SAFETY: every header points to one iovec and one control buffer of its own, set just above from live boxes of
        // this struct with their true lengths; the kernel writes nothing beyond them.
        let n = unsafe {
            libc::recvmmsg(
                fd.as_raw_fd(),
                self.headers[into.clone()].as_mut_ptr(),
                into.len() as u32,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        usize::try_from(n).map_err(|_| io::Error::last_os_error())
    }

    /// The frame that was read into slot `i` last; `None` if it is shorter than its headers.
    pub(super) fn frame(&mut self, i: usize) -> Option<Frame<'_>> {
        let header = &self.headers[i];
        let length = header.msg_len as usize;
        let truncated = header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
        let network = network_offset(&header.msg_hdr)?;
        let slot = &mut self.slots[i * SLOT..][..SLOT];
        let (vnet, bytes) = slot.get_mut(..length)?.split_first_chunk_mut()?;
        let offload = Offload::read(vnet);
        (network <= bytes.len()).then_some(Frame { offload, network, truncated, start: VNET_HEADER, bytes })
    }

    /// `length` bytes from `start` in slot `i`.
    pub(super) fn bytes(&self, i: usize, start: usize, length: usize) -> &[u8] {
        &self.slots[i * SLOT..][..SLOT][start..][..length]
    }
}

/// Where the network header begins in the frame: tp_net of PACKET_AUXDATA.
fn network_offset(header: &libc::msghdr) -> Option<usize> {
    // SAFETY: header was filled by recvmmsg: msg_control points to msg_controllen valid bytes, aligned for a cmsghdr.
    let mut control = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !control.is_null() {
        // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR return null or a whole cmsghdr within the buffer.
        let c = unsafe { &*control };
        if c.cmsg_level == libc::SOL_PACKET && c.cmsg_type == libc::PACKET_AUXDATA {
            // SAFETY: a message of this type holds a tpacket_auxdata; it is read unaligned.
            let data: libc::tpacket_auxdata = unsafe { std::ptr::read_unaligned(libc::CMSG_DATA(control).cast()) };
            return Some(usize::from(data.tp_net));
        }
        // SAFETY: control is a cmsghdr of this header.
        control = unsafe { libc::CMSG_NXTHDR(header, control) };
    }
    None
}

/// The address of a neighbour for IPv4 packets.
pub(super) fn link_address(link: u32, address: [u8; 6]) -> libc::sockaddr_ll {
    let mut whole = [0; 8];
    whole[..6].copy_from_slice(&address);
    libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: (libc::ETH_P_IP as u16).to_be(),
        sll_ifindex: link as i32,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: whole,
    }
}

/// The destination in a packet's IPv4 header.
pub(super) fn destination(packet: &[u8]) -> libc::sockaddr_in {
    let destination = packet.get(16..20).map_or(Ipv4Addr::UNSPECIFIED, |d| Ipv4Addr::new(d[0], d[1], d[2], d[3]));
    libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: 0,
        sin_addr: libc::in_addr { s_addr: u32::from(destination).to_be() },
        sin_zero: [0; 8],
    }
}

/// Room for one sendmmsg: allocated once, used for every batch. `N` is the socket family's sockaddr.
pub(super) struct TxBatch<N> {
    names: Box<[N]>,
    vectors: Box<[libc::iovec]>,
    headers: Box<[libc::mmsghdr]>,
}

impl<N: Name> TxBatch<N> {
    pub(super) fn new() -> Self {
        Self {
            names: vec![N::NONE; BATCH].into_boxed_slice(),
            vectors: vec![libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; BATCH].into_boxed_slice(),
            headers: vec![no_message(); BATCH].into_boxed_slice(),
        }
    }

    /// Sends the first `BATCH` of `packets`, each to its `name`, without waiting. Returns how many the kernel took; an error is about
    /// the first one.
    pub(super) fn send(
        &mut self,
        fd: &OwnedFd,
        packets: &[&[u8]],
        mut name: impl FnMut(usize, &[u8]) -> N,
    ) -> io::Result<usize> {
        let count = packets.len().min(BATCH);
        for (i, packet) in packets.iter().take(count).enumerate() {
            self.names[i] = name(i, packet);
            self.vectors[i] = libc::iovec { iov_base: packet.as_ptr().cast_mut().cast(), iov_len: packet.len() };
            let header = &mut self.headers[i].msg_hdr;
            header.msg_name = (&raw mut self.names[i]).cast();
            header.msg_namelen = size_of::<N>() as libc::socklen_t;
            header.msg_iov = &raw mut self.vectors[i];
            header.msg_iovlen = 1;
        }
        // SAFETY: the first count headers point to a name and an iovec of this struct and, through it, to a packet borrowed for
        // this call; sendmmsg only reads them.
        let n = unsafe { libc::sendmmsg(fd.as_raw_fd(), self.headers.as_mut_ptr(), count as u32, libc::MSG_DONTWAIT) };
        usize::try_from(n).map_err(|_| io::Error::last_os_error())
    }
}

/// A sockaddr.
pub(super) trait Name: Copy {
    /// Nobody's.
    const NONE: Self;
}

impl Name for libc::sockaddr_in {
    const NONE: Self = Self { sin_family: 0, sin_port: 0, sin_addr: libc::in_addr { s_addr: 0 }, sin_zero: [0; 8] };
}

impl Name for libc::sockaddr_ll {
    const NONE: Self = Self {
        sll_family: 0,
        sll_protocol: 0,
        sll_ifindex: 0,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
}

fn no_message() -> libc::mmsghdr {
    // SAFETY: mmsghdr is plain data; all zeroes (null pointers, no lengths) is a value of it.
    unsafe { std::mem::zeroed() }
}
