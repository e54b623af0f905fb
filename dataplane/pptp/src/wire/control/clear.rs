//! Call-Clear-Request and Call-Disconnect-Notify: the end of a call (RFC 2637 §2.12, §2.13).

use super::codec::message;
use super::{DisconnectResult, GeneralError};

message! {
    /// Type 12: the PNS wants a call ended.
    CallClearRequest {
        /// The PNS's own Call ID.
        call_id: u16 = 12,
        /// Zero by the book.
        reserved1: u16 = 14,
    }
}

message! {
    /// Type 13: the PAC has ended a call.
    CallDisconnectNotify {
        /// The PAC's own Call ID; accel-ppp puts the PNS's here.
        call_id: u16 = 12,
        /// Why.
        result: DisconnectResult = 14,
        /// More about it.
        error: GeneralError = 15,
        /// More, as Q.931 or the PAC's vendor numbers it.
        cause: u16 = 16,
        /// Zero by the book.
        reserved1: u16 = 18,
        /// Call statistics as text of the PAC's vendor.
        statistics: [u8; 128] = 20,
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_support::{codec_tests, message, text};
    use super::*;

    codec_tests! {
        request: CallClearRequest {
            bytes: message(16, 12, &[(12, &[0x12, 0x34])]),
            value: CallClearRequest { reserved0: 0, call_id: 0x1234, reserved1: 0 }
        }
        notify: CallDisconnectNotify {
            bytes: message(148, 13, &[(12, &[0x00, 0x80, 4, 0, 0x00, 0x10]), (20, b"12 s")]),
            value: CallDisconnectNotify {
                reserved0: 0, call_id: 128, result: DisconnectResult::Request, error: GeneralError::None, cause: 16,
                reserved1: 0, statistics: text(b"12 s"),
            }
        }
    }
}
