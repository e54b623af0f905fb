//! TCP headers: a view that rewrites in place, and a builder for segments of our own (RFC 9293).
//!
//! ```text
//!   Packet ── ports, seq, ack, flags, window, checksum ── options::{iter, map_sack, blank} ── payload
//!   Repr   ── a segment with at most one option: timestamps (RFC 7323), which a peer that uses them expects on each
//! ```

mod build;
pub mod options;

use std::net::Ipv4Addr;

pub use build::{Repr, datagram};

use super::bytes::{put, u8_at, u16_at, u32_at};
use super::{Error, Result, Seq, checksum, ipv4};

/// Octets of a header without options.
pub const HEADER_LEN: usize = 20;

mod field {
    pub(super) const SRC_PORT: usize = 0;
    pub(super) const DST_PORT: usize = 2;
    pub(super) const SEQ: usize = 4;
    pub(super) const ACK: usize = 8;
    pub(super) const OFFSET: usize = 12;
    pub(super) const FLAGS: usize = 13;
    pub(super) const WINDOW: usize = 14;
    pub(super) const CHECKSUM: usize = 16;
    pub(super) const URGENT: usize = 18;
}

/// The eight flags of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags(pub u8);

impl Flags {
    /// No more data from the sender.
    pub const FIN: Self = Self(0x01);
    /// Synchronise sequence numbers.
    pub const SYN: Self = Self(0x02);
    /// Reset the connection.
    pub const RST: Self = Self(0x04);
    /// Hand the data to the application.
    pub const PSH: Self = Self(0x08);
    /// The acknowledgement field counts.
    pub const ACK: Self = Self(0x10);
    /// The urgent pointer counts.
    pub const URG: Self = Self(0x20);

    /// These flags and those.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// These flags without those.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether all of `other` are set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// A view over one TCP segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<T> {
    buffer: T,
}

impl<T: AsRef<[u8]>> Packet<T> {
    /// A view of an output buffer.
    pub const fn new_unchecked(buffer: T) -> Self {
        Self { buffer }
    }

    /// A view of a received segment.
    ///
    /// # Errors
    /// The header does not fit the buffer.
    pub fn new_checked(buffer: T) -> Result<Self> {
        let packet = Self { buffer };
        let header_len = packet.header_len();
        if header_len < HEADER_LEN || header_len > packet.buffer.as_ref().len() { Err(Error) } else { Ok(packet) }
    }

    /// Source port.
    pub fn src_port(&self) -> u16 {
        u16_at(self.buffer.as_ref(), field::SRC_PORT)
    }

    /// Destination port.
    pub fn dst_port(&self) -> u16 {
        u16_at(self.buffer.as_ref(), field::DST_PORT)
    }

    /// Sequence number of the first octet (of the SYN, if there is one).
    pub fn seq(&self) -> Seq {
        Seq(u32_at(self.buffer.as_ref(), field::SEQ))
    }

    /// Next sequence number the sender expects; meaningful with the ACK flag.
    pub fn ack(&self) -> Seq {
        Seq(u32_at(self.buffer.as_ref(), field::ACK))
    }

    /// Header length in octets, options included.
    pub fn header_len(&self) -> usize {
        usize::from(u8_at(self.buffer.as_ref(), field::OFFSET) >> 4) * 4
    }

    /// Flags.
    pub fn flags(&self) -> Flags {
        Flags(u8_at(self.buffer.as_ref(), field::FLAGS))
    }

    /// Whether the segment has FIN set.
    pub fn fin(&self) -> bool {
        self.flags().contains(Flags::FIN)
    }

    /// Whether the segment has SYN set.
    pub fn syn(&self) -> bool {
        self.flags().contains(Flags::SYN)
    }

    /// Whether the segment has RST set.
    pub fn rst(&self) -> bool {
        self.flags().contains(Flags::RST)
    }

    /// Window, unscaled.
    pub fn window(&self) -> u16 {
        u16_at(self.buffer.as_ref(), field::WINDOW)
    }

    /// Checksum as it stands.
    pub fn checksum(&self) -> u16 {
        u16_at(self.buffer.as_ref(), field::CHECKSUM)
    }

    /// Urgent pointer.
    pub fn urgent(&self) -> u16 {
        u16_at(self.buffer.as_ref(), field::URGENT)
    }

    /// The option octets.
    pub fn options(&self) -> &[u8] {
        self.buffer.as_ref().get(HEADER_LEN..self.header_len()).unwrap_or_default()
    }

    /// The data.
    pub fn payload(&self) -> &[u8] {
        self.buffer.as_ref().get(self.header_len()..).unwrap_or_default()
    }

    /// Whether the checksum is right between these addresses.
    pub fn verify_checksum(&self, src: Ipv4Addr, dst: Ipv4Addr) -> bool {
        self.sum(src, dst) == 0
    }

    fn sum(&self, src: Ipv4Addr, dst: Ipv4Addr) -> u16 {
        let bytes = self.buffer.as_ref();
        let pseudo = checksum::pseudo_header(src, dst, ipv4::PROTOCOL_TCP, bytes.len() as u16);
        checksum::finish(checksum::add(pseudo, bytes))
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Packet<T> {
    /// Sets the source port; the checksum is stale afterwards.
    pub fn set_src_port(&mut self, port: u16) {
        put(self.buffer.as_mut(), field::SRC_PORT, &port.to_be_bytes());
    }

    /// Sets the destination port; the checksum is stale afterwards.
    pub fn set_dst_port(&mut self, port: u16) {
        put(self.buffer.as_mut(), field::DST_PORT, &port.to_be_bytes());
    }

    /// Sets the sequence number; the checksum is stale afterwards.
    pub fn set_seq(&mut self, seq: Seq) {
        put(self.buffer.as_mut(), field::SEQ, &seq.0.to_be_bytes());
    }

    /// Sets the acknowledgement number; the checksum is stale afterwards.
    pub fn set_ack(&mut self, ack: Seq) {
        put(self.buffer.as_mut(), field::ACK, &ack.0.to_be_bytes());
    }

    /// Sets the header length in octets (a multiple of 4); the checksum is stale afterwards.
    pub fn set_header_len(&mut self, length: usize) {
        put(self.buffer.as_mut(), field::OFFSET, &[((length / 4) as u8) << 4]);
    }

    /// Sets the flags; the checksum is stale afterwards.
    pub fn set_flags(&mut self, flags: Flags) {
        put(self.buffer.as_mut(), field::FLAGS, &[flags.0]);
    }

    /// Sets the window; the checksum is stale afterwards.
    pub fn set_window(&mut self, window: u16) {
        put(self.buffer.as_mut(), field::WINDOW, &window.to_be_bytes());
    }

    /// Sets the urgent pointer; the checksum is stale afterwards.
    pub fn set_urgent(&mut self, urgent: u16) {
        put(self.buffer.as_mut(), field::URGENT, &urgent.to_be_bytes());
    }

    /// The option octets, to be changed; the checksum is stale afterwards.
    pub fn options_mut(&mut self) -> &mut [u8] {
        let end = self.header_len();
        self.buffer.as_mut().get_mut(HEADER_LEN..end).unwrap_or_default()
    }

    /// Computes the checksum anew between these addresses, over the whole buffer.
    pub fn fill_checksum(&mut self, src: Ipv4Addr, dst: Ipv4Addr) {
        put(self.buffer.as_mut(), field::CHECKSUM, &[0, 0]);
        let value = self.sum(src, dst);
        put(self.buffer.as_mut(), field::CHECKSUM, &value.to_be_bytes());
    }
}

#[cfg(test)]
mod tests;
