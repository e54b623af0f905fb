//! How a message's table of fields becomes a type with `parse` and `emit`.

use super::super::bytes::{array, put, u8_at, u16_at, u32_at};

/// A value of fixed size inside a message.
pub(super) trait Field: Copy {
    /// Octets.
    const SIZE: usize;
    /// Reads it at `at`.
    fn get(bytes: &[u8], at: usize) -> Self;
    /// Writes it at `at`.
    fn put(self, bytes: &mut [u8], at: usize);
}

impl Field for u8 {
    const SIZE: usize = 1;
    fn get(bytes: &[u8], at: usize) -> Self {
        u8_at(bytes, at)
    }
    fn put(self, bytes: &mut [u8], at: usize) {
        put(bytes, at, &[self]);
    }
}

impl Field for u16 {
    const SIZE: usize = 2;
    fn get(bytes: &[u8], at: usize) -> Self {
        u16_at(bytes, at)
    }
    fn put(self, bytes: &mut [u8], at: usize) {
        put(bytes, at, &self.to_be_bytes());
    }
}

impl Field for u32 {
    const SIZE: usize = 4;
    fn get(bytes: &[u8], at: usize) -> Self {
        u32_at(bytes, at)
    }
    fn put(self, bytes: &mut [u8], at: usize) {
        put(bytes, at, &self.to_be_bytes());
    }
}

impl<const N: usize> Field for [u8; N] {
    const SIZE: usize = N;
    fn get(bytes: &[u8], at: usize) -> Self {
        array(bytes, at)
    }
    fn put(self, bytes: &mut [u8], at: usize) {
        put(bytes, at, &self);
    }
}

/// A message: its name (also in [`super::ControlType`]), then each field with its offset.
///
/// The build fails unless the fields lie end to end from offset 12 to the length of the type, so nothing is lost by
/// `parse` and nothing is left unwritten by `emit`.
macro_rules! message {
    ($(#[$doc:meta])* $name:ident { $($(#[$fdoc:meta])* $field:ident: $type:ty = $at:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct $name {
            /// Header: zero by the book, kept as it came.
            pub reserved0: u16,
            $($(#[$fdoc])* pub $field: $type,)*
        }

        const _: () = {
            let mut end = $crate::wire::control::HEADER_LEN;
            $(
                assert!($at == end, "fields must lie end to end");
                end += <$type as $crate::wire::control::codec::Field>::SIZE;
            )*
            assert!(end == $crate::wire::control::ControlType::$name.length(), "fields must fill the message");
        };

        impl $name {
            /// Its number in the header.
            pub const TYPE: $crate::wire::control::ControlType = $crate::wire::control::ControlType::$name;

            /// The values of one whole message, as [`super::validate`] let it pass. Octets behind it are ignored.
            ///
            /// # Errors
            /// It is of another type, or too short.
            pub fn parse(bytes: &[u8]) -> $crate::wire::Result<Self> {
                let header = $crate::wire::control::Header::parse(bytes)?;
                if header.control_type != Self::TYPE as u16 || bytes.len() < Self::TYPE.length() {
                    return Err($crate::wire::Error);
                }
                Ok(Self {
                    reserved0: header.reserved0,
                    $($field: $crate::wire::control::codec::Field::get(bytes, $at),)*
                })
            }

            /// Octets `emit` writes.
            pub const fn buffer_len(&self) -> usize {
                Self::TYPE.length()
            }

            /// Writes the message to the start of `buffer`.
            ///
            /// # Errors
            /// `buffer` is shorter than the message.
            pub fn emit(&self, buffer: &mut [u8]) -> $crate::wire::Result<()> {
                let length = Self::TYPE.length();
                let message = buffer.get_mut(..length).ok_or($crate::wire::Error)?;
                $crate::wire::control::Header {
                    length: length as u16,
                    message_type: 1,
                    cookie: $crate::wire::control::COOKIE,
                    control_type: Self::TYPE as u16,
                    reserved0: self.reserved0,
                }
                .emit(message)?;
                $($crate::wire::control::codec::Field::put(self.$field, message, $at);)*
                Ok(())
            }

            /// The message as bytes.
            pub fn to_bytes(&self) -> Vec<u8> {
                let mut bytes = vec![0; self.buffer_len()];
                // Cannot fail: the buffer has just the length asked for.
                let _ = self.emit(&mut bytes);
                bytes
            }
        }
    };
}
pub(super) use message;
