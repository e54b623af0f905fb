//! A control message that is understood is emitted the same.
#![no_main]

use callgate_pptp::wire::control::{Message, Sender, validate};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if validate(bytes, Sender::Either, true).is_ok() {
        let message = Message::parse(bytes).expect("valid, so understood");
        let mut again = vec![0xa5; message.buffer_len()];
        message.emit(&mut again).expect("room enough");
        assert_eq!(again, bytes);
    }
});
