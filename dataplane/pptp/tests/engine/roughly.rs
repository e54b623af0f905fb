//! A network that cuts, glues, loses, repeats, reorders and overlaps, and an agent that is killed at any moment: both ends
//! read exactly what the other said, Call IDs translated.
//!
//! ```text
//!  conversation (who says what) ─► cut at random ─► lost / twice / out of order / overlapping ─► engine ─► other end
//!                                                     what is not acknowledged is sent again
//! ```

use proptest::prelude::*;

use callgate_pptp::wire::tcp;

use super::messages::*;
use super::pair::{Link, Pair, client_addr};

/// Small seeded generator (SplitMix64), so that a failing case is one number.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % end as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// How rough it is.
#[derive(Debug, Clone, Copy)]
struct Weather {
    seed: u64,
    restarts: bool,
}

struct Rough {
    pair: Pair,
    link: Link,
    dice: Dice,
    weather: Weather,
}

impl Rough {
    fn new(weather: Weather) -> Self {
        let mut pair = Pair::new();
        let link = pair.connect(client_addr(0), 40_000);
        // What was not sent yet when the process was killed, is lost.
        pair.clients.values_mut().chain(pair.servers.values_mut()).for_each(|end| end.holes = weather.restarts);
        Self { pair, link, dice: Dice(weather.seed), weather }
    }

    fn packet(&mut self, by_client: bool, packet: Vec<u8>) {
        if self.weather.restarts && self.dice.one_in(3) {
            self.pair.crash = Some(self.dice.below(1_000));
        }
        if by_client { self.pair.up(packet) } else { self.pair.down(packet) }
    }

    /// One side says these messages at once; returns when all of it has been acknowledged.
    fn say(&mut self, by_client: bool, messages: &[Vec<u8>]) {
        let bytes = messages.concat();
        let end = self.end(by_client);
        let start = end.sent.len();
        end.data(&bytes);
        let total = end.sent.len();
        let mut pieces: Vec<(usize, usize)> = Vec::new();
        let mut at = start;
        while at < total {
            let to = (at + 1 + self.dice.below(200)).min(total);
            // Some reach back into what was said before.
            let from = at - self.dice.below(40).min(at - start).min(if self.dice.one_in(3) { 40 } else { 0 });
            for _ in 0..[1, 1, 1, 0, 2][self.dice.below(5)] {
                pieces.push((from, to));
            }
            at = to;
        }
        for n in 0..pieces.len() {
            let other = n + self.dice.below((pieces.len() - n).min(3));
            pieces.swap(n, other);
        }
        for (from, to) in pieces {
            let packet = self.end(by_client).again(from, to);
            self.packet(by_client, packet);
        }
        for attempt in 0.. {
            let delivered = self.end(by_client).delivered();
            if delivered >= total {
                break;
            }
            assert!(attempt < 100, "never acknowledged: {delivered} of {total}");
            let packet = self.end(by_client).again(delivered, total);
            self.packet(by_client, packet);
            // What was acknowledged in the receiver's name is the gateway's to deliver.
            self.pair.wait(400);
        }
        self.pair.wait(400);
    }

    fn end(&mut self, by_client: bool) -> &mut super::ends::End {
        if by_client {
            self.pair.clients.get_mut(&self.link.client).unwrap()
        } else {
            self.pair.servers.get_mut(&self.link.server).unwrap()
        }
    }

    /// Offset 12 of the newest message the server has got.
    fn translated(&self) -> u16 {
        let newest = self.pair.at_server(self.link).pop().unwrap();
        u16::from_be_bytes([newest[12], newest[13]])
    }

    /// All 15 types, each at least once; what one side says at a time is glued and cut at random.
    fn converse(&mut self) -> (u16, u16) {
        self.say(true, &[start_request()]);
        self.say(false, &[start_reply(), echo_request()]);
        self.say(true, &[echo_reply(), outgoing_request(7)]);
        let first = self.translated();
        self.say(false, &[outgoing_reply(70, first, 1), wan_error(first), incoming_request(71)]);
        self.say(true, &[set_link_info(70), incoming_reply(0, 71, 1)]);
        let second = self.translated();
        self.say(false, &[set_link_info(first), incoming_connected(second), echo_request()]);
        self.say(true, &[echo_reply(), echo_request(), call_clear(7)]);
        self.say(false, &[echo_reply(), disconnect_notify(70)]);
        self.say(true, &[stop_request()]);
        self.say(false, &[stop_reply()]);
        (first, second)
    }
}

/// What each end has to read when `first` and `second` are the translated ids.
fn expected(first: u16, second: u16) -> (Vec<u8>, Vec<u8>) {
    let at_server = [
        start_request(),
        echo_reply(),
        outgoing_request(first),
        set_link_info(70),
        incoming_reply(second, 71, 1),
        echo_reply(),
        echo_request(),
        call_clear(first),
        stop_request(),
    ];
    let at_client = [
        start_reply(),
        echo_request(),
        outgoing_reply(70, 7, 1),
        wan_error(7),
        incoming_request(71),
        set_link_info(7),
        incoming_connected(0),
        echo_request(),
        echo_reply(),
        disconnect_notify(70),
        stop_reply(),
    ];
    (at_client.concat(), at_server.concat())
}

fn holds_in(weather: Weather) {
    let mut rough = Rough::new(weather);
    let (first, second) = rough.converse();
    let link = rough.link;
    let got = (rough.pair.clients[&link.client].got.clone(), rough.pair.servers[&link.server].got.clone());
    assert_eq!(got, expected(first, second));
    for end in [&rough.pair.clients[&link.client], &rough.pair.servers[&link.server]] {
        assert!(!end.reset);
        assert_eq!(end.acked, end.next);
    }
    assert_eq!(rough.pair.engine.calls(), []);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn both_ends_read_what_the_other_said_however_it_came(seed: u64) {
        holds_in(Weather { seed, restarts: false });
    }

    #[test]
    fn both_ends_read_what_the_other_said_though_the_agent_is_killed_at_any_moment(seed: u64) {
        holds_in(Weather { seed, restarts: true });
    }
}

#[test]
fn every_pair_of_messages_in_one_segment_cut_at_every_octet_arrives_as_two_messages() {
    // Each side's messages that may follow one another in an open call.
    let of_client =
        |_: u16| vec![echo_request(), echo_reply(), set_link_info(70), outgoing_request(8), outgoing_request(9)];
    let of_server =
        |first: u16| vec![echo_request(), echo_reply(), set_link_info(first), wan_error(first), incoming_request(71)];
    for by_client in [true, false] {
        for a in 0..5 {
            for b in 0..5 {
                let length = {
                    let messages = if by_client { of_client(0) } else { of_server(0) };
                    messages[a].len() + messages[b].len()
                };
                for cut in 0..length {
                    let mut pair = Pair::new();
                    let link = pair.start(client_addr(0), 40_000);
                    let first = pair.call(link, 7, 70);
                    let messages = if by_client { of_client(first) } else { of_server(first) };
                    let glued = [&messages[a][..], &messages[b][..]].concat();
                    let (one, two) = glued.split_at(cut);
                    for piece in [one, two].into_iter().filter(|piece| !piece.is_empty()) {
                        if by_client { pair.client_says(link, piece) } else { pair.server_says(link, piece) }
                    }
                    let got = if by_client { pair.at_server(link) } else { pair.at_client(link) };
                    let got: Vec<Vec<u8>> = got.into_iter().rev().take(2).rev().map(untranslated).collect();
                    let said = [messages[a].clone(), messages[b].clone()].map(untranslated);
                    assert_eq!(got, said, "{a} and {b} cut at {cut}");
                }
            }
        }
    }
}

/// A message without the Call ID that is translated in it.
fn untranslated(mut message: Vec<u8>) -> Vec<u8> {
    if matches!(message[9], 7 | 14 | 15) {
        message[12..14].fill(0);
    }
    message
}

#[test]
fn a_repetition_with_other_octets_does_not_change_what_was_passed_on() {
    let mut pair = Pair::new();
    let link = pair.start(client_addr(0), 40_000);
    let client = pair.clients.get_mut(&link.client).unwrap();
    let start = client.sent.len();
    let packet = client.data(&outgoing_request(7));
    let server_before = pair.servers[&link.server].clone();
    pair.up(packet);
    // The server's acknowledgement is lost, as if it had never got it; then the client repeats something else.
    pair.servers.insert(link.server, server_before);
    let end = &pair.clients[&link.client];
    let other = end.packet(end.first + start as u32, tcp::Flags::ACK, &outgoing_request(0x6666));
    pair.up(other);
    assert_eq!(pair.engine.calls().len(), 1);
    let ids: Vec<Option<u16>> = pair.engine.calls().iter().map(|call| call.pns_id).collect();
    assert_eq!(ids, [Some(7)]);
}
