//! Any of the 15 control messages.

use super::super::{Error, Result};
use super::*;

macro_rules! messages {
    ($($name:ident),* $(,)?) => {
        /// One control message.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Message {
            $(
                #[doc = concat!("See [`", stringify!($name), "`].")]
                $name($name),
            )*
        }

        impl Message {
            /// The values of one whole message. Octets behind it are ignored.
            ///
            /// # Errors
            /// Its type is none of the 15, or it is too short for it.
            pub fn parse(bytes: &[u8]) -> Result<Self> {
                match ControlType::new(Header::parse(bytes)?.control_type).ok_or(Error)? {
                    $(ControlType::$name => $name::parse(bytes).map(Self::$name),)*
                }
            }

            /// Its type.
            pub const fn control_type(&self) -> ControlType {
                match self { $(Self::$name(_) => ControlType::$name,)* }
            }

            /// Octets `emit` writes.
            pub const fn buffer_len(&self) -> usize {
                self.control_type().length()
            }

            /// Writes the message to the start of `buffer`.
            ///
            /// # Errors
            /// `buffer` is shorter than the message.
            pub fn emit(&self, buffer: &mut [u8]) -> Result<()> {
                match self { $(Self::$name(message) => message.emit(buffer),)* }
            }
        }

        $(impl From<$name> for Message {
            fn from(message: $name) -> Self {
                Self::$name(message)
            }
        })*
    };
}

messages!(
    StartRequest,
    StartReply,
    StopRequest,
    StopReply,
    EchoRequest,
    EchoReply,
    OutgoingCallRequest,
    OutgoingCallReply,
    IncomingCallRequest,
    IncomingCallReply,
    IncomingCallConnected,
    CallClearRequest,
    CallDisconnectNotify,
    WanErrorNotify,
    SetLinkInfo,
);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_octets_in_a_good_frame_are_given_back_the_same(
            control_type in prop::sample::select(&ControlType::ALL[..]),
            reserved0: u16,
            body in prop::collection::vec(any::<u8>(), MAX_MESSAGE_LEN),
        ) {
            let length = control_type.length();
            let mut bytes = body;
            bytes.truncate(length);
            let header = Header { length: length as u16, message_type: 1, cookie: COOKIE, control_type: control_type as u16, reserved0 };
            header.emit(&mut bytes).unwrap();
            prop_assert_eq!(validate(&bytes, Sender::Either, true), Ok(control_type));
            let message = Message::parse(&bytes).unwrap();
            prop_assert_eq!(message.control_type(), control_type);
            let mut again = vec![0xa5; message.buffer_len()];
            message.emit(&mut again).unwrap();
            prop_assert_eq!(again, bytes);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..240), number in 0u8..17) {
            let mut bytes = bytes;
            crate::wire::bytes::put(&mut bytes, 8, &[0, number]);
            if let Ok(message) = Message::parse(&bytes) {
                let mut short = vec![0; bytes.len() / 2];
                let _ = message.emit(&mut short);
            }
        }
    }
}
