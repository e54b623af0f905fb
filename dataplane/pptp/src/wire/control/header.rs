//! The twelve octets every control message begins with, and the two places a Call ID can have (RFC 2637 §2).

use super::super::bytes::{put, u16_at, u32_at};
use super::super::{Error, Result};

/// Octets of the header.
pub const HEADER_LEN: usize = 12;
/// Octets of the longest message (Incoming-Call-Request).
pub const MAX_MESSAGE_LEN: usize = 220;
/// The constant every message carries; not meant for finding back into a stream that lost its framing.
pub const COOKIE: u32 = 0x1a2b_3c4d;

/// A message header, taken as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Length of the whole message in octets.
    pub length: u16,
    /// 1 for control messages; RFC 2637 defines no use of 2 (management).
    pub message_type: u16,
    /// [`COOKIE`].
    pub cookie: u32,
    /// 1 to 15.
    pub control_type: u16,
    /// Zero by the book; some peers set it.
    pub reserved0: u16,
}

impl Header {
    /// Reads the first twelve octets.
    ///
    /// # Errors
    /// There are fewer.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        if bytes.len() < HEADER_LEN {
            return Err(Error);
        }
        Ok(Self {
            length: u16_at(bytes, 0),
            message_type: u16_at(bytes, 2),
            cookie: u32_at(bytes, 4),
            control_type: u16_at(bytes, 8),
            reserved0: u16_at(bytes, 10),
        })
    }

    /// Octets `emit` writes.
    pub const fn buffer_len(&self) -> usize {
        HEADER_LEN
    }

    /// Writes the header to the start of `buffer`.
    ///
    /// # Errors
    /// `buffer` is shorter than a header.
    pub fn emit(&self, buffer: &mut [u8]) -> Result<()> {
        let header = buffer.get_mut(..HEADER_LEN).ok_or(Error)?;
        put(header, 0, &self.length.to_be_bytes());
        put(header, 2, &self.message_type.to_be_bytes());
        put(header, 4, &self.cookie.to_be_bytes());
        put(header, 8, &self.control_type.to_be_bytes());
        put(header, 10, &self.reserved0.to_be_bytes());
        Ok(())
    }
}

/// The 16 bits at offset 12: the Call ID of types 7–13, the peer's Call ID of types 11, 14 and 15.
pub fn field12(message: &[u8]) -> u16 {
    u16_at(message, 12)
}

/// The 16 bits at offset 14: the peer's Call ID of types 8 and 10.
pub fn field14(message: &[u8]) -> u16 {
    u16_at(message, 14)
}

/// Writes the 16 bits at offset 12; nothing in a shorter message.
pub fn set_field12(message: &mut [u8], value: u16) {
    put(message, 12, &value.to_be_bytes());
}

/// Writes the 16 bits at offset 14; nothing in a shorter message.
pub fn set_field14(message: &mut [u8], value: u16) {
    put(message, 14, &value.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    static HEADER: [u8; 12] = [0x00, 0x20, 0x00, 0x01, 0x1a, 0x2b, 0x3c, 0x4d, 0x00, 0x08, 0x12, 0x34];

    fn header() -> Header {
        Header { length: 32, message_type: 1, cookie: COOKIE, control_type: 8, reserved0: 0x1234 }
    }

    #[test]
    fn parse() {
        assert_eq!(Header::parse(&HEADER), Ok(header()));
        assert_eq!(Header::parse(&HEADER[..11]), Err(Error));
    }

    #[test]
    fn emit() {
        let mut bytes = [0xa5; 13];
        header().emit(&mut bytes).unwrap();
        assert_eq!(bytes[..12], HEADER);
        assert_eq!(bytes[12], 0xa5);
        assert_eq!(header().emit(&mut bytes[..11]), Err(Error));
    }

    #[test]
    fn the_call_id_places_are_read_and_written() {
        let mut bytes = [0; 16];
        set_field12(&mut bytes, 0x1122);
        set_field14(&mut bytes, 0x3344);
        assert_eq!(bytes[12..], [0x11, 0x22, 0x33, 0x44]);
        assert_eq!((field12(&bytes), field14(&bytes)), (0x1122, 0x3344));
        set_field14(&mut bytes[..15], 0x5566);
        assert_eq!((field14(&bytes), field14(&bytes[..15])), (0x3344, 0));
    }
}
