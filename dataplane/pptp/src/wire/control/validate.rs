//! Where a message ends in the stream, and whether it is what it says it is (RFC 2637 §2, §3.1.4).

use super::super::bytes::{u16_at, u32_at};
use super::{COOKIE, ControlType, HEADER_LEN, MAX_MESSAGE_LEN, Sender};

/// What is wrong with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum Malformed {
    /// The Length field is not the one of this type, or not one any message can have.
    #[error("the length field says {length} octets, which this message cannot have")]
    Length {
        /// The Length field.
        length: u16,
    },
    /// The Magic Cookie is another.
    #[error("the magic cookie is {cookie:#010x} instead of 0x1a2b3c4d")]
    Cookie {
        /// The Magic Cookie field.
        cookie: u32,
    },
    /// The PPTP Message Type is not 1.
    #[error("the PPTP message type is {message_type} instead of 1 (control message)")]
    MessageType {
        /// The PPTP Message Type field.
        message_type: u16,
    },
    /// The Control Message Type is not 1 to 15.
    #[error("the control message type is {control_type}; only 1 to 15 are defined")]
    ControlType {
        /// The Control Message Type field.
        control_type: u16,
    },
    /// The other role sends this type.
    #[error("{control_type} came from the side that receives it")]
    Direction {
        /// The type.
        control_type: ControlType,
    },
    /// The stream ended inside a message.
    #[error("the stream ended after {octets} octets of an unfinished message")]
    Truncated {
        /// Octets of the message that came.
        octets: u16,
    },
}

impl Malformed {
    /// All labels, for metrics that want to start at zero.
    pub const LABELS: [&'static str; 6] =
        ["bad_length", "bad_cookie", "bad_message_type", "unknown_control_type", "wrong_direction", "truncated"];

    /// A short stable word for metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Length { .. } => "bad_length",
            Self::Cookie { .. } => "bad_cookie",
            Self::MessageType { .. } => "bad_message_type",
            Self::ControlType { .. } => "unknown_control_type",
            Self::Direction { .. } => "wrong_direction",
            Self::Truncated { .. } => "truncated",
        }
    }
}

/// Length in octets of the message `bytes` begin with; `None` while too few octets have come to know that it is one.
///
/// Each field is judged as soon as its last octet is there, so that nobody waits for the end of what cannot be a message.
/// Not strict: only what framing needs (a possible length, the cookie) is judged.
///
/// # Errors
/// What is wrong. The framing of this stream is lost: the cookie must not be used to find it again (RFC 2637 §2).
pub fn frame(bytes: &[u8], strict: bool) -> Result<Option<usize>, Malformed> {
    let known = bytes.len();
    let length = u16_at(bytes, 0);
    if known >= 2 && !(HEADER_LEN..=MAX_MESSAGE_LEN).contains(&usize::from(length)) {
        return Err(Malformed::Length { length });
    }
    let message_type = u16_at(bytes, 2);
    if strict && known >= 4 && message_type != 1 {
        return Err(Malformed::MessageType { message_type });
    }
    let cookie = u32_at(bytes, 4);
    if known >= 8 && cookie != COOKIE {
        return Err(Malformed::Cookie { cookie });
    }
    let number = u16_at(bytes, 8);
    if strict && known >= 10 {
        let control_type = ControlType::new(number).ok_or(Malformed::ControlType { control_type: number })?;
        if control_type.length() != usize::from(length) {
            return Err(Malformed::Length { length });
        }
    }
    Ok((known >= HEADER_LEN).then_some(usize::from(length)))
}

/// The type of one whole message.
///
/// Strict: length, cookie, message type, control type and direction are those of RFC 2637 (Reserved0 is not looked at:
/// some peers set it). Not strict: a surplus of octets behind a known message is let pass. Direction is judged always: all types
/// that have one are about calls, and the Call ID of one that comes the wrong way could not be translated.
///
/// # Errors
/// What is wrong.
pub fn validate(message: &[u8], from: Sender, strict: bool) -> Result<ControlType, Malformed> {
    let octets = message.len() as u16;
    match frame(message, strict)? {
        Some(length) if length == message.len() => {}
        Some(length) if length < message.len() => return Err(Malformed::Length { length: length as u16 }),
        Some(_) | None => return Err(Malformed::Truncated { octets }),
    }
    let message_type = u16_at(message, 2);
    if message_type != 1 {
        return Err(Malformed::MessageType { message_type });
    }
    let number = u16_at(message, 8);
    let control_type = ControlType::new(number).ok_or(Malformed::ControlType { control_type: number })?;
    if message.len() < control_type.length() {
        return Err(Malformed::Length { length: octets });
    }
    if !control_type.direction().allows(from) {
        return Err(Malformed::Direction { control_type });
    }
    Ok(control_type)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn echo() -> Vec<u8> {
        vec![0, 16, 0, 1, 0x1a, 0x2b, 0x3c, 0x4d, 0, 5, 0, 0, 1, 2, 3, 4]
    }

    fn changed(at: usize, bytes: &[u8]) -> Vec<u8> {
        let mut message = echo();
        message[at..at + bytes.len()].copy_from_slice(bytes);
        message
    }

    #[test]
    fn a_good_message_is_known_by_its_type() {
        assert_eq!(validate(&echo(), Sender::Pac, true), Ok(ControlType::EchoRequest));
        assert_eq!(frame(&echo(), true), Ok(Some(16)));
    }

    #[test]
    fn each_fault_has_its_reason() {
        let bad = |message: &[u8]| validate(message, Sender::Pac, true);
        assert_eq!(bad(&changed(0, &[0, 11])), Err(Malformed::Length { length: 11 }));
        assert_eq!(bad(&changed(0, &[0, 20])), Err(Malformed::Length { length: 20 }));
        assert_eq!(bad(&changed(0, &[0, 221])), Err(Malformed::Length { length: 221 }));
        assert_eq!(bad(&changed(2, &[0, 2])), Err(Malformed::MessageType { message_type: 2 }));
        assert_eq!(bad(&changed(4, &[0])), Err(Malformed::Cookie { cookie: 0x002b_3c4d }));
        assert_eq!(bad(&changed(8, &[0, 16])), Err(Malformed::ControlType { control_type: 16 }));
        assert_eq!(bad(&changed(8, &[0, 0])), Err(Malformed::ControlType { control_type: 0 }));
        assert_eq!(
            bad(&changed(8, &[0, 12])),
            Err(Malformed::Direction { control_type: ControlType::CallClearRequest })
        );
        assert_eq!(bad(&echo()[..15]), Err(Malformed::Truncated { octets: 15 }));
        assert_eq!(bad(&echo()[..3]), Err(Malformed::Truncated { octets: 3 }));
        let mut long = echo();
        long.push(0);
        assert_eq!(bad(&long), Err(Malformed::Length { length: 16 }));
    }

    #[test]
    fn a_fault_shows_at_the_octet_that_makes_it() {
        for (message, octets) in [
            (changed(0, &[0xff, 0xff]), 2),
            (changed(2, &[0, 2]), 4),
            (changed(7, &[0]), 8),
            (changed(8, &[0, 99]), 10),
            (changed(8, &[0, 1]), 10),
        ] {
            assert_eq!(frame(&message[..octets - 1], true), Ok(None), "{message:?}");
            assert!(frame(&message[..octets], true).is_err(), "{message:?}");
        }
    }

    #[test]
    fn permissive_lets_surplus_and_strange_types_be_framed_but_judges_direction() {
        let mut surplus = changed(1, &[18]);
        surplus.extend([0, 0]);
        assert_eq!(validate(&surplus, Sender::Pac, false), Ok(ControlType::EchoRequest));
        let control_type = ControlType::CallClearRequest;
        let direction = validate(&changed(9, &[12]), Sender::Pac, false);
        assert_eq!(direction, Err(Malformed::Direction { control_type }));
        assert_eq!(frame(&changed(9, &[99]), false), Ok(Some(16)));
        assert_eq!(validate(&changed(9, &[99]), Sender::Pac, false), Err(Malformed::ControlType { control_type: 99 }));
        assert_eq!(validate(&changed(9, &[7]), Sender::Pns, false), Err(Malformed::Length { length: 16 }));
        assert_eq!(validate(&changed(3, &[2]), Sender::Pns, false), Err(Malformed::MessageType { message_type: 2 }));
    }

    #[test]
    fn reserved0_is_nobodys_business() {
        assert_eq!(validate(&changed(10, &[0xff, 0xff]), Sender::Pns, true), Ok(ControlType::EchoRequest));
    }

    #[test]
    fn labels_are_complete() {
        let all = [
            Malformed::Length { length: 0 },
            Malformed::Cookie { cookie: 0 },
            Malformed::MessageType { message_type: 0 },
            Malformed::ControlType { control_type: 0 },
            Malformed::Direction { control_type: ControlType::StartRequest },
            Malformed::Truncated { octets: 0 },
        ];
        assert_eq!(all.map(Malformed::label), Malformed::LABELS);
    }

    proptest! {
        #[test]
        fn what_cannot_be_framed_in_part_cannot_be_framed_whole(
            bytes in prop::collection::vec(any::<u8>(), 0..40), good_start in 0usize..12, strict: bool,
        ) {
            let mut bytes = bytes;
            let start = good_start.min(bytes.len());
            bytes[..start].copy_from_slice(&echo()[..start]);
            let whole = frame(&bytes, strict);
            for end in 0..bytes.len() {
                match frame(&bytes[..end], strict) {
                    Err(reason) => prop_assert_eq!(whole, Err(reason)),
                    Ok(Some(length)) => prop_assert_eq!(whole, Ok(Some(length))),
                    Ok(None) => {}
                }
            }
            let _ = validate(&bytes, Sender::Either, strict);
        }
    }
}
