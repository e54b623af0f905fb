//! Set-Link-Info: PPP's character maps, negotiated by the PNS, used by the PAC (RFC 2637 §2.15).

use super::codec::message;

message! {
    /// Type 15: the PNS tells what LCP has negotiated.
    SetLinkInfo {
        /// The PAC's Call ID.
        peer_call_id: u16 = 12,
        /// Zero by the book.
        reserved1: u16 = 14,
        /// Async control character map for sending.
        send_accm: u32 = 16,
        /// Async control character map for receiving.
        receive_accm: u32 = 20,
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_support::{codec_tests, message};
    use super::*;

    codec_tests! {
        set: SetLinkInfo {
            // tcpdump-pptp.pcap, frame 15, with the Call ID set.
            bytes: message(24, 15, &[(12, &[0x00, 0x80, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff])]),
            value: SetLinkInfo {
                reserved0: 0, peer_call_id: 128, reserved1: 0, send_accm: u32::MAX, receive_accm: u32::MAX,
            }
        }
    }
}
