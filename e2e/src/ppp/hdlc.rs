//! Async HDLC-like framing (RFC 1662): flags, byte stuffing and the 16-bit frame check sequence.

/// Frame delimiter (RFC 1662 section 3.1).
const FLAG: u8 = 0x7e;
/// Control escape (section 4.2).
const ESCAPE: u8 = 0x7d;
/// What an escaped byte is exclusive-ored with.
const FLIP: u8 = 0x20;
/// The FCS of a good frame, its own FCS bytes included (section C.2).
const GOOD_FCS: u16 = 0xf0b8;
/// Longest frame kept, bytes: MRU 1500 with headers and room to spare; a longer one is noise.
const LONGEST: usize = 4096;

/// One step of the FCS-16 (polynomial x^16 + x^12 + x^5 + 1, bit-reversed; section C.2).
fn fcs_step(fcs: u16, byte: u8) -> u16 {
    let mut value = (fcs ^ u16::from(byte)) & 0xff;
    for _ in 0..8 {
        value = if value & 1 == 1 { (value >> 1) ^ 0x8408 } else { value >> 1 };
    }
    (fcs >> 8) ^ value
}

/// The frame check sequence over `bytes`, not yet complemented.
fn fcs(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xffff, |fcs, &byte| fcs_step(fcs, byte))
}

/// Frames `payload` (address, control, protocol, information). Control characters in `accm` (bit n: byte n) are escaped.
pub fn encode(payload: &[u8], accm: u32) -> Vec<u8> {
    let check = (!fcs(payload)).to_le_bytes();
    let mut frame = Vec::with_capacity(payload.len() + payload.len() / 8 + 8);
    frame.push(FLAG);
    for &byte in payload.iter().chain(&check) {
        let control = byte < 0x20 && accm >> byte & 1 == 1;
        if control || byte == FLAG || byte == ESCAPE {
            frame.extend([ESCAPE, byte ^ FLIP]);
        } else {
            frame.push(byte);
        }
    }
    frame.push(FLAG);
    frame
}

/// Takes a byte stream apart into frames; bad ones are counted and dropped.
#[derive(Debug, Default)]
pub struct Decoder {
    frame: Vec<u8>,
    escaped: bool,
    /// Frames that were too long or had a wrong check sequence.
    pub bad: u64,
}

impl Decoder {
    /// Feeds bytes in; calls `deliver` with each good frame, check sequence removed.
    pub fn feed(&mut self, bytes: &[u8], mut deliver: impl FnMut(&[u8])) {
        for &byte in bytes {
            match byte {
                FLAG => {
                    // Two flags in a row are an empty frame and no error; so is an abort (escape, flag).
                    if self.frame.len() >= 4 && !self.escaped {
                        if fcs(&self.frame) == GOOD_FCS {
                            deliver(&self.frame[..self.frame.len() - 2]);
                        } else {
                            self.bad += 1;
                        }
                    }
                    self.frame.clear();
                    self.escaped = false;
                }
                ESCAPE => self.escaped = true,
                _ => {
                    let plain = if std::mem::take(&mut self.escaped) { byte ^ FLIP } else { byte };
                    if self.frame.len() < LONGEST {
                        self.frame.push(plain);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode_in_pieces(stream: &[u8], piece: usize) -> (Vec<Vec<u8>>, u64) {
        let mut decoder = Decoder::default();
        let mut frames = Vec::new();
        for part in stream.chunks(piece) {
            decoder.feed(part, |frame| frames.push(frame.to_vec()));
        }
        (frames, decoder.bad)
    }

    #[test]
    fn the_frame_check_sequence_is_the_one_of_rfc_1662() {
        // The well-known check value of CRC-16/X-25.
        assert_eq!(!fcs(b"123456789"), 0x906e);
    }

    #[test]
    fn a_frame_survives_the_round_trip_in_pieces_of_any_size() {
        let payload: Vec<u8> = (0..=255).chain([FLAG, ESCAPE, 0, 0x1f]).collect();
        for accm in [0, 0xffff_ffff] {
            let stream = encode(&payload, accm);
            for piece in 1..=stream.len() {
                assert_eq!(decode_in_pieces(&stream, piece), (vec![payload.clone()], 0));
            }
        }
    }

    #[test]
    fn control_characters_in_the_accm_never_appear_bare() {
        let payload: Vec<u8> = (0..0x20).collect();
        let stream = encode(&payload, 0xffff_ffff);
        assert_eq!(stream.iter().filter(|byte| **byte < 0x20).count(), 0);
    }

    #[test]
    fn a_damaged_frame_is_counted_and_the_next_one_is_delivered() {
        let mut stream = encode(b"abcdef", 0);
        stream[3] ^= 0x40;
        stream.extend(encode(b"good one", 0));
        assert_eq!(decode_in_pieces(&stream, 7), (vec![b"good one".to_vec()], 1));
    }
}
