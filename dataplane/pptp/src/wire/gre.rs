//! Enhanced GRE, version 1, as PPTP uses it (RFC 2637 §4.1).
//!
//! ```text
//!  0                16               32
//!  |C R K S s Recur A Flags Ver| 0x880B |
//!  | payload length | Call ID           |   the Call ID is the receiver's
//!  | sequence number, if S              |
//!  | acknowledgement number, if A       |   right behind the Call ID where S is clear
//! ```

use super::bytes::{put, u16_at, u32_at};
use super::{Error, Result};

/// Octets up to and including the Call ID: what an ICMP error quotes at least.
pub const MIN_HEADER_LEN: usize = 8;
/// Protocol type of PPP.
pub const PROTOCOL_PPP: u16 = 0x880b;

const KEY: u16 = 0x2000;
const SEQUENCE: u16 = 0x1000;
const ACK: u16 = 0x0080;
const VERSION: u16 = 0x0007;
/// C, R and s: never set by an enhanced GRE sender, and with them the header would have another shape.
const FORBIDDEN: u16 = 0x8000 | 0x4000 | 0x0800;

mod field {
    pub(super) const FLAGS: usize = 0;
    pub(super) const PROTOCOL: usize = 2;
    pub(super) const PAYLOAD_LEN: usize = 4;
    pub(super) const CALL_ID: usize = 6;
    pub(super) const SEQUENCE: usize = 8;
}

/// A view over one enhanced GRE packet, from its first octet on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<T> {
    buffer: T,
}

impl<T: AsRef<[u8]>> Packet<T> {
    /// A view of an output buffer.
    pub const fn new_unchecked(buffer: T) -> Self {
        Self { buffer }
    }

    /// A view of a whole packet.
    ///
    /// # Errors
    /// Not enhanced GRE carrying PPP, or header and payload length do not fit the buffer.
    pub fn new_checked(buffer: T) -> Result<Self> {
        let packet = Self::new_embedded(buffer)?;
        let end = packet.header_len() + packet.payload_len();
        if end > packet.buffer.as_ref().len() { Err(Error) } else { Ok(packet) }
    }

    /// A view of a packet cut off anywhere behind its Call ID: a first fragment, or a quotation in an ICMP error.
    ///
    /// # Errors
    /// Shorter than 8 octets, or not enhanced GRE carrying PPP.
    pub fn new_embedded(buffer: T) -> Result<Self> {
        let packet = Self { buffer };
        let bytes = packet.buffer.as_ref();
        let flags = packet.flags();
        let fits = bytes.len() >= MIN_HEADER_LEN
            && flags & FORBIDDEN == 0
            && flags & KEY != 0
            && flags & VERSION == 1
            && u16_at(bytes, field::PROTOCOL) == PROTOCOL_PPP;
        if fits { Ok(packet) } else { Err(Error) }
    }

    /// The buffer back.
    pub fn into_inner(self) -> T {
        self.buffer
    }

    fn flags(&self) -> u16 {
        u16_at(self.buffer.as_ref(), field::FLAGS)
    }

    /// Whether it carries a sequence number, that is, a payload.
    pub fn has_seq(&self) -> bool {
        self.flags() & SEQUENCE != 0
    }

    /// Whether it carries an acknowledgement.
    pub fn has_ack(&self) -> bool {
        self.flags() & ACK != 0
    }

    /// Header length in octets: 8, 12 or 16.
    pub fn header_len(&self) -> usize {
        MIN_HEADER_LEN + if self.has_seq() { 4 } else { 0 } + if self.has_ack() { 4 } else { 0 }
    }

    /// Length of the payload in octets, as the sender says.
    pub fn payload_len(&self) -> usize {
        usize::from(u16_at(self.buffer.as_ref(), field::PAYLOAD_LEN))
    }

    /// The receiver's Call ID.
    pub fn call_id(&self) -> u16 {
        u16_at(self.buffer.as_ref(), field::CALL_ID)
    }

    /// Sequence number of the payload, if there is one and the buffer reaches so far.
    pub fn seq(&self) -> Option<u32> {
        self.number(self.has_seq(), field::SEQUENCE)
    }

    /// Highest sequence number its sender has received, if it says so and the buffer reaches so far.
    pub fn ack(&self) -> Option<u32> {
        self.number(self.has_ack(), if self.has_seq() { field::SEQUENCE + 4 } else { field::SEQUENCE })
    }

    fn number(&self, present: bool, at: usize) -> Option<u32> {
        let bytes = self.buffer.as_ref();
        (present && bytes.len() >= at + 4).then(|| u32_at(bytes, at))
    }

    /// The PPP frame.
    pub fn payload(&self) -> &[u8] {
        let bytes = self.buffer.as_ref();
        let start = self.header_len();
        bytes.get(start..(start + self.payload_len()).min(bytes.len())).unwrap_or_default()
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Packet<T> {
    /// Sets the receiver's Call ID. GRE version 1 has no checksum to carry along.
    pub fn set_call_id(&mut self, call_id: u16) {
        put(self.buffer.as_mut(), field::CALL_ID, &call_id.to_be_bytes());
    }
}

/// An enhanced GRE header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repr {
    /// The receiver's Call ID.
    pub call_id: u16,
    /// Sequence number; present exactly when there is a payload.
    pub seq: Option<u32>,
    /// Highest sequence number received.
    pub ack: Option<u32>,
    /// Length of the payload in octets.
    pub payload_len: u16,
}

impl Repr {
    /// The values of a packet.
    ///
    /// # Errors
    /// The buffer does not reach to the end of the header.
    pub fn parse<T: AsRef<[u8]>>(packet: &Packet<T>) -> Result<Self> {
        if packet.buffer.as_ref().len() < packet.header_len() {
            return Err(Error);
        }
        Ok(Self {
            call_id: packet.call_id(),
            seq: packet.seq(),
            ack: packet.ack(),
            payload_len: packet.payload_len() as u16,
        })
    }

    /// Octets `emit` writes.
    pub const fn buffer_len(&self) -> usize {
        MIN_HEADER_LEN + if self.seq.is_some() { 4 } else { 0 } + if self.ack.is_some() { 4 } else { 0 }
    }

    /// Writes the header to the start of `buffer`.
    ///
    /// # Errors
    /// `buffer` is shorter than the header.
    pub fn emit(&self, buffer: &mut [u8]) -> Result<()> {
        let header = buffer.get_mut(..self.buffer_len()).ok_or(Error)?;
        let flags = KEY | 1 | if self.seq.is_some() { SEQUENCE } else { 0 } | if self.ack.is_some() { ACK } else { 0 };
        put(header, field::FLAGS, &flags.to_be_bytes());
        put(header, field::PROTOCOL, &PROTOCOL_PPP.to_be_bytes());
        put(header, field::PAYLOAD_LEN, &self.payload_len.to_be_bytes());
        put(header, field::CALL_ID, &self.call_id.to_be_bytes());
        for (number, at) in [self.seq, self.ack].into_iter().flatten().zip([8, 12]) {
            put(header, at, &number.to_be_bytes());
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "gre_tests.rs"]
mod tests;
