//! Stop-Control-Connection-Request and -Reply (RFC 2637 §2.3, §2.4).

use super::codec::message;
use super::{GeneralError, StopReason, StopResult};

message! {
    /// Type 3: closes the control connection, all its calls with it.
    StopRequest {
        /// Why.
        reason: StopReason = 12,
        /// Zero by the book.
        reserved1: u8 = 13,
        /// Zero by the book.
        reserved2: u16 = 14,
    }
}

message! {
    /// Type 4: answers it.
    StopReply {
        /// Outcome.
        result: StopResult = 12,
        /// More about it.
        error: GeneralError = 13,
        /// Zero by the book.
        reserved1: u16 = 14,
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_support::{codec_tests, message};
    use super::*;

    codec_tests! {
        request: StopRequest {
            bytes: message(16, 3, &[(12, &[3, 0, 0, 0])]),
            value: StopRequest { reserved0: 0, reason: StopReason::StopLocalShutdown, reserved1: 0, reserved2: 0 }
        }
        reply: StopReply {
            bytes: message(16, 4, &[(12, &[2, 3, 0, 0])]),
            value: StopReply {
                reserved0: 0, result: StopResult::GeneralError, error: GeneralError::BadValue, reserved1: 0,
            }
        }
    }
}
