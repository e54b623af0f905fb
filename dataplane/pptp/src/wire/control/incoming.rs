//! Incoming-Call-Request, -Reply and -Connected: the calls a PAC offers (RFC 2637 §2.9–§2.11).

use super::codec::message;
use super::{GeneralError, IncomingResult};

message! {
    /// Type 9: a call came in at the PAC.
    IncomingCallRequest {
        /// The PAC's Call ID: the PNS puts it into the GRE it sends.
        call_id: u16 = 12,
        /// Number of this call in the PAC's logs.
        serial: u16 = 14,
        /// 1 analogue, 2 digital.
        bearer: u32 = 16,
        /// The PAC's physical channel.
        physical_channel: u32 = 20,
        /// Octets used of `dialed_number`.
        dialed_number_length: u16 = 24,
        /// Octets used of `dialing_number`.
        dialing_number_length: u16 = 26,
        /// Number that was called.
        dialed_number: [u8; 64] = 28,
        /// Number of the caller.
        dialing_number: [u8; 64] = 92,
        /// More of the number that was called.
        subaddress: [u8; 64] = 156,
    }
}

message! {
    /// Type 10: the PNS answers it.
    IncomingCallReply {
        /// The PNS's Call ID: the PAC puts it into the GRE it sends.
        call_id: u16 = 12,
        /// The PAC's Call ID, from the request.
        peer_call_id: u16 = 14,
        /// Outcome.
        result: IncomingResult = 16,
        /// More about it.
        error: GeneralError = 17,
        /// Packets the PNS buffers for this call.
        window: u16 = 18,
        /// Delay the PNS causes, 1/10 s.
        transit_delay: u16 = 20,
        /// Zero by the book.
        reserved1: u16 = 22,
    }
}

message! {
    /// Type 11: the PAC has connected the call.
    IncomingCallConnected {
        /// The PNS's Call ID, from the reply.
        peer_call_id: u16 = 12,
        /// Zero by the book.
        reserved1: u16 = 14,
        /// Line speed, bit/s.
        connect_speed: u32 = 16,
        /// Packets the PAC buffers for this call.
        window: u16 = 20,
        /// Delay the PAC causes, 1/10 s.
        transit_delay: u16 = 22,
        /// 1 asynchronous, 2 synchronous.
        framing: u32 = 24,
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_support::{codec_tests, message, text};
    use super::*;

    codec_tests! {
        request: IncomingCallRequest {
            bytes: message(220, 9, &[
                (12, &[0x00, 0x80, 0x00, 0x05, 0x00, 0x00, 0x00, 0x02, 0x00, 0x00, 0x00, 0x07, 0x00, 0x03, 0x00, 0x02]),
                (28, b"100"), (92, b"42"), (156, b"9"),
            ]),
            value: IncomingCallRequest {
                reserved0: 0, call_id: 128, serial: 5, bearer: 2, physical_channel: 7, dialed_number_length: 3,
                dialing_number_length: 2, dialed_number: text(b"100"), dialing_number: text(b"42"),
                subaddress: text(b"9"),
            }
        }
        reply: IncomingCallReply {
            bytes: message(24, 10, &[(12, &[0x12, 0x34, 0x00, 0x80, 1, 0, 0x00, 0x40, 0x00, 0x0a, 0, 0])]),
            value: IncomingCallReply {
                reserved0: 0, call_id: 0x1234, peer_call_id: 128, result: IncomingResult::Connect,
                error: GeneralError::None, window: 64, transit_delay: 10, reserved1: 0,
            }
        }
        connected: IncomingCallConnected {
            bytes: message(28, 11, &[(12, &[
                0x12, 0x34, 0, 0, 0x00, 0x00, 0xfa, 0x00, 0x00, 0x40, 0x00, 0x0a, 0x00, 0x00, 0x00, 0x01,
            ])]),
            value: IncomingCallConnected {
                reserved0: 0, peer_call_id: 0x1234, reserved1: 0, connect_speed: 64_000, window: 64, transit_delay: 10,
                framing: 1,
            }
        }
    }
}
