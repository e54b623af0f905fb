//! An enhanced GRE packet that is understood has a header that is emitted the same, but for bits nobody may set.
#![no_main]

use callgate_pptp::wire::gre::{Packet, Repr};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(packet) = Packet::new_checked(bytes) {
        let repr = Repr::parse(&packet).expect("whole, so understood");
        let mut again = vec![0xa5; repr.buffer_len() + packet.payload().len()];
        repr.emit(&mut again).expect("room enough");
        assert_eq!(Repr::parse(&Packet::new_checked(&again[..]).expect("valid")), Ok(repr));
    }
});
