//! The same tests for each message codec, from one literal message.

use super::{COOKIE, Header};

/// A message of `length` zero octets with its header, then `parts` at their offsets.
pub(super) fn message(length: u16, control_type: u16, parts: &[(usize, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0; usize::from(length)];
    Header { length, message_type: 1, cookie: COOKIE, control_type, reserved0: 0 }.emit(&mut bytes).unwrap();
    for (at, part) in parts {
        bytes[*at..*at + part.len()].copy_from_slice(part);
    }
    bytes
}

/// A text padded with zeros.
pub(super) fn text<const N: usize>(text: &[u8]) -> [u8; N] {
    let mut padded = [0; N];
    padded[..text.len()].copy_from_slice(text);
    padded
}

/// `deconstruct`, `construct`, `parse`, `emit` for each named message.
macro_rules! codec_tests {
    ($($name:ident: $type:ident { bytes: $bytes:expr, value: $value:expr })*) => { $(
        mod $name {
            use super::*;

            #[test]
            fn deconstruct() {
                let bytes = $bytes;
                let header = crate::wire::control::Header::parse(&bytes).unwrap();
                assert_eq!(header.length as usize, bytes.len());
                assert_eq!((header.message_type, header.cookie), (1, 0x1a2b_3c4d));
                assert_eq!((header.control_type, header.reserved0), ($type::TYPE as u16, 0));
                assert_eq!(crate::wire::control::field12(&bytes).to_be_bytes(), bytes[12..14]);
                assert_eq!(crate::wire::control::field14(&bytes).to_be_bytes(), bytes[14..16]);
            }

            #[test]
            fn construct() {
                let want = $bytes;
                let mut bytes = want.clone();
                bytes[12..16].fill(0xa5);
                crate::wire::control::set_field12(&mut bytes, crate::wire::control::field12(&want));
                crate::wire::control::set_field14(&mut bytes, crate::wire::control::field14(&want));
                assert_eq!(bytes, want);
            }

            #[test]
            fn parse() {
                let bytes = $bytes;
                assert_eq!($type::parse(&bytes), Ok($value));
                assert!($type::parse(&bytes[..bytes.len() - 1]).is_err());
                let mut other = bytes.clone();
                other[9] ^= 0x40;
                assert!($type::parse(&other).is_err());
            }

            #[test]
            fn emit() {
                let value = $value;
                let mut bytes = vec![0xa5; value.buffer_len() + 1];
                value.emit(&mut bytes).unwrap();
                assert_eq!(bytes.pop(), Some(0xa5));
                assert_eq!(bytes, $bytes);
                assert_eq!(value.to_bytes(), $bytes);
                assert!(value.emit(&mut bytes[1..]).is_err());
            }
        }
    )* };
}
pub(super) use codec_tests;
