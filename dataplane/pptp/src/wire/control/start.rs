//! Start-Control-Connection-Request and -Reply (RFC 2637 §2.1, §2.2).

use super::{GeneralError, StartResult};

use super::codec::message;

message! {
    /// Type 1: opens a control connection.
    StartRequest {
        /// Protocol version, 0x0100.
        version: u16 = 12,
        /// Zero by the book.
        reserved1: u16 = 14,
        /// Framings the sender can do: bit 0 asynchronous, bit 1 synchronous.
        framing: u32 = 16,
        /// Bearers the sender can do: bit 0 analogue, bit 1 digital.
        bearer: u32 = 20,
        /// Sessions a PAC supports; zero from a PNS.
        max_channels: u16 = 24,
        /// Firmware revision.
        firmware: u16 = 26,
        /// DNS name, padded with zeros.
        host: [u8; 64] = 28,
        /// Vendor, padded with zeros.
        vendor: [u8; 64] = 92,
    }
}

message! {
    /// Type 2: answers it.
    StartReply {
        /// Protocol version, 0x0100.
        version: u16 = 12,
        /// Outcome.
        result: StartResult = 14,
        /// More about it.
        error: GeneralError = 15,
        /// Framings the sender can do: bit 0 asynchronous, bit 1 synchronous.
        framing: u32 = 16,
        /// Bearers the sender can do: bit 0 analogue, bit 1 digital.
        bearer: u32 = 20,
        /// Sessions a PAC supports; zero from a PNS.
        max_channels: u16 = 24,
        /// Firmware revision.
        firmware: u16 = 26,
        /// DNS name, padded with zeros.
        host: [u8; 64] = 28,
        /// Vendor, padded with zeros.
        vendor: [u8; 64] = 92,
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_support::{codec_tests, message, text};
    use super::*;

    codec_tests! {
        request: StartRequest {
            // tcpdump-pptp.pcap, frame 5.
            bytes: message(156, 1, &[
                (12, &[0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x08, 0x70]),
                (92, b"Microsoft Windows NT"),
            ]),
            value: StartRequest {
                reserved0: 0, version: 0x0100, reserved1: 0, framing: 1, bearer: 1, max_channels: 0, firmware: 2160,
                host: [0; 64], vendor: text(b"Microsoft Windows NT"),
            }
        }
        reply: StartReply {
            // tcpdump-pptp.pcap, frame 8.
            bytes: message(156, 2, &[
                (12, &[0x01, 0x00, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00, 0x01]),
                (28, b"local"),
                (92, b"MoretonBay"),
            ]),
            value: StartReply {
                reserved0: 0, version: 0x0100, result: StartResult::Ok, error: GeneralError::None, framing: 0, bearer: 0,
                max_channels: 1, firmware: 1, host: text(b"local"), vendor: text(b"MoretonBay"),
            }
        }
    }
}
