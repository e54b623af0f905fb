//! The stream under any segmentation: what R gets and what S is told do not depend on how the octets came.

use proptest::prelude::*;

use super::*;

const NOW: Now = Now(1_000);

fn message(number: u16) -> Vec<u8> {
    // Echo-Request (16 octets) and Set-Link-Info (24) in turn, so that lengths differ.
    let (kind, length) = if number.is_multiple_of(2) { (5u16, 16u16) } else { (15, 24) };
    let mut bytes = vec![0; usize::from(length)];
    bytes[..2].copy_from_slice(&length.to_be_bytes());
    bytes[3] = 1;
    bytes[4..8].copy_from_slice(&control::COOKIE.to_be_bytes());
    bytes[8..10].copy_from_slice(&kind.to_be_bytes());
    bytes[12..14].copy_from_slice(&number.to_be_bytes());
    bytes
}

/// Takes everything whole, emits it unchanged, holds the rest.
fn pump(stream: &mut Stream) -> Vec<Outgoing> {
    let mut out = Vec::new();
    loop {
        match stream.next_message(true) {
            Next::Message(bytes) => out.push(stream.emit(bytes, NOW)),
            Next::Nothing => break,
            other @ Next::Malformed(_) => panic!("{other:?}"),
        }
    }
    if stream.is_holding() {
        stream.take_custody(NOW);
    }
    out
}

#[test]
fn a_whole_message_leaves_at_its_own_number() {
    let mut stream = Stream::new(Seq(100));
    assert_eq!(stream.receive(Seq(100), &message(0), false), Received::New(vec![]));
    assert_eq!(pump(&mut stream), [Outgoing { seq: Seq(100), bytes: message(0), fin: false }]);
    assert_eq!(stream.acknowledged(Seq(116), NOW), Seq(116));
    assert!(stream.is_delivered());
}

#[test]
fn a_held_piece_is_acknowledged_to_the_sender_and_sent_again_by_us() {
    let mut stream = Stream::new(Seq(0));
    assert_eq!(stream.receive(Seq(0), &message(0)[..7], false), Received::New(vec![]));
    assert_eq!(pump(&mut stream), []);
    assert_eq!(stream.in_acked(), Seq(7));
    assert_eq!(stream.receive(Seq(0), &message(0)[..7], false), Received::Acknowledge(Seq(7)));
    assert_eq!(stream.receive(Seq(7), &message(0)[7..], false), Received::New(vec![]));
    let sent = pump(&mut stream);
    assert_eq!(sent, [Outgoing { seq: Seq(0), bytes: message(0), fin: false }]);
    assert_eq!(stream.poll_timeout(), Some(Now(1_300)));
    assert_eq!(stream.due(Now(1_299)), Due::Nothing);
    assert_eq!(stream.due(Now(1_300)), Due::Again(sent));
    assert_eq!(stream.acknowledged(Seq(16), Now(1_400)), Seq(16));
    assert_eq!(stream.poll_timeout(), None);
}

#[test]
fn a_receiver_that_never_acknowledges_is_dead_after_six_times() {
    let mut stream = Stream::new(Seq(0));
    stream.inject(message(0), NOW);
    let mut times = 0;
    while let Some(at) = stream.poll_timeout() {
        match stream.due(at) {
            Due::Again(_) => times += 1,
            Due::Dead => break,
            Due::Nothing => panic!("due at its own time"),
        }
    }
    assert_eq!(times, 6);
}

#[test]
fn a_retransmission_is_answered_with_what_was_sent_whatever_it_contains() {
    let mut stream = Stream::new(Seq(0));
    stream.receive(Seq(0), &message(0), false);
    let sent = pump(&mut stream);
    assert_eq!(stream.receive(Seq(0), &[0xff; 16], false), Received::Again(sent));
    stream.acknowledged(Seq(16), NOW);
    assert_eq!(stream.receive(Seq(0), &[0xff; 16], false), Received::Probe(Seq(15)));
}

#[test]
fn a_gap_and_a_far_segment_are_not_taken() {
    let mut stream = Stream::new(Seq(u32::MAX - 3));
    assert_eq!(stream.receive(Seq(5), &message(0), false), Received::Gap);
    assert_eq!(stream.receive(Seq(1 << 30), &message(0), false), Received::Implausible);
    assert_eq!(stream.receive(Seq(u32::MAX - 3), &message(0), false), Received::New(vec![]));
    assert_eq!(pump(&mut stream).len(), 1);
    assert_eq!(stream.acknowledged(Seq(12), NOW), Seq(12));
}

/// Incoming-Call-Request, the longest message.
fn long() -> Vec<u8> {
    let mut bytes = message(0);
    bytes.resize(220, 0);
    bytes[..2].copy_from_slice(&220u16.to_be_bytes());
    bytes[8..10].copy_from_slice(&9u16.to_be_bytes());
    bytes
}

#[test]
fn more_than_eight_kilobytes_or_sixty_four_messages_in_flight_are_not_taken() {
    for (message, most) in [(message(0), MAX_CHUNKS * 16), (long(), MAX_UNACKED)] {
        let (mut stream, octets) = (Stream::new(Seq(0)), message.repeat(MAX_CHUNKS + 1));
        let last = loop {
            let at = stream.in_next();
            let rest = &octets[at.0 as usize..];
            match stream.receive(at, &rest[..message.len()], false) {
                Received::New(_) => pump(&mut stream),
                other => break other,
            };
        };
        assert_eq!((last, stream.in_next()), (Received::Full, Seq(most as u32)));
    }
}

#[test]
fn our_own_message_shifts_what_follows_and_acknowledgements_come_back_unshifted() {
    let mut stream = Stream::new(Seq(0));
    stream.receive(Seq(0), &message(0), false);
    pump(&mut stream);
    assert_eq!(stream.inject(message(1), NOW).seq, Seq(16));
    stream.receive(Seq(16), &message(2), false);
    assert_eq!(pump(&mut stream)[0].seq, Seq(40));
    assert!(stream.is_shifted());
    assert_eq!(stream.acknowledged(Seq(10), NOW), Seq(10));
    assert_eq!(stream.acknowledged(Seq(16), NOW), Seq(16));
    assert_eq!(stream.acknowledged(Seq(30), NOW), Seq(16));
    assert_eq!(stream.acknowledged(Seq(56), NOW), Seq(32));
    assert_eq!(stream.acknowledged(Seq(30), NOW), Seq(32));
    assert_eq!(stream.out_next(), Seq(56));
}

#[test]
fn a_swallowed_message_is_acknowledged_to_the_sender_and_never_reaches_the_receiver() {
    let mut stream = Stream::new(Seq(0));
    stream.receive(Seq(0), &[message(0), message(1)].concat(), false);
    assert!(matches!(stream.next_message(true), Next::Message(bytes) if bytes == message(0)));
    assert_eq!(stream.swallow(16, NOW), Seq(40));
    assert_eq!(pump(&mut stream), [Outgoing { seq: Seq(0), bytes: message(1), fin: false }]);
    // In custody, since it was acknowledged together with the swallowed one.
    assert!(stream.poll_timeout().is_some());
    assert_eq!(stream.acknowledged(Seq(24), NOW), Seq(40));
    assert!(stream.is_delivered() && stream.is_shifted());
}

#[test]
fn fin_follows_the_last_message_and_a_cut_message_is_malformed() {
    let mut stream = Stream::new(Seq(0));
    stream.receive(Seq(0), &message(0), true);
    assert_eq!(pump(&mut stream).len(), 1);
    assert_eq!(stream.emit_fin(NOW), Some(Outgoing { seq: Seq(16), bytes: vec![], fin: true }));
    assert_eq!(stream.emit_fin(NOW), None);
    assert_eq!(stream.acknowledged(Seq(17), NOW), Seq(17));

    let mut cut = Stream::new(Seq(0));
    cut.receive(Seq(0), &message(0)[..15], true);
    assert_eq!(cut.next_message(true), Next::Malformed(Malformed::Truncated { octets: 15 }));
}

#[test]
fn without_strict_validation_too_lost_framing_is_the_end() {
    let mut stream = Stream::new(Seq(0));
    stream.receive(Seq(0), b"GET / HTTP/1.0\r\n", false);
    assert_eq!(stream.next_message(false), Next::Malformed(Malformed::Length { length: 0x4745 }));

    let mut cut = Stream::new(Seq(0));
    cut.receive(Seq(0), &message(0)[..15], true);
    assert_eq!(cut.next_message(false), Next::Malformed(Malformed::Truncated { octets: 15 }));
}

#[test]
fn a_reset_counts_only_where_the_sender_can_be() {
    let mut stream = Stream::new(Seq(1_000));
    stream.receive(Seq(1_000), &message(0), false);
    pump(&mut stream);
    let plausible: Vec<bool> = [999, 1_000, 1_016, 20_000, 70_000].map(|n| stream.is_plausible_reset(Seq(n))).to_vec();
    assert_eq!(plausible, [false, true, true, true, false]);
}

#[test]
fn what_a_new_segment_repeats_is_sent_again() {
    let mut stream = Stream::new(Seq(0));
    stream.receive(Seq(0), &message(0), false);
    let first = pump(&mut stream);
    let both = [message(0), message(1)].concat();
    assert_eq!(stream.receive(Seq(0), &both, false), Received::New(first));
    assert_eq!(pump(&mut stream), [Outgoing { seq: Seq(16), bytes: message(1), fin: false }]);
}

#[test]
fn a_segment_larger_than_the_room_is_taken_in_part_and_its_fin_not_at_all() {
    let mut stream = Stream::new(Seq(0));
    let (many, most) = (message(0).repeat(MAX_CHUNKS + 1), (MAX_CHUNKS * 16) as u32);
    assert_eq!(stream.receive(Seq(0), &many, true), Received::New(vec![]));
    assert_eq!(pump(&mut stream).len(), MAX_CHUNKS);
    assert!(!stream.is_finished());
    assert_eq!(stream.emit_fin(NOW), None);
    assert_eq!(stream.receive(Seq(most), &message(0), true), Received::Full);
    // What R may have lost comes again, though the segment that repeats it goes beyond.
    let last = Outgoing { seq: Seq(most - 16), bytes: message(0), fin: false };
    assert_eq!(stream.receive(Seq(most - 16), &message(0).repeat(2), true), Received::Again(vec![last]));
    stream.acknowledged(Seq(most), NOW);
    assert_eq!(stream.receive(Seq(most), &message(0), true), Received::New(vec![]));
    assert_eq!(pump(&mut stream).len(), 1);
    assert!(stream.is_finished() && stream.emit_fin(NOW).is_some());
}

#[test]
fn the_rest_of_a_message_counts_as_that_message_where_there_is_room_for_one_more() {
    let mut stream = Stream::new(Seq(0));
    let many = message(0).repeat(MAX_CHUNKS + 1);
    // One octet of the last one for which there is room is in.
    let begun = MAX_CHUNKS * 16 - 15;
    assert_eq!(stream.receive(Seq(0), &many[..begun], false), Received::New(vec![]));
    assert_eq!(pump(&mut stream).len(), MAX_CHUNKS - 1);
    let again = stream.receive(Seq(begun as u32), &many[begun..], false);
    assert_eq!((again, pump(&mut stream).len(), stream.is_holding()), (Received::New(vec![]), 1, false));
    assert_eq!(stream.in_next(), Seq((MAX_CHUNKS * 16) as u32));
}

#[test]
fn ranges_received_ahead_are_mapped_and_our_own_messages_are_no_part_of_them() {
    let mut stream = Stream::new(Seq(0));
    // In R's numbers 0..16, ours 16..40, 40..56, 56..80; in S's 0..16, 16..32, 32..56.
    stream.receive(Seq(0), &message(0), false);
    pump(&mut stream);
    stream.inject(message(1), NOW);
    stream.receive(Seq(16), &[message(2), message(3)].concat(), false);
    pump(&mut stream);
    let map = |left, right| stream.map_sack(Seq(left), Seq(right)).map(|(left, right)| (left.0, right.0));
    assert_eq!(map(40, 56), Some((16, 32)));
    assert_eq!(map(16, 56), Some((16, 32)));
    assert_eq!(map(16, 40), None, "ours alone");
    assert_eq!(map(40, 80), Some((16, 56)));
    assert_eq!(map(45, 60), Some((21, 36)), "parts of messages");
    assert_eq!(map(0, 20), Some((0, 16)));
    assert_eq!((map(80, 81), map(56, 81), map(56, 56), map(60, 56)), (None, None, None, None));
}

#[test]
fn ranges_that_the_sender_was_told_about_already_are_not_repeated() {
    let mut stream = Stream::new(Seq(0));
    stream.receive(Seq(0), &[message(0), message(1)].concat(), false);
    pump(&mut stream);
    stream.take_custody(NOW);
    assert_eq!(stream.map_sack(Seq(16), Seq(40)), None);
}

#[test]
fn our_own_messages_have_no_place_behind_fin() {
    let mut stream = Stream::new(Seq(0));
    assert!(stream.can_inject());
    stream.receive(Seq(0), &[], true);
    assert!(!stream.can_inject());
}

#[test]
fn an_idle_stream_holds_no_heap() {
    let mut stream = Stream::new(Seq(0));
    stream.receive(Seq(0), &[message(0), message(1)].concat(), false);
    pump(&mut stream);
    stream.acknowledged(Seq(40), NOW);
    assert_eq!((stream.pending.capacity(), stream.chunks.capacity()), (0, 0));
    assert!(size_of::<Stream>() <= 128, "{}", size_of::<Stream>());
}

#[test]
fn a_copy_of_what_the_receiver_has_is_answered_by_us_while_something_else_is_on_its_way() {
    let mut stream = Stream::new(Seq(0));
    stream.receive(Seq(0), &message(0), false);
    pump(&mut stream);
    stream.acknowledged(Seq(16), NOW);
    stream.inject(message(1), NOW);
    assert_eq!(stream.receive(Seq(0), &message(0), false), Received::Acknowledge(Seq(16)));
}

#[test]
fn a_keep_alive_reaches_the_receiver() {
    let mut stream = Stream::new(Seq(0));
    stream.receive(Seq(0), &message(0), false);
    pump(&mut stream);
    stream.inject(message(1), NOW);
    stream.acknowledged(Seq(40), NOW);
    // With and without the octet of garbage that some systems send.
    assert_eq!(stream.receive(Seq(15), &[0], false), Received::Probe(Seq(39)));
    assert_eq!(stream.map_empty(Seq(15)), Some(Seq(39)));
    assert_eq!(stream.map_empty(Seq(16)), Some(Seq(40)));
    assert_eq!(stream.map_empty(Seq(1 << 21)), None);
}

#[derive(Debug, Clone)]
enum Step {
    /// Sends `[from, to)` of the stream (positions in thousandths of what is sendable).
    Send(u16, u16),
    /// R acknowledges what it has got.
    Ack,
    /// A message of our own.
    Inject,
    /// The journal is written and read back.
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0u16..1000, 0u16..1000).prop_map(|(a, b)| Step::Send(a.min(b), a.max(b))),
        4 => Just(Step::Ack),
        1 => Just(Step::Inject),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    /// R is a TCP that keeps what comes in order; S sends any ranges in any order, and in the end everything once more.
    #[test]
    fn any_segmentation_order_and_repetition_gives_the_same_stream(
        first in any::<u32>(), count in 1u16..12, steps in prop::collection::vec(step(), 0..60), swallow in any::<u16>(),
    ) {
        let octets: Vec<u8> = (0..count).flat_map(message).collect();
        let mut stream = Stream::new(Seq(first));
        let mut got: Vec<u8> = Vec::new();
        let mut ours: Vec<(usize, Vec<u8>)> = Vec::new();
        let mut told = Seq(first);
        let take = |stream: &mut Stream, got: &mut Vec<u8>, out: Vec<Outgoing>| {
            for segment in out {
                let at = segment.seq.distance(Seq(first) + got.len() as u32);
                prop_assert!(at <= 0, "a hole before {segment:?}");
                let known = at.unsigned_abs() as usize;
                if known < segment.bytes.len() {
                    got.extend_from_slice(&segment.bytes[known..]);
                } else {
                    let start = got.len() - known;
                    prop_assert_eq!(&got[start..start + segment.bytes.len()], &segment.bytes[..]);
                }
            }
            let _ = stream;
            Ok(())
        };
        let all = std::iter::once(Step::Send(0, 1000));
        for step in steps.into_iter().chain(all) {
            match step {
                Step::Send(from, to) => {
                    let at = |part: u16| octets.len() * usize::from(part) / 1000;
                    let (from, to) = (at(from), at(to));
                    match stream.receive(Seq(first) + from as u32, &octets[from..to], false) {
                        Received::New(_) => {
                            let mut out = Vec::new();
                            loop {
                                match stream.next_message(true) {
                                    Next::Message(bytes) if bytes[13] as u16 == swallow % 16 => { stream.swallow(bytes.len(), NOW); }
                                    Next::Message(bytes) => out.push(stream.emit(bytes, NOW)),
                                    Next::Nothing => break,
                                    other => prop_assert!(false, "{other:?}"),
                                }
                            }
                            if stream.is_holding() { stream.take_custody(NOW); }
                            take(&mut stream, &mut got, out)?;
                        }
                        Received::Again(out) => take(&mut stream, &mut got, out)?,
                        Received::Gap | Received::Probe(_) | Received::Acknowledge(_) => {}
                        other @ (Received::Full | Received::Implausible) => prop_assert!(false, "{other:?}"),
                    }
                }
                Step::Ack => {
                    let now_told = stream.acknowledged(Seq(first) + got.len() as u32, NOW);
                    prop_assert!(!now_told.before(told), "an acknowledgement went back");
                    prop_assert!(now_told.distance(Seq(first)) as usize <= octets.len(), "more than was sent");
                    told = now_told;
                }
                Step::Inject => {
                    let own = message(100);
                    ours.push((got.len(), own.clone()));
                    let out = stream.inject(own, NOW);
                    take(&mut stream, &mut got, vec![out])?;
                }
                Step::Restart => {
                    let text = serde_json::to_string(&stream).expect("serialise");
                    stream = serde_json::from_str(&text).expect("read back");
                }
            }
        }
        let mut rest = got;
        for (at, own) in ours.into_iter().rev() {
            let cut: Vec<u8> = rest.drain(at..at + own.len()).collect();
            prop_assert_eq!(cut, own);
        }
        let expected: Vec<u8> = (0..count).filter(|n| *n != swallow % 16).flat_map(message).collect();
        prop_assert_eq!(rest, expected);
        let end = stream.out_next();
        prop_assert_eq!(stream.acknowledged(end, NOW), Seq(first) + octets.len() as u32);
        prop_assert!(stream.is_delivered());
    }
}
