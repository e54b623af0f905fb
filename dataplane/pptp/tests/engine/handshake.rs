//! SYN and SYN-ACK: what is passed, what is taken out, and what a second SYN means.

use callgate_pptp::wire::{Seq, ipv4, tcp};
use callgate_pptp::{CloseReason, ConnectionState, Event, Now, Side, Verdict};

use super::ends::End;
use super::messages::{echo_request, outgoing_request, start_request};
use super::pair::{Link, Pair, SERVER, client_addr};

const SYN: tcp::Flags = tcp::Flags::SYN;

/// A SYN of client 0, port 40,000, with these flags, options and data.
fn syn(isn: u32, flags: tcp::Flags, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let bare = End::new(client_addr(0), 40_000, SERVER, 1723, isn).packet(Seq(isn), flags, &[]);
    let mut packet = [&bare[..], options, payload].concat();
    let length = packet.len() as u16;
    let mut ip = ipv4::Packet::new_unchecked(&mut packet[..]);
    ip.set_total_len(length);
    ip.fill_checksum();
    let mut segment = tcp::Packet::new_unchecked(ip.payload_mut());
    segment.set_header_len(20 + options.len());
    segment.fill_checksum(client_addr(0), SERVER);
    packet
}

fn states(pair: &Pair) -> Vec<ConnectionState> {
    pair.engine.connections().iter().map(|connection| connection.state).collect()
}

#[test]
fn of_the_options_those_stay_that_a_cut_stream_can_keep_to() {
    let mut pair = Pair::new();
    let options = [
        2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 7, 0, 0, 0, 0, 1, 3, 3, 7, // what Linux sends
        30, 12, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, // multipath
        34, 2, // fast open
        1, 1,
    ];
    let ecn = SYN.with(tcp::Flags(0xc0));
    let mut packet = syn(1, ecn, &options, &[]);
    struct Yes;
    impl callgate_pptp::Admit for Yes {
        fn admit(&mut self, _: callgate_pptp::Flow) -> Result<callgate_pptp::Admission, callgate_pptp::Refusal> {
            Ok(callgate_pptp::Admission { external: super::pair::EXTERNAL, policy: super::pair::policy() })
        }
    }
    assert_eq!(pair.engine.from_client(&mut packet, &mut Yes, Now(1)), Verdict::Forward(Side::Server));
    let ip = ipv4::Packet::new_checked(&packet[..]).unwrap();
    let segment = tcp::Packet::new_checked(ip.payload()).unwrap();
    assert!(ip.verify_checksum() && segment.verify_checksum(ip.src(), ip.dst()));
    assert_eq!((ip.ttl(), segment.flags(), segment.seq()), (63, SYN, Seq(1)));
    let mut expected = options.to_vec();
    expected[20..34].fill(1);
    assert_eq!(segment.options(), expected);
}

#[test]
fn timestamps_that_the_server_does_not_take_are_in_no_segment_to_it() {
    let mut pair = Pair::new();
    let mut end = End::new(client_addr(0), 40_000, SERVER, 1723, 1);
    end.syn();
    pair.clients.insert((client_addr(0), 40_000), end);
    pair.up(syn(1, SYN, &[1, 1, 8, 10, 0, 0, 0, 7, 0, 0, 0, 0], &[]));
    let link = Link { client: (client_addr(0), 40_000), server: pair.newest() };
    let ack = pair.clients[&link.client].ack();
    pair.up(ack);
    pair.client_says(link, &start_request());
    let got = pair.servers[&link.server].packets.last().unwrap();
    let ip = ipv4::Packet::new_unchecked(&got[..]);
    let segment = tcp::Packet::new_unchecked(ip.payload());
    assert_eq!((segment.payload(), segment.options()), (&start_request()[..], &[][..]));
}

#[test]
fn a_syn_with_data_is_dropped_because_the_server_would_read_it_unseen() {
    let mut pair = Pair::new();
    pair.up(syn(1, SYN, &[], &start_request()));
    assert_eq!((pair.servers.len(), pair.engine.counters().drop_tcp_early), (0, 1));
    assert_eq!(states(&pair), []);
}

#[test]
fn a_repeated_syn_takes_the_same_way() {
    let mut pair = Pair::new();
    let mut end = End::new(client_addr(0), 40_000, SERVER, 1723, 7);
    let syn = end.syn();
    pair.up(syn.clone());
    pair.up(syn.clone());
    assert_eq!(pair.servers.len(), 1);
    // Late, after the handshake: nothing happens to the connection.
    let mut pair = Pair::new();
    let link = pair.start(client_addr(0), 40_000);
    pair.call(link, 5, 100);
    let mut late = End::new(client_addr(0), 40_000, SERVER, 1723, u32::MAX - 60);
    let late = late.syn();
    pair.up(late);
    pair.client_says(link, &echo_request());
    assert_eq!(pair.at_server(link).pop().unwrap(), echo_request());
    assert_eq!((pair.engine.calls().len(), pair.engine.counters().drop_tcp_syn_live), (1, 1));
}

#[test]
fn a_forged_syn_does_not_end_a_live_connection_and_a_real_one_does_by_rst() {
    let mut pair = Pair::new();
    let link = pair.start(client_addr(0), 40_000);
    pair.call(link, 5, 100);
    let server = link.server;
    // What a client that lives does with the answer: nothing.
    pair.up(syn(99, SYN, &[], &[]));
    assert_eq!((pair.engine.calls().len(), pair.servers.len()), (1, 1));
    // What a client does that has started anew: the answer acknowledges what it never sent.
    let answer = pair.clients[&link.client].packets.last().unwrap().clone();
    let ip = ipv4::Packet::new_unchecked(&answer[..]);
    let ack = tcp::Packet::new_unchecked(ip.payload()).ack();
    let reset = End::new(client_addr(0), 40_000, SERVER, 1723, 0).packet(ack, tcp::Flags::RST, &[]);
    pair.up(reset);
    assert!(pair.servers[&server].reset);
    assert_eq!(pair.engine.calls(), []);
    pair.clients.clear();
    let link = pair.start(client_addr(0), 40_000);
    assert_ne!(link.server, server);
    assert_eq!(states(&pair), [ConnectionState::Established]);
}

#[test]
fn a_server_that_is_slow_to_answer_has_as_long_as_its_client_is_patient() {
    let mut pair = Pair::new();
    pair.up(syn(1, SYN, &[], &[]));
    pair.wait(29_000);
    assert_eq!(states(&pair), [ConnectionState::Opening]);
    pair.wait(2_000);
    let closed: Vec<_> = pair.events.iter().filter(|event| matches!(event, Event::Closed { .. })).collect();
    assert!(matches!(closed[..], [Event::Closed { reason: CloseReason::NotEstablished, .. }]), "{closed:?}");
}

#[test]
fn the_first_message_has_its_time_from_the_end_of_the_handshake_on() {
    let mut pair = Pair::new();
    let link = pair.connect(client_addr(0), 40_000);
    pair.wait(4_900);
    pair.client_says(link, &start_request());
    pair.client_says(link, &outgoing_request(5));
    pair.wait(10_000);
    assert_eq!(states(&pair), [ConnectionState::Established]);
}

#[test]
fn a_second_syn_ack_with_another_number_is_not_believed() {
    let mut pair = Pair::new();
    let link = pair.connect(client_addr(0), 40_000);
    let mut forged = pair.servers[&link.server].clone();
    forged.next = Seq(0x5555_5555);
    let seen = pair.clients[&link.client].packets.len();
    pair.down(forged.packet(forged.next, SYN.with(tcp::Flags::ACK), &[]));
    assert_eq!(pair.clients[&link.client].packets.len(), seen);
    let server = &pair.servers[&link.server];
    let again = server.packet(server.next - 1, SYN.with(tcp::Flags::ACK), &[]);
    pair.down(again);
    assert_eq!(pair.clients[&link.client].packets.len(), seen + 1);
}
