//! Outgoing-Call-Request and -Reply: the calls a PNS asks for (RFC 2637 §2.7, §2.8).

use super::codec::message;
use super::{GeneralError, OutgoingResult};

message! {
    /// Type 7: the PNS asks the PAC for a call.
    OutgoingCallRequest {
        /// The PNS's Call ID: the PAC puts it into the GRE it sends.
        call_id: u16 = 12,
        /// Number of this call in the PNS's logs.
        serial: u16 = 14,
        /// Lowest acceptable line speed, bit/s.
        min_bps: u32 = 16,
        /// Highest acceptable line speed, bit/s.
        max_bps: u32 = 20,
        /// 1 analogue, 2 digital, 3 any.
        bearer: u32 = 24,
        /// 1 asynchronous, 2 synchronous, 3 either.
        framing: u32 = 28,
        /// Packets the PNS buffers for this call.
        window: u16 = 32,
        /// Delay the PNS causes, 1/10 s.
        processing_delay: u16 = 34,
        /// Octets used of `phone_number`.
        phone_number_length: u16 = 36,
        /// Zero by the book.
        reserved1: u16 = 38,
        /// Number to dial.
        phone_number: [u8; 64] = 40,
        /// More of it.
        subaddress: [u8; 64] = 104,
    }
}

message! {
    /// Type 8: the PAC answers it.
    OutgoingCallReply {
        /// The PAC's Call ID: the PNS puts it into the GRE it sends.
        call_id: u16 = 12,
        /// The PNS's Call ID, from the request.
        peer_call_id: u16 = 14,
        /// Outcome.
        result: OutgoingResult = 16,
        /// More about it.
        error: GeneralError = 17,
        /// More about a failed call, as Q.931 or the PAC's vendor numbers it.
        cause: u16 = 18,
        /// Line speed, bit/s.
        connect_speed: u32 = 20,
        /// Packets the PAC buffers for this call.
        window: u16 = 24,
        /// Delay the PAC causes, 1/10 s.
        processing_delay: u16 = 26,
        /// The PAC's physical channel.
        physical_channel: u32 = 28,
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_support::{codec_tests, message};
    use super::*;

    codec_tests! {
        request: OutgoingCallRequest {
            // tcpdump-pptp.pcap, frame 10.
            bytes: message(168, 7, &[(12, &[
                0x00, 0x00, 0x78, 0x28, 0x00, 0x00, 0x01, 0x2c, 0x05, 0xf5, 0xe1, 0x00, 0x00, 0x00, 0x00, 0x03, 0x00,
                0x00, 0x00, 0x03, 0x00, 0x40,
            ])]),
            value: OutgoingCallRequest {
                reserved0: 0, call_id: 0, serial: 30_760, min_bps: 300, max_bps: 100_000_000, bearer: 3, framing: 3,
                window: 64, processing_delay: 0, phone_number_length: 0, reserved1: 0, phone_number: [0; 64],
                subaddress: [0; 64],
            }
        }
        reply: OutgoingCallReply {
            // tcpdump-pptp.pcap, frame 13.
            bytes: message(32, 8, &[(12, &[
                0x00, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x05, 0xf5, 0xe1, 0x00, 0x00, 0x40,
            ])]),
            value: OutgoingCallReply {
                reserved0: 0, call_id: 0, peer_call_id: 0, result: OutgoingResult::Connected, error: GeneralError::None,
                cause: 0, connect_speed: 100_000_000, window: 64, processing_delay: 0, physical_channel: 0,
            }
        }
    }
}
