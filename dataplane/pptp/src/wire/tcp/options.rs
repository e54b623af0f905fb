//! TCP options: read, blanked, and SACK blocks moved in place (RFC 9293 §3.1, RFC 2018, RFC 7323).

use super::super::Seq;
use super::super::bytes::{put, u8_at, u16_at, u32_at};

const END: u8 = 0;
const NOP: u8 = 1;
/// Kind of maximum segment size.
pub const MSS: u8 = 2;
/// Kind of window scale.
pub const WINDOW_SCALE: u8 = 3;
/// Kind of SACK-permitted.
pub const SACK_PERMITTED: u8 = 4;
/// Kind of SACK.
pub const SACK: u8 = 5;
/// Kind of timestamps.
pub const TIMESTAMPS: u8 = 8;

/// One option of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TcpOption<'a> {
    /// Largest segment its sender takes, octets of data.
    Mss(u16),
    /// Shift of all later windows of its sender, bits.
    WindowScale(u8),
    /// Its sender understands SACK.
    SackPermitted,
    /// Ranges received above the acknowledgement: 8 octets a block, read by [`sack_blocks`].
    Sack(&'a [u8]),
    /// The sender's clock and the latest one it saw of its peer.
    Timestamps {
        /// Value.
        value: u32,
        /// Echo reply.
        echo: u32,
    },
    /// Any other kind, or a known one of a strange length.
    Other {
        /// Kind.
        kind: u8,
        /// Octets behind kind and length.
        data: &'a [u8],
    },
}

/// The options of a segment, without padding. Ends early where the octets make no sense.
pub fn iter(options: &[u8]) -> impl Iterator<Item = TcpOption<'_>> {
    Spans { options, at: 0 }.map(move |(start, end)| {
        let kind = u8_at(options, start);
        let data = options.get(start + 2..end).unwrap_or_default();
        match (kind, data.len()) {
            (MSS, 2) => TcpOption::Mss(u16_at(data, 0)),
            (WINDOW_SCALE, 1) => TcpOption::WindowScale(u8_at(data, 0)),
            (SACK_PERMITTED, 0) => TcpOption::SackPermitted,
            (SACK, length) if length % 8 == 0 => TcpOption::Sack(data),
            (TIMESTAMPS, 8) => TcpOption::Timestamps { value: u32_at(data, 0), echo: u32_at(data, 4) },
            (kind, _) => TcpOption::Other { kind, data },
        }
    })
}

/// The blocks of a SACK option: first sequence number received, first not received.
pub fn sack_blocks(data: &[u8]) -> impl Iterator<Item = (Seq, Seq)> {
    data.chunks_exact(8).map(|block| (Seq(u32_at(block, 0)), Seq(u32_at(block, 4))))
}

/// Value and echo reply of the timestamps option, if there is one.
pub fn timestamps(options: &[u8]) -> Option<(u32, u32)> {
    iter(options).find_map(|option| match option {
        TcpOption::Timestamps { value, echo } => Some((value, echo)),
        TcpOption::Mss(_)
        | TcpOption::WindowScale(_)
        | TcpOption::SackPermitted
        | TcpOption::Sack(_)
        | TcpOption::Other { .. } => None,
    })
}

/// Replaces each SACK block by what `map` makes of it, in place; a block without a counterpart becomes padding.
pub fn map_sack(options: &mut [u8], mut map: impl FnMut(Seq, Seq) -> Option<(Seq, Seq)>) {
    let mut at = 0;
    while let Some((start, end)) = (Spans { options, at }).next() {
        at = end;
        if u8_at(options, start) != SACK || (end - start - 2) % 8 != 0 {
            continue;
        }
        let mut write = start + 2;
        for read in (start + 2..end).step_by(8) {
            if let Some((left, right)) = map(Seq(u32_at(options, read)), Seq(u32_at(options, read + 4))) {
                put(options, write, &left.0.to_be_bytes());
                put(options, write + 4, &right.0.to_be_bytes());
                write += 8;
            }
        }
        // A SACK option without blocks is not legal, so its head goes too.
        let kept = if write == start + 2 { start } else { write };
        if kept > start {
            put(options, start + 1, &[(kept - start) as u8]);
        }
        options.get_mut(kept..end).unwrap_or_default().fill(NOP);
    }
}

/// Turns each option of this kind into padding, in place.
pub fn blank(options: &mut [u8], kind: u8) {
    let mut at = 0;
    while let Some((start, end)) = (Spans { options, at }).next() {
        at = end;
        if u8_at(options, start) == kind {
            options.get_mut(start..end).unwrap_or_default().fill(NOP);
        }
    }
}

/// Where each option with a length begins and ends.
struct Spans<'a> {
    options: &'a [u8],
    at: usize,
}

impl Iterator for Spans<'_> {
    type Item = (usize, usize);

    fn next(&mut self) -> Option<(usize, usize)> {
        loop {
            match *self.options.get(self.at)? {
                END => return None,
                NOP => self.at += 1,
                _ => {
                    let length = usize::from(*self.options.get(self.at + 1)?);
                    let (start, end) = (self.at, self.at + length);
                    if length < 2 || end > self.options.len() {
                        return None;
                    }
                    self.at = end;
                    return Some((start, end));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_options_of_a_linux_syn_are_read() {
        let options = [
            0x02, 0x04, 0x05, 0xb4, 0x04, 0x02, 0x08, 0x0a, 0x00, 0x00, 0x00, 0x07, 0x00, 0x00, 0x00, 0x00, 0x01, 0x03,
            0x03, 0x07,
        ];
        let read: Vec<_> = iter(&options).collect();
        let want = [
            TcpOption::Mss(1460),
            TcpOption::SackPermitted,
            TcpOption::Timestamps { value: 7, echo: 0 },
            TcpOption::WindowScale(7),
        ];
        assert_eq!(read, want);
        assert_eq!(timestamps(&options), Some((7, 0)));
    }

    fn sack(blocks: &[(u32, u32)]) -> Vec<u8> {
        let mut options = vec![NOP, NOP, SACK, 2 + 8 * blocks.len() as u8];
        for (left, right) in blocks {
            options.extend(left.to_be_bytes());
            options.extend(right.to_be_bytes());
        }
        options
    }

    #[test]
    fn sack_blocks_move_in_place() {
        let mut options = sack(&[(100, 200), (u32::MAX, 5)]);
        map_sack(&mut options, |left, right| Some((left + 10, right + 10)));
        assert_eq!(options, sack(&[(110, 210), (9, 15)]));
    }

    #[test]
    fn a_sack_block_without_counterpart_becomes_padding() {
        let mut options = sack(&[(100, 200), (300, 400)]);
        map_sack(&mut options, |left, right| (left == Seq(300)).then_some((left, right)));
        let mut want = sack(&[(300, 400)]);
        want.extend([NOP; 8]);
        assert_eq!(options, want);
        map_sack(&mut options, |_, _| None);
        assert_eq!(options, vec![NOP; 20]);
    }

    #[test]
    fn an_option_is_blanked_and_its_neighbours_stay() {
        let mut options = [0x02, 0x04, 0x05, 0xb4, 0x04, 0x02, 0x03, 0x03, 0x07, 0x00];
        blank(&mut options, SACK_PERMITTED);
        assert_eq!(options, [0x02, 0x04, 0x05, 0xb4, NOP, NOP, 0x03, 0x03, 0x07, 0x00]);
    }

    #[test]
    fn nonsense_ends_the_list() {
        assert_eq!(iter(&[0x02, 0x01, 0x05]).count(), 0, "a length that does not cover itself");
        assert_eq!(iter(&[0x02, 0x04, 0x05]).count(), 0, "a length behind the end");
        assert_eq!(iter(&[0x02]).count(), 0, "no length");
        assert_eq!(iter(&[0x00, 0x04, 0x02]).count(), 0, "behind the end mark");
        assert_eq!(iter(&[0x02, 0x03, 0x05]).next(), Some(TcpOption::Other { kind: MSS, data: &[0x05] }));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(prop_oneof![0u8..12, any::<u8>()], 0..44)) {
            let mut bytes = bytes;
            let _ = iter(&bytes).map(|option| if let TcpOption::Sack(data) = option { sack_blocks(data).count() } else { 0 }).sum::<usize>();
            map_sack(&mut bytes, |left, right| (left.0 & 1 == 0).then_some((left, right)));
            blank(&mut bytes, TIMESTAMPS);
            let has_timestamps = iter(&bytes).any(|option| matches!(option, TcpOption::Timestamps { .. }));
            prop_assert!(!has_timestamps);
        }
    }
}
