//! ICMP error messages: what went wrong, and the datagram they quote (RFC 792, RFC 1191).

use super::bytes::{put, u8_at, u16_at};
use super::{Error, Result, checksum, ipv4};

/// Octets before the quoted datagram.
pub const HEADER_LEN: usize = 8;
/// Type: the destination cannot be reached.
pub const DESTINATION_UNREACHABLE: u8 = 3;
/// Type: discarded on the way, time to live or reassembly time used up.
pub const TIME_EXCEEDED: u8 = 11;
/// Type: a header field is wrong.
pub const PARAMETER_PROBLEM: u8 = 12;
/// Code of type 3: nobody there takes this protocol. One of these about GRE ends every pptpd call of an address.
pub const PROTOCOL_UNREACHABLE: u8 = 2;
/// Code of type 3: too big for the next link and not to be fragmented; the MTU of that link is in the header.
pub const FRAGMENTATION_NEEDED: u8 = 4;

mod field {
    pub(super) const TYPE: usize = 0;
    pub(super) const CODE: usize = 1;
    pub(super) const CHECKSUM: usize = 2;
    pub(super) const MTU: usize = 6;
}

/// A view over one ICMP message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<T> {
    buffer: T,
}

impl<T: AsRef<[u8]>> Packet<T> {
    /// A view of an output buffer.
    pub const fn new_unchecked(buffer: T) -> Self {
        Self { buffer }
    }

    /// A view of a received message.
    ///
    /// # Errors
    /// Shorter than its header.
    pub fn new_checked(buffer: T) -> Result<Self> {
        if buffer.as_ref().len() < HEADER_LEN { Err(Error) } else { Ok(Self { buffer }) }
    }

    /// Type.
    pub fn kind(&self) -> u8 {
        u8_at(self.buffer.as_ref(), field::TYPE)
    }

    /// Code.
    pub fn code(&self) -> u8 {
        u8_at(self.buffer.as_ref(), field::CODE)
    }

    /// Checksum as it stands.
    pub fn checksum(&self) -> u16 {
        u16_at(self.buffer.as_ref(), field::CHECKSUM)
    }

    /// MTU of the next link in octets; only fragmentation-needed has one, and old routers leave it zero.
    pub fn mtu(&self) -> u16 {
        u16_at(self.buffer.as_ref(), field::MTU)
    }

    /// Whether it reports an error about a datagram it quotes.
    pub fn is_error(&self) -> bool {
        matches!(self.kind(), DESTINATION_UNREACHABLE | TIME_EXCEEDED | PARAMETER_PROBLEM)
    }

    /// Whether it is fragmentation-needed.
    pub fn is_fragmentation_needed(&self) -> bool {
        (self.kind(), self.code()) == (DESTINATION_UNREACHABLE, FRAGMENTATION_NEEDED)
    }

    /// Whether it is protocol-unreachable.
    pub fn is_protocol_unreachable(&self) -> bool {
        (self.kind(), self.code()) == (DESTINATION_UNREACHABLE, PROTOCOL_UNREACHABLE)
    }

    /// Whether the checksum is right.
    pub fn verify_checksum(&self) -> bool {
        checksum::of(self.buffer.as_ref()) == 0
    }

    /// The quoted datagram: an IPv4 header and at least 8 octets of its payload.
    ///
    /// # Errors
    /// Not an error message, or the quotation is shorter than that.
    pub fn original(&self) -> Result<ipv4::Packet<&[u8]>> {
        if !self.is_error() {
            return Err(Error);
        }
        let original = ipv4::Packet::new_embedded(self.buffer.as_ref().get(HEADER_LEN..).unwrap_or_default())?;
        if original.payload().len() < 8 { Err(Error) } else { Ok(original) }
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Packet<T> {
    /// Sets the MTU in octets; the checksum is stale afterwards.
    pub fn set_mtu(&mut self, mtu: u16) {
        put(self.buffer.as_mut(), field::MTU, &mtu.to_be_bytes());
    }

    /// The quoted octets, to be changed; the checksum is stale afterwards.
    pub fn original_mut(&mut self) -> &mut [u8] {
        self.buffer.as_mut().get_mut(HEADER_LEN..).unwrap_or_default()
    }

    /// Computes the checksum anew, over the whole buffer.
    pub fn fill_checksum(&mut self) {
        put(self.buffer.as_mut(), field::CHECKSUM, &[0, 0]);
        let value = checksum::of(self.buffer.as_ref());
        put(self.buffer.as_mut(), field::CHECKSUM, &value.to_be_bytes());
    }
}

/// An ICMP error message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repr<'a> {
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// MTU of the next link in octets, zero where the kind has none.
    pub mtu: u16,
    /// The quoted datagram from its IPv4 header on, cut where the caller likes.
    pub original: &'a [u8],
}

impl<'a> Repr<'a> {
    /// Fragmentation needed, quoting `original`; `mtu` in octets.
    pub const fn fragmentation_needed(mtu: u16, original: &'a [u8]) -> Self {
        Self { kind: DESTINATION_UNREACHABLE, code: FRAGMENTATION_NEEDED, mtu, original }
    }

    /// The values of a message.
    ///
    /// # Errors
    /// Not an error message with a usable quotation, or its checksum is wrong.
    pub fn parse(packet: &Packet<&'a [u8]>) -> Result<Self> {
        packet.original()?;
        if !packet.verify_checksum() {
            return Err(Error);
        }
        let original = packet.buffer.get(HEADER_LEN..).unwrap_or_default();
        Ok(Self { kind: packet.kind(), code: packet.code(), mtu: packet.mtu(), original })
    }

    /// Octets `emit` writes.
    pub const fn buffer_len(&self) -> usize {
        HEADER_LEN + self.original.len()
    }

    /// Writes the message, checksum included, to the start of `buffer`.
    ///
    /// # Errors
    /// `buffer` is shorter than the message.
    pub fn emit(&self, buffer: &mut [u8]) -> Result<()> {
        let message = buffer.get_mut(..self.buffer_len()).ok_or(Error)?;
        put(message, 0, &[self.kind, self.code, 0, 0, 0, 0]);
        put(message, HEADER_LEN, self.original);
        let mut packet = Packet::new_unchecked(message);
        packet.set_mtu(self.mtu);
        packet.fill_checksum();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Fragmentation needed (MTU 1400) about a GRE packet of 1,500 octets, 8 octets of it quoted.
    static MESSAGE: [u8; 36] = [
        0x03, 0x04, 0x39, 0xb4, 0x00, 0x00, 0x05, 0x78, 0x45, 0x00, 0x05, 0xdc, 0x03, 0xbc, 0x40, 0x00, 0x80, 0x2f,
        0xdb, 0x20, 0x0a, 0x01, 0x01, 0x0b, 0x0a, 0x01, 0x01, 0x0a, 0x30, 0x01, 0x88, 0x0b, 0x05, 0xbc, 0x00, 0x07,
    ];

    #[test]
    fn deconstruct() {
        let packet = Packet::new_checked(&MESSAGE[..]).unwrap();
        assert_eq!((packet.kind(), packet.code(), packet.mtu()), (3, 4, 1400));
        assert!(packet.is_error() && packet.is_fragmentation_needed() && !packet.is_protocol_unreachable());
        assert!(packet.verify_checksum());
        let original = packet.original().unwrap();
        assert_eq!((original.protocol(), original.total_len()), (ipv4::PROTOCOL_GRE, 1500));
        assert_eq!(super::super::gre::Packet::new_embedded(original.payload()).unwrap().call_id(), 7);
    }

    #[test]
    fn construct() {
        let mut bytes = [0xa5; 36];
        bytes[..6].copy_from_slice(&[3, 4, 0xa5, 0xa5, 0, 0]);
        let mut packet = Packet::new_unchecked(&mut bytes[..]);
        packet.set_mtu(1400);
        packet.original_mut().copy_from_slice(&MESSAGE[8..]);
        packet.fill_checksum();
        assert_eq!(bytes, MESSAGE);
    }

    #[test]
    fn parse() {
        let packet = Packet::new_checked(&MESSAGE[..]).unwrap();
        assert_eq!(Repr::parse(&packet), Ok(Repr::fragmentation_needed(1400, &MESSAGE[8..])));
    }

    #[test]
    fn emit() {
        let mut bytes = [0xa5; 40];
        Repr::fragmentation_needed(1400, &MESSAGE[8..]).emit(&mut bytes).unwrap();
        assert_eq!(bytes[..36], MESSAGE);
        assert_eq!(bytes[36..], [0xa5; 4]);
        assert_eq!(Repr::fragmentation_needed(1400, &MESSAGE[8..]).emit(&mut bytes[..35]), Err(Error));
    }

    #[test]
    fn a_short_quotation_and_an_echo_have_no_original() {
        assert!(Packet::new_checked(&MESSAGE[..35]).unwrap().original().is_err());
        let mut echo = MESSAGE;
        echo[0] = 8;
        assert!(Packet::new_checked(&echo[..]).unwrap().original().is_err());
        assert!(Packet::new_checked(&MESSAGE[..7]).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..80), kind in 0u8..13) {
            put(&mut bytes, 0, &[kind]);
            if let Ok(packet) = Packet::new_checked(&bytes[..]) {
                let _ = (Repr::parse(&packet), packet.original());
            }
            let mut packet = Packet::new_unchecked(&mut bytes[..]);
            packet.set_mtu(1);
            packet.fill_checksum();
            let _ = packet.original_mut();
        }
    }
}
