//! A TCP segment, its options read and changed in place.
#![no_main]

use callgate_pptp::wire::tcp::{Packet, Repr, options};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut bytes = bytes.to_vec();
    let Ok(mut segment) = Packet::new_checked(&mut bytes[..]) else { return };
    let _ = (Repr::parse(&segment), options::iter(segment.options()).count(), segment.payload().len());
    options::map_sack(segment.options_mut(), |left, right| (left.0 % 2 == 0).then_some((left + 1, right + 1)));
    options::blank(segment.options_mut(), options::SACK);
    assert!(!options::iter(segment.options()).any(|option| matches!(option, options::TcpOption::Sack(_))));
});
