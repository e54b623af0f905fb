//! Echo-Request and -Reply (RFC 2637 §2.5, §2.6).

use super::codec::message;
use super::{EchoResult, GeneralError};

message! {
    /// Type 5: is the peer alive?
    EchoRequest {
        /// Given back by the reply.
        identifier: u32 = 12,
    }
}

message! {
    /// Type 6: answers it.
    EchoReply {
        /// The request's.
        identifier: u32 = 12,
        /// Outcome.
        result: EchoResult = 16,
        /// More about it.
        error: GeneralError = 17,
        /// Zero by the book.
        reserved1: u16 = 18,
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_support::{codec_tests, message};
    use super::*;

    codec_tests! {
        request: EchoRequest {
            bytes: message(16, 5, &[(12, &[0xde, 0xad, 0xbe, 0xef])]),
            value: EchoRequest { reserved0: 0, identifier: 0xdead_beef }
        }
        reply: EchoReply {
            bytes: message(20, 6, &[(12, &[0xde, 0xad, 0xbe, 0xef, 1, 0, 0, 0])]),
            value: EchoReply {
                reserved0: 0, identifier: 0xdead_beef, result: EchoResult::Ok, error: GeneralError::None, reserved1: 0,
            }
        }
    }
}
