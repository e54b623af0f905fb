//! The ALG's sockets: taps that read, an emitter that sends, both in batches and without a system call per packet.
//!
//! ```text
//!  callgate1 ── Tap (filter::pod_side) ──┐                                   ┌─► Emitter (IP_HDRINCL, mark) ─► routing ─┬─► pods
//!                                        ├─► Reader ─► packets, whole ─► ALG ─┤ sendmmsg                                 │
//!  eth0, ... ── Tap (filter::Outside) ───┘   ring, offloads undone           └─► Straight (much GRE) ───► neighbour ────┴─► servers
//! ```
//!
//! All unsafe code is in `sys` and `ring`.

mod emitter;
pub mod filter;
mod reader;
mod ring;
pub mod segment;
mod straight;
mod sys;
mod tap;

pub use emitter::{Emitter, RefusedBy, SEND_BATCH, Sent};
pub use reader::{Place, Reader, Unreadable};
pub use straight::{Neighbour, Straight};
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
