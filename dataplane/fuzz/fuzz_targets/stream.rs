//! However the octets of a stream are cut, the same comes out of it. The first two octets say how.
#![no_main]

use callgate_pptp::Now;
use callgate_pptp::stream::{Next, Stream};
use callgate_pptp::wire::Seq;

/// Everything that leaves, and whether it ended as malformed, when the octets come in pieces of this size.
fn run(octets: &[u8], piece: usize, strict: bool) -> (Vec<u8>, bool) {
    let (mut stream, mut sent, mut seq) = (Stream::new(Seq(u32::MAX - 50)), Vec::new(), Seq(u32::MAX - 50));
    for part in octets.chunks(piece) {
        stream.receive(seq, part, false);
        seq += part.len() as u32;
        loop {
            match stream.next_message(strict) {
                Next::Message(bytes) => sent.extend(stream.emit(bytes, Now(0)).bytes),
                Next::Nothing => break,
                Next::Malformed(_) => return (sent, true),
            }
        }
        stream.acknowledged(stream.out_next(), Now(0));
    }
    (sent, false)
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let [piece, strict, octets @ ..] = bytes else { return };
    let octets = octets.get(..8_000).unwrap_or(octets);
    let strict = strict % 2 == 0;
    assert_eq!(run(octets, usize::from(*piece) + 1, strict), run(octets, octets.len().max(1), strict));
});
