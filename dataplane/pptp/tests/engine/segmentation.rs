//! Every message split at every octet, coalesced in every pair: the same octets arrive at the other end.

use super::messages::*;
use super::pair::{Link, Pair, client_addr};

/// Plays a whole session; `cut` decides how each utterance is cut into segments.
fn play(cut: &dyn Fn(&[u8]) -> Vec<Vec<u8>>) -> (Vec<u8>, Vec<u8>) {
    let mut pair = Pair::new();
    let link = pair.connect(client_addr(0), 40_000);
    let say = |pair: &mut Pair, link: Link, by_client: bool, message: &[u8]| {
        for piece in cut(message) {
            if by_client { pair.client_says(link, &piece) } else { pair.server_says(link, &piece) }
        }
    };
    say(&mut pair, link, true, &start_request());
    say(&mut pair, link, false, &start_reply());
    say(&mut pair, link, true, &outgoing_request(7));
    let request = pair.at_server(link).pop().unwrap();
    let translated = u16::from_be_bytes([request[12], request[13]]);
    say(&mut pair, link, false, &outgoing_reply(70, translated, 1));
    say(&mut pair, link, true, &set_link_info(70));
    say(&mut pair, link, false, &wan_error(translated));
    say(&mut pair, link, false, &incoming_request(71));
    say(&mut pair, link, true, &incoming_reply(8, 71, 1));
    let reply = pair.at_server(link).pop().unwrap();
    let second = u16::from_be_bytes([reply[12], reply[13]]);
    say(&mut pair, link, false, &incoming_connected(second));
    say(&mut pair, link, true, &echo_request());
    say(&mut pair, link, false, &echo_reply());
    say(&mut pair, link, true, &call_clear(7));
    say(&mut pair, link, false, &disconnect_notify(70));
    say(&mut pair, link, true, &stop_request());
    say(&mut pair, link, false, &stop_reply());
    for end in [&pair.clients[&link.client], &pair.servers[&link.server]] {
        assert_eq!(end.acked, end.next, "something was not acknowledged");
        assert!(!end.reset);
    }
    (pair.clients[&link.client].got.clone(), pair.servers[&link.server].got.clone())
}

#[test]
fn split_at_every_octet_gives_the_same_streams() {
    let whole = play(&|message| vec![message.to_vec()]);
    for at in 1..220 {
        let split = play(&|message| {
            let at = at.min(message.len() - 1);
            vec![message[..at].to_vec(), message[at..].to_vec()]
        });
        assert_eq!(split, whole, "split at {at}");
    }
    let octets = play(&|message| message.iter().map(|octet| vec![*octet]).collect());
    assert_eq!(octets, whole);
}

#[test]
fn two_messages_in_one_segment_leave_as_two_segments() {
    let mut pair = Pair::new();
    let link = pair.connect(client_addr(0), 40_000);
    pair.client_says(link, &[start_request(), outgoing_request(7)].concat());
    assert_eq!(pair.servers[&link.server].segments, [156, 168]);
}

#[test]
fn nothing_of_an_unfinished_first_message_reaches_the_server_and_both_are_reset() {
    let mut pair = Pair::new();
    let link = pair.connect(client_addr(0), 40_000);
    pair.client_says(link, &start_request()[..155]);
    assert_eq!(pair.servers[&link.server].got, b"");
    pair.wait(6_000);
    assert_eq!(pair.servers[&link.server].got, b"");
    assert!(pair.clients[&link.client].reset && pair.servers[&link.server].reset);
    assert_eq!(pair.engine.counters().first_message_timeouts, 1);
}
