//! WAN-Error-Notify: line errors the PAC counted since the call began (RFC 2637 §2.14).

use super::codec::message;

message! {
    /// Type 14: the PAC reports line errors, at most once a minute.
    WanErrorNotify {
        /// The PNS's Call ID.
        peer_call_id: u16 = 12,
        /// Zero by the book.
        reserved1: u16 = 14,
        /// PPP frames with a bad check sequence.
        crc_errors: u32 = 16,
        /// PPP frames with bad framing.
        framing_errors: u32 = 20,
        /// Receive buffer overruns of the hardware.
        hardware_overruns: u32 = 24,
        /// Buffer overruns.
        buffer_overruns: u32 = 28,
        /// Time-outs.
        timeouts: u32 = 32,
        /// Alignment errors.
        alignment_errors: u32 = 36,
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_support::{codec_tests, message};
    use super::*;

    codec_tests! {
        notify: WanErrorNotify {
            bytes: message(40, 14, &[(12, &[0x12, 0x34]), (19, &[1]), (23, &[2]), (27, &[3]), (31, &[4]), (35, &[5]), (39, &[6])]),
            value: WanErrorNotify {
                reserved0: 0, peer_call_id: 0x1234, reserved1: 0, crc_errors: 1, framing_errors: 2,
                hardware_overruns: 3, buffer_overruns: 4, timeouts: 5, alignment_errors: 6,
            }
        }
    }
}
