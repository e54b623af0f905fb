//! The Internet checksum: ones-complement sum (RFC 1071) and its incremental update (RFC 1624).

use std::net::Ipv4Addr;

/// Adds `bytes` (padded with a zero to an even length) to a running ones-complement sum.
///
/// Only the last part of a sum may have an odd length.
pub fn add(sum: u32, bytes: &[u8]) -> u32 {
    // 64 bits hold the sum of 2^48 words, far above any slice.
    let mut total = u64::from(sum);
    let mut words = bytes.chunks_exact(2);
    for word in &mut words {
        total += u64::from(super::bytes::u16_at(word, 0));
    }
    if let Some(last) = words.remainder().first() {
        total += u64::from(*last) << 8;
    }
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    total as u32
}

/// The checksum a running sum stands for: folded and complemented.
pub fn finish(sum: u32) -> u16 {
    let mut total = sum;
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    !(total as u16)
}

/// The checksum of `bytes`; over bytes that contain their own right checksum it is zero.
pub fn of(bytes: &[u8]) -> u16 {
    finish(add(0, bytes))
}

/// The sum of the TCP/UDP pseudo header (RFC 9293 §3.1): addresses, protocol number, length of header and data in bytes.
pub fn pseudo_header(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, length: u16) -> u32 {
    let sum = add(add(0, &src.octets()), &dst.octets());
    sum + u32::from(protocol) + u32::from(length)
}

/// The checksum after one aligned 16-bit word of its data went from `old` to `new` (RFC 1624, equation 3).
pub fn update_u16(checksum: u16, old: u16, new: u16) -> u16 {
    finish(u32::from(!checksum) + u32::from(!old) + u32::from(new))
}

/// The checksum after two aligned 16-bit words went from `old` to `new`.
pub fn update_u32(checksum: u16, old: u32, new: u32) -> u16 {
    let high = update_u16(checksum, (old >> 16) as u16, (new >> 16) as u16);
    update_u16(high, old as u16, new as u16)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_example_of_rfc_1071_sums_to_ddf2() {
        assert_eq!(add(0, &[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), 0xddf2);
        assert_eq!(of(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
    }

    #[test]
    fn an_odd_tail_is_padded_with_zero() {
        assert_eq!(of(&[0x12, 0x34, 0x56]), of(&[0x12, 0x34, 0x56, 0x00]));
    }

    #[test]
    fn the_example_of_rfc_1624_updates_to_zero() {
        assert_eq!(update_u16(0xdd2f, 0x5555, 0x3285), 0x0000);
    }

    proptest! {
        #[test]
        fn an_update_equals_a_new_sum(mut bytes in prop::collection::vec(any::<u8>(), 8..64), new: u32, at in 0usize..2) {
            // A first byte that stays keeps the sum from being all zero, the one case with two representations.
            bytes[0] |= 1;
            let at = 2 + at * 2;
            let before = of(&bytes);
            let old = super::super::bytes::u32_at(&bytes, at);
            super::super::bytes::put(&mut bytes, at, &new.to_be_bytes());
            prop_assert_eq!(update_u32(before, old, new), of(&bytes));
        }
    }
}
