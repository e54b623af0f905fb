//! IPv4 headers: a view that rewrites in place, and a builder (RFC 791).

use std::net::Ipv4Addr;

use super::bytes::{array, put, u8_at, u16_at};
use super::{Error, Result, checksum};

/// Octets of a header without options.
pub const HEADER_LEN: usize = 20;
/// Protocol number of ICMP.
pub const PROTOCOL_ICMP: u8 = 1;
/// Protocol number of TCP.
pub const PROTOCOL_TCP: u8 = 6;
/// Protocol number of GRE.
pub const PROTOCOL_GRE: u8 = 47;

mod field {
    pub(super) const TOS: usize = 1;
    pub(super) const TOTAL_LEN: usize = 2;
    pub(super) const ID: usize = 4;
    pub(super) const FRAGMENT: usize = 6;
    pub(super) const TTL: usize = 8;
    pub(super) const PROTOCOL: usize = 9;
    pub(super) const CHECKSUM: usize = 10;
    pub(super) const SRC: usize = 12;
    pub(super) const DST: usize = 16;
}

const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET: u16 = 0x1fff;

/// A view over one IPv4 packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<T> {
    buffer: T,
}

impl<T: AsRef<[u8]>> Packet<T> {
    /// A view of an output buffer.
    pub const fn new_unchecked(buffer: T) -> Self {
        Self { buffer }
    }

    /// A view of a whole packet. Octets behind its total length (Ethernet padding) are ignored.
    ///
    /// # Errors
    /// Not version 4, or header or total length do not fit the buffer.
    pub fn new_checked(buffer: T) -> Result<Self> {
        let packet = Self::new_embedded(buffer)?;
        let total = packet.total_len();
        if total < packet.header_len() || total > packet.buffer.as_ref().len() { Err(Error) } else { Ok(packet) }
    }

    /// A view of a packet cut off anywhere behind its header, as quoted in an ICMP error.
    ///
    /// # Errors
    /// Not version 4, or the header does not fit the buffer.
    pub fn new_embedded(buffer: T) -> Result<Self> {
        let packet = Self { buffer };
        let bytes = packet.buffer.as_ref();
        let header_len = packet.header_len();
        if bytes.len() < HEADER_LEN || u8_at(bytes, 0) >> 4 != 4 || header_len < HEADER_LEN || header_len > bytes.len()
        {
            return Err(Error);
        }
        Ok(packet)
    }

    /// The buffer back.
    pub fn into_inner(self) -> T {
        self.buffer
    }

    /// Header length in octets, options included.
    pub fn header_len(&self) -> usize {
        usize::from(u8_at(self.buffer.as_ref(), 0) & 0x0f) * 4
    }

    /// Type of service.
    pub fn tos(&self) -> u8 {
        u8_at(self.buffer.as_ref(), field::TOS)
    }

    /// Length of header and payload in octets.
    pub fn total_len(&self) -> usize {
        usize::from(u16_at(self.buffer.as_ref(), field::TOTAL_LEN))
    }

    /// Identification.
    pub fn id(&self) -> u16 {
        u16_at(self.buffer.as_ref(), field::ID)
    }

    /// Whether routers may not fragment it.
    pub fn dont_fragment(&self) -> bool {
        u16_at(self.buffer.as_ref(), field::FRAGMENT) & DONT_FRAGMENT != 0
    }

    /// Whether another fragment follows.
    pub fn more_fragments(&self) -> bool {
        u16_at(self.buffer.as_ref(), field::FRAGMENT) & MORE_FRAGMENTS != 0
    }

    /// Offset of this fragment in octets.
    pub fn fragment_offset(&self) -> usize {
        usize::from(u16_at(self.buffer.as_ref(), field::FRAGMENT) & OFFSET) * 8
    }

    /// Whether it is a part of a datagram only.
    pub fn is_fragment(&self) -> bool {
        u16_at(self.buffer.as_ref(), field::FRAGMENT) & (MORE_FRAGMENTS | OFFSET) != 0
    }

    /// Time to live.
    pub fn ttl(&self) -> u8 {
        u8_at(self.buffer.as_ref(), field::TTL)
    }

    /// Protocol number of the payload.
    pub fn protocol(&self) -> u8 {
        u8_at(self.buffer.as_ref(), field::PROTOCOL)
    }

    /// Header checksum as it stands.
    pub fn checksum(&self) -> u16 {
        u16_at(self.buffer.as_ref(), field::CHECKSUM)
    }

    /// Source address.
    pub fn src(&self) -> Ipv4Addr {
        Ipv4Addr::from(array(self.buffer.as_ref(), field::SRC))
    }

    /// Destination address.
    pub fn dst(&self) -> Ipv4Addr {
        Ipv4Addr::from(array(self.buffer.as_ref(), field::DST))
    }

    /// Whether the header checksum is right.
    pub fn verify_checksum(&self) -> bool {
        self.buffer.as_ref().get(..self.header_len()).is_some_and(|header| checksum::of(header) == 0)
    }

    /// What follows the header, up to the total length or the end of the buffer.
    pub fn payload(&self) -> &[u8] {
        let bytes = self.buffer.as_ref();
        bytes.get(self.header_len()..self.total_len().min(bytes.len())).unwrap_or_default()
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Packet<T> {
    /// Sets the type of service; the checksum is stale afterwards.
    pub fn set_tos(&mut self, tos: u8) {
        put(self.buffer.as_mut(), field::TOS, &[tos]);
    }

    /// Sets the total length in octets; the checksum is stale afterwards.
    pub fn set_total_len(&mut self, length: u16) {
        put(self.buffer.as_mut(), field::TOTAL_LEN, &length.to_be_bytes());
    }

    /// Sets the identification; the checksum is stale afterwards.
    pub fn set_id(&mut self, id: u16) {
        put(self.buffer.as_mut(), field::ID, &id.to_be_bytes());
    }

    /// Sets both flags and the offset (octets, a multiple of 8); the checksum is stale afterwards.
    pub fn set_fragment(&mut self, dont_fragment: bool, more_fragments: bool, offset: usize) {
        let flags = if dont_fragment { DONT_FRAGMENT } else { 0 } | if more_fragments { MORE_FRAGMENTS } else { 0 };
        let word = flags | ((offset / 8) as u16 & OFFSET);
        put(self.buffer.as_mut(), field::FRAGMENT, &word.to_be_bytes());
    }

    /// Sets the time to live; the checksum is stale afterwards.
    pub fn set_ttl(&mut self, ttl: u8) {
        put(self.buffer.as_mut(), field::TTL, &[ttl]);
    }

    /// Sets the protocol number; the checksum is stale afterwards.
    pub fn set_protocol(&mut self, protocol: u8) {
        put(self.buffer.as_mut(), field::PROTOCOL, &[protocol]);
    }

    /// Sets the source address; the checksum is stale afterwards.
    pub fn set_src(&mut self, address: Ipv4Addr) {
        put(self.buffer.as_mut(), field::SRC, &address.octets());
    }

    /// Sets the destination address; the checksum is stale afterwards.
    pub fn set_dst(&mut self, address: Ipv4Addr) {
        put(self.buffer.as_mut(), field::DST, &address.octets());
    }

    /// Sets the header checksum.
    pub fn set_checksum(&mut self, value: u16) {
        put(self.buffer.as_mut(), field::CHECKSUM, &value.to_be_bytes());
    }

    /// Computes the header checksum anew.
    pub fn fill_checksum(&mut self) {
        self.set_checksum(0);
        let value = self.buffer.as_ref().get(..self.header_len()).map_or(0, checksum::of);
        self.set_checksum(value);
    }

    /// Sets the source address and carries the checksum along, right or wrong as it was.
    pub fn rewrite_src(&mut self, address: Ipv4Addr) {
        let value = checksum::update_u32(self.checksum(), self.src().to_bits(), address.to_bits());
        self.set_src(address);
        self.set_checksum(value);
    }

    /// Sets the destination address and carries the checksum along.
    pub fn rewrite_dst(&mut self, address: Ipv4Addr) {
        let value = checksum::update_u32(self.checksum(), self.dst().to_bits(), address.to_bits());
        self.set_dst(address);
        self.set_checksum(value);
    }

    /// What forwarding and NAT do to a header: one hop less, and these addresses; the checksum is carried along.
    pub fn readdress(&mut self, src: Ipv4Addr, dst: Ipv4Addr) {
        self.decrement_ttl();
        self.rewrite_src(src);
        self.rewrite_dst(dst);
    }

    /// Takes one hop off and carries the checksum along; false, and nothing done, if none is left to take.
    pub fn decrement_ttl(&mut self) -> bool {
        let ttl = self.ttl();
        if ttl <= 1 {
            return false;
        }
        let protocol = u16::from(self.protocol());
        let word = |ttl: u8| (u16::from(ttl) << 8) | protocol;
        let value = checksum::update_u16(self.checksum(), word(ttl), word(ttl - 1));
        self.set_ttl(ttl - 1);
        self.set_checksum(value);
        true
    }

    /// What follows the header, to be changed.
    pub fn payload_mut(&mut self) -> &mut [u8] {
        let start = self.header_len();
        let end = self.total_len().min(self.buffer.as_ref().len());
        self.buffer.as_mut().get_mut(start..end).unwrap_or_default()
    }
}

/// A header without options, of a datagram that is not a fragment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repr {
    /// Source address.
    pub src: Ipv4Addr,
    /// Destination address.
    pub dst: Ipv4Addr,
    /// Protocol number of the payload.
    pub protocol: u8,
    /// Type of service.
    pub tos: u8,
    /// Time to live.
    pub ttl: u8,
    /// Identification.
    pub id: u16,
    /// Whether routers may not fragment it.
    pub dont_fragment: bool,
    /// Length of the payload in octets.
    pub payload_len: usize,
}

impl Repr {
    /// The values of a packet.
    ///
    /// # Errors
    /// It is a fragment, carries options, or its checksum is wrong.
    pub fn parse<T: AsRef<[u8]>>(packet: &Packet<T>) -> Result<Self> {
        if packet.is_fragment() || packet.header_len() != HEADER_LEN || !packet.verify_checksum() {
            return Err(Error);
        }
        Ok(Self {
            src: packet.src(),
            dst: packet.dst(),
            protocol: packet.protocol(),
            tos: packet.tos(),
            ttl: packet.ttl(),
            id: packet.id(),
            dont_fragment: packet.dont_fragment(),
            payload_len: packet.total_len().saturating_sub(HEADER_LEN),
        })
    }

    /// Octets `emit` writes.
    pub const fn buffer_len(&self) -> usize {
        HEADER_LEN
    }

    /// Writes the header, checksum included, to the start of `buffer`.
    ///
    /// # Errors
    /// `buffer` is shorter than a header, or the datagram longer than 65,535 octets.
    pub fn emit(&self, buffer: &mut [u8]) -> Result<()> {
        let total = u16::try_from(HEADER_LEN + self.payload_len).map_err(|_| Error)?;
        let header = buffer.get_mut(..HEADER_LEN).ok_or(Error)?;
        put(header, 0, &[0x45]);
        let mut packet = Packet::new_unchecked(header);
        packet.set_tos(self.tos);
        packet.set_total_len(total);
        packet.set_id(self.id);
        packet.set_fragment(self.dont_fragment, false, 0);
        packet.set_ttl(self.ttl);
        packet.set_protocol(self.protocol);
        packet.set_src(self.src);
        packet.set_dst(self.dst);
        packet.fill_checksum();
        Ok(())
    }
}

#[cfg(test)]
#[path = "ipv4_tests.rs"]
mod tests;
