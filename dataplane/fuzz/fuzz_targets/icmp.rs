//! An ICMP error and the packet it quotes, down to the Call ID or the ports.
#![no_main]

use callgate_pptp::wire::{gre, icmp, ipv4, tcp};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(outer) = ipv4::Packet::new_checked(bytes) else { return };
    let Ok(message) = icmp::Packet::new_checked(outer.payload()) else { return };
    let Ok(original) = message.original() else { return };
    let _ = gre::Packet::new_embedded(original.payload()).map(|gre| (gre.call_id(), gre.seq(), gre.ack()));
    let _ = tcp::Packet::new_unchecked(original.payload()).src_port();
    let _ = icmp::Repr::parse(&message);
});
