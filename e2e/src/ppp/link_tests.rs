//! Two links talk to each other, and one talks to a scripted peer.

use std::net::Ipv4Addr;

use super::*;
use crate::ppp::packet::{Opt, write_options};

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 99, 1, 1);
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 99, 1, 7);

struct Pair {
    links: [Link; 2],
    events: [Vec<Event>; 2],
    wires: [Vec<Vec<u8>>; 2],
    now: u64,
}

impl Pair {
    fn new() -> Self {
        let links = [Link::new(1, Ipcp::server(SERVER, CLIENT)), Link::new(2, Ipcp::client())];
        let mut pair = Self { links, events: Default::default(), wires: Default::default(), now: 0 };
        for side in 0..2 {
            pair.links[side].open(0, &mut pair.wires[side]);
        }
        pair
    }

    /// Carries frames until there are none; `drop` says which frame numbers are lost.
    fn settle(&mut self, drop: impl Fn(usize) -> bool) {
        let mut count = 0;
        while let Some(from) = (0..2).find(|side| !self.wires[*side].is_empty()) {
            let frame = self.wires[from].remove(0);
            count += 1;
            if drop(count) {
                continue;
            }
            let to = 1 - from;
            self.links[to].input(&frame, self.now, &mut self.wires[to], &mut self.events[to]);
        }
    }

    fn pass(&mut self, ms: u64) {
        self.now += ms;
        for side in 0..2 {
            self.links[side].tick(self.now, &mut self.wires[side], &mut self.events[side]);
        }
    }
}

fn both_up() -> [Vec<Event>; 2] {
    [vec![Event::Up { local: SERVER, remote: CLIENT }], vec![Event::Up { local: CLIENT, remote: SERVER }]]
}

#[test]
fn client_and_server_agree_on_addresses() {
    let mut pair = Pair::new();
    pair.settle(|_| false);
    assert_eq!(pair.events, both_up());
    assert_eq!(pair.links[0].due(), None);
}

#[test]
fn any_single_lost_frame_is_made_good_by_the_timer() {
    for lost in 1..=12 {
        let mut pair = Pair::new();
        pair.settle(|count| count == lost);
        pair.pass(crate::ppp::negotiate::RESTART_MS);
        pair.settle(|_| false);
        assert!(pair.links.iter().all(Link::is_up), "frame {lost} lost");
    }
}

#[test]
fn packets_flow_only_when_the_link_is_up() {
    let mut pair = Pair::new();
    assert_eq!(pair.links[1].send(&[0x45, 1, 2]), None);
    pair.settle(|_| false);
    let frame = pair.links[1].send(&[0x45, 1, 2]).unwrap();
    pair.events = Default::default();
    pair.links[0].input(&frame, 0, &mut pair.wires[0], &mut pair.events[0]);
    assert_eq!(pair.events[0], vec![Event::Packet(vec![0x45, 1, 2])]);
}

#[test]
fn a_peer_that_never_answers_ends_the_link() {
    let mut pair = Pair::new();
    for _ in 0..20 {
        pair.pass(crate::ppp::negotiate::RESTART_MS);
    }
    assert_eq!(pair.events[0], vec![Event::Down("no answer to Configure-Requests")]);
    assert_eq!(pair.links[0].due(), None);
}

#[test]
fn a_restarted_peer_is_negotiated_with_again() {
    let mut pair = Pair::new();
    pair.settle(|_| false);
    pair.links[1] = Link::new(3, Ipcp::client());
    pair.events = Default::default();
    pair.links[1].open(0, &mut pair.wires[1]);
    pair.settle(|_| false);
    assert_eq!(pair.events, both_up());
}

#[test]
fn an_echo_request_is_answered_with_our_own_magic_number() {
    let mut pair = Pair::new();
    pair.settle(|_| false);
    let echo = Control { code: code::ECHO_REQUEST, id: 5, data: vec![0, 0, 0, 2, 9, 9] };
    let mut out = Vec::new();
    pair.links[0].input(&echo.frame(LCP), 0, &mut out, &mut Vec::new());
    let reply = Control { code: code::ECHO_REPLY, id: 5, data: vec![0, 0, 0, 1, 9, 9] };
    assert_eq!(out, vec![reply.frame(LCP)]);
}

#[test]
fn an_option_and_a_protocol_not_known_here_are_rejected() {
    let mut pair = Pair::new();
    pair.settle(|_| false);
    let mut out = Vec::new();
    pair.links[0].input(&[0xff, 0x03, 0x80, 0xfd, 1, 1, 0, 4], 0, &mut out, &mut Vec::new());
    let reject = Control { code: code::PROTOCOL_REJECT, id: 1, data: vec![0x80, 0xfd, 1, 1, 0, 4] };
    assert_eq!(out, vec![reject.frame(LCP)]);

    let chap = Opt { kind: 3, value: vec![0xc2, 0x23, 0x81] };
    let asked = Control { code: code::CONFIGURE_REQUEST, id: 4, data: write_options(std::slice::from_ref(&chap)) };
    let mut fresh = Link::new(1, Ipcp::client());
    let mut out = Vec::new();
    fresh.open(0, &mut Vec::new());
    fresh.input(&asked.frame(LCP), 0, &mut out, &mut Vec::new());
    let rejected = Control { code: code::CONFIGURE_REJECT, id: 4, data: write_options(&[chap]) };
    assert_eq!(out, vec![rejected.frame(LCP)]);
}

#[test]
fn a_terminate_request_is_acknowledged_and_ends_the_link() {
    let mut pair = Pair::new();
    pair.settle(|_| false);
    pair.events = Default::default();
    pair.links[1].terminate(&mut pair.wires[1]);
    pair.settle(|_| false);
    assert_eq!(pair.events[0], vec![Event::Down("the peer ended the link")]);
}
