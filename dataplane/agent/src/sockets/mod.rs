//! The ALG's sockets: taps that read, an emitter that sends, both in batches and without a system call per packet.
//!
//! ```text
//!  callgate1 ── Tap (filter::pod_side) ──┐                                        ┌──► pods
//!                                        ├─► Reader ─► packets, whole ─► ALG ─► Emitter (IP_HDRINCL, mark)
//!  eth0, ... ── Tap (filter::Outside) ───┘   recvmmsg, offloads undone              sendmmsg └──► servers
//! ```
//!
//! All unsafe code is in `sys`.

mod emitter;
pub mod filter;
mod reader;
pub mod segment;
mod sys;
mod tap;

pub use emitter::{Emitter, RefusedBy, SEND_BATCH, Sent};
pub use reader::{Place, Reader, Unreadable};
pub use sys::Offload;
pub use tap::Tap;

/// Whether this process can read packets.
///
/// # Errors
/// Why not: no CAP_NET_RAW (EPERM), or a kernel without packet sockets (EAFNOSUPPORT).
pub fn available() -> std::io::Result<()> {
    let socket = sys::packet_socket()?;
    sys::set_packet_option(&socket, libc::PACKET_VNET_HDR, 1)
}
