//! Every message cut at every octet, and every pair of messages glued and cut at every octet, gives one segment a message.

use super::*;
use crate::wire::control::{ControlType, Header, MAX_MESSAGE_LEN};

const NOW: Now = Now(0);

fn bytes_of(control_type: ControlType) -> Vec<u8> {
    let length = control_type.length();
    let mut bytes: Vec<u8> = (0..length).map(|at| at as u8).collect();
    let header = Header {
        length: length as u16,
        message_type: 1,
        cookie: control::COOKIE,
        control_type: control_type as u16,
        reserved0: 0,
    };
    header.emit(&mut bytes).unwrap();
    bytes
}

/// Sends the octets in these pieces; what left for R.
fn run(octets: &[u8], cuts: &[usize]) -> Vec<Outgoing> {
    let mut stream = Stream::new(Seq(u32::MAX - 100));
    let mut sent = Vec::new();
    let mut from = 0;
    for &to in cuts.iter().chain([&octets.len()]) {
        let seq = Seq(u32::MAX - 100) + from as u32;
        assert_eq!(stream.receive(seq, &octets[from..to], false), Received::New(vec![]));
        while let Next::Message(bytes) = stream.next_message(true) {
            sent.push(stream.emit(bytes, NOW));
        }
        assert!(stream.pending.len() < MAX_MESSAGE_LEN);
        from = to;
    }
    assert!(!stream.is_holding());
    sent
}

fn one_a_segment(messages: &[Vec<u8>]) -> Vec<Outgoing> {
    let mut seq = Seq(u32::MAX - 100);
    messages
        .iter()
        .map(|bytes| {
            let segment = Outgoing { seq, bytes: bytes.clone(), fin: false };
            seq += bytes.len() as u32;
            segment
        })
        .collect()
}

#[test]
fn every_message_cut_at_every_octet_leaves_whole() {
    for control_type in ControlType::ALL {
        let message = bytes_of(control_type);
        let want = one_a_segment(std::slice::from_ref(&message));
        for cut in 1..message.len() {
            assert_eq!(run(&message, &[cut]), want, "{control_type} cut at {cut}");
        }
        let everywhere: Vec<usize> = (1..message.len()).collect();
        assert_eq!(run(&message, &everywhere), want, "{control_type} octet by octet");
    }
}

#[test]
fn every_pair_of_messages_glued_and_cut_at_every_octet_leaves_as_two() {
    for first in ControlType::ALL {
        for second in ControlType::ALL {
            let messages = [bytes_of(first), bytes_of(second)];
            let octets = messages.concat();
            let want = one_a_segment(&messages);
            assert_eq!(run(&octets, &[]), want, "{first} and {second} glued");
            for cut in 1..octets.len() {
                assert_eq!(run(&octets, &[cut]), want, "{first} and {second} cut at {cut}");
            }
        }
    }
}

#[test]
fn a_fault_at_any_octet_of_any_message_lets_nothing_of_it_through() {
    for control_type in ControlType::ALL {
        let good = bytes_of(control_type);
        for at in 0..10 {
            let mut bad = good.clone();
            bad[at] ^= 0x80;
            for cut in 1..bad.len() {
                let mut stream = Stream::new(Seq(0));
                stream.receive(Seq(0), &bad[..cut], false);
                let early = stream.next_message(true);
                stream.receive(Seq(cut as u32), &bad[cut..], false);
                let ends = [early, stream.next_message(true)];
                assert!(
                    ends.iter().all(|next| matches!(next, Next::Nothing | Next::Malformed(_)))
                        && ends.iter().any(|next| matches!(next, Next::Malformed(_))),
                    "{control_type}, octet {at}, cut at {cut}: {ends:?}"
                );
            }
        }
    }
}
