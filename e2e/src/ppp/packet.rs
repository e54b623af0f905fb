//! PPP packets: protocol numbers, control packets (RFC 1661 section 5) and their options.

/// IPv4 (RFC 1332).
pub const IPV4: u16 = 0x0021;
/// Link Control Protocol (RFC 1661).
pub const LCP: u16 = 0xc021;
/// IP Control Protocol (RFC 1332).
pub const IPCP: u16 = 0x8021;

/// Codes of control packets (RFC 1661 section 5).
pub mod code {
    /// Configure-Request.
    pub const CONFIGURE_REQUEST: u8 = 1;
    /// Configure-Ack.
    pub const CONFIGURE_ACK: u8 = 2;
    /// Configure-Nak.
    pub const CONFIGURE_NAK: u8 = 3;
    /// Configure-Reject.
    pub const CONFIGURE_REJECT: u8 = 4;
    /// Terminate-Request.
    pub const TERMINATE_REQUEST: u8 = 5;
    /// Terminate-Ack.
    pub const TERMINATE_ACK: u8 = 6;
    /// Code-Reject.
    pub const CODE_REJECT: u8 = 7;
    /// Protocol-Reject (LCP only).
    pub const PROTOCOL_REJECT: u8 = 8;
    /// Echo-Request (LCP only).
    pub const ECHO_REQUEST: u8 = 9;
    /// Echo-Reply (LCP only).
    pub const ECHO_REPLY: u8 = 10;
    /// Discard-Request (LCP only).
    pub const DISCARD_REQUEST: u8 = 11;
}

/// One configuration option: type and value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opt {
    /// Type number.
    pub kind: u8,
    /// Value without type and length.
    pub value: Vec<u8>,
}

/// A control packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Control {
    /// One of `code`.
    pub code: u8,
    /// Matches replies to requests.
    pub id: u8,
    /// What follows the length field.
    pub data: Vec<u8>,
}

impl Control {
    /// Reads a control packet; `None` if its length field is wrong. Padding after it is dropped.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (&[code, id, high, low], _) = bytes.split_first_chunk::<4>()?;
        let data = bytes.get(4..usize::from(u16::from_be_bytes([high, low])))?;
        Some(Self { code, id, data: data.to_vec() })
    }

    /// The packet behind its protocol number, with the address and control fields every HDLC peer takes.
    pub fn frame(&self, protocol: u16) -> Vec<u8> {
        let mut bytes = vec![0xff, 0x03];
        bytes.extend(protocol.to_be_bytes());
        bytes.extend([self.code, self.id]);
        bytes.extend((self.data.len() as u16 + 4).to_be_bytes());
        bytes.extend(&self.data);
        bytes
    }
}

/// Reads options; `None` if a length is wrong.
pub fn parse_options(mut bytes: &[u8]) -> Option<Vec<Opt>> {
    let mut options = Vec::new();
    while let Some((&[kind, length], _)) = bytes.split_first_chunk::<2>() {
        let value = bytes.get(2..usize::from(length))?.to_vec();
        options.push(Opt { kind, value });
        bytes = &bytes[usize::from(length)..];
    }
    bytes.is_empty().then_some(options)
}

/// Writes options.
pub fn write_options(options: &[Opt]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for option in options {
        bytes.extend([option.kind, option.value.len() as u8 + 2]);
        bytes.extend(&option.value);
    }
    bytes
}

/// Takes address, control and protocol off a frame, compressed or not (RFC 1661 section 6.5 and 6.6).
pub fn split_frame(frame: &[u8]) -> Option<(u16, &[u8])> {
    let frame = frame.strip_prefix(&[0xff, 0x03]).unwrap_or(frame);
    match frame {
        [short, rest @ ..] if short & 1 == 1 => Some((u16::from(*short), rest)),
        [high, low, rest @ ..] => Some((u16::from_be_bytes([*high, *low]), rest)),
        [_] | [] => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_packets_and_options_survive_the_round_trip() {
        let options = vec![Opt { kind: 5, value: vec![1, 2, 3, 4] }, Opt { kind: 7, value: vec![] }];
        let packet = Control { code: code::CONFIGURE_REQUEST, id: 9, data: write_options(&options) };
        let frame = packet.frame(LCP);
        let (protocol, body) = split_frame(&frame).unwrap();
        assert_eq!((protocol, Control::parse(body)), (LCP, Some(packet.clone())));
        assert_eq!(parse_options(&packet.data), Some(options));
    }

    #[test]
    fn wrong_lengths_are_refused() {
        assert_eq!(Control::parse(&[1, 1, 0, 9, 0]), None);
        assert_eq!(Control::parse(&[1, 1, 0, 3]), None);
        assert_eq!(parse_options(&[3, 1]), None);
        assert_eq!(parse_options(&[3, 6, 0]), None);
        assert_eq!(parse_options(&[3]), None);
    }

    #[test]
    fn compressed_protocol_numbers_are_read() {
        assert_eq!(split_frame(&[0x21, 0x45]), Some((IPV4, &[0x45][..])));
        assert_eq!(split_frame(&[0xff, 0x03, 0x00, 0x21, 0x45]), Some((IPV4, &[0x45][..])));
        assert_eq!(split_frame(&[0xc0]), None);
    }
}
