//! A server serves nobody else while it waits for a first message (pptpd): how often one client can make it wait.

use callgate_pptp::{ConnectionState, Event, OpenRefusal};

use super::ends::End;
use super::messages::*;
use super::pair::{Link, Pair, SERVER, client_addr};

/// Whether a client is let through to the server from this port.
fn gets_through(pair: &mut Pair, client: u32, port: u16) -> bool {
    pair.connect(client_addr(client), port);
    !pair.clients[&(client_addr(client), port)].reset
}

#[test]
fn a_client_that_connects_and_says_nothing_again_and_again_keeps_the_server_waiting_a_small_part_of_the_time() {
    let mut pair = Pair::new();
    // Twice a second, for an hour; in how many half seconds of each ten minutes the server waits.
    let waits: Vec<usize> = (0..6)
        .map(|part| {
            let waits = (0..1_200).filter(|n| {
                gets_through(&mut pair, 0, part * 1_200 + n);
                pair.wait(500);
                pair.engine.connections().iter().any(|view| view.state == ConnectionState::AwaitingStart)
            });
            waits.count()
        })
        .collect();
    assert!(waits[0] < 200 && waits[1..].iter().all(|part| *part <= 60), "{waits:?}");
    let counters = pair.engine.counters();
    assert!(counters.silent_clients_refused > 6_000 && counters.connections_refused > counters.silent_clients_refused);
}

#[test]
fn whoever_closes_just_before_the_time_out_waits_as_well_and_gets_through_when_it_has_waited() {
    let mut pair = Pair::new();
    let link = pair.connect(client_addr(0), 1);
    pair.wait(4_900);
    pair.client_resets(link);
    assert!(!gets_through(&mut pair, 0, 2));
    let refused = pair.events.iter().rev().find_map(|event| match event {
        Event::Refused { why, .. } => Some((*why, event.to_string())),
        _ => None,
    });
    let (why, text) = refused.unwrap();
    assert_eq!(why, OpenRefusal::KeptServerWaiting(4_000));
    assert!(text.ends_with("refused for 4000 ms more"), "{text}");
    pair.wait(3_999);
    assert!(!gets_through(&mut pair, 0, 3));
    pair.wait(1);
    let link = pair.start(client_addr(0), 4);
    assert_eq!(pair.at_server(link), [start_request()]);
    // A connection that succeeds costs nothing: it does not buy the next silence.
    assert!(gets_through(&mut pair, 0, 5));
    pair.wait(5_000);
    assert!(!gets_through(&mut pair, 0, 6));
    pair.wait(7_999);
    assert!(!gets_through(&mut pair, 0, 7));
    pair.wait(1);
    assert!(gets_through(&mut pair, 0, 8));
}

#[test]
fn many_that_dial_at_once_from_one_address_and_do_speak_are_let_in_all() {
    let mut pair = Pair::new();
    let mut waiting: Vec<u16> = (0..200).collect();
    while !waiting.is_empty() {
        // They speak a little later, those that found no room come again.
        let open: Vec<Link> = waiting
            .iter()
            .filter_map(|&port| {
                pair.connect(client_addr(0), port);
                let open = !pair.clients[&(client_addr(0), port)].reset;
                open.then(|| Link { client: (client_addr(0), port), server: pair.newest() })
            })
            .collect();
        assert_eq!(open.len(), 8.min(waiting.len()));
        pair.wait(1_500);
        for link in open {
            pair.client_says(link, &start_request());
            waiting.retain(|port| *port != link.client.1);
        }
    }
    assert_eq!((pair.engine.connection_count(), pair.engine.counters().silent_clients_refused), (200, 0));
}

#[test]
fn checks_that_connect_and_close_and_servers_that_close_are_no_offence() {
    let mut pair = Pair::new();
    for port in 0..100 {
        let link = pair.connect(client_addr(0), port);
        pair.client_resets(link);
        pair.wait(200);
    }
    for port in 0..20 {
        let link = pair.connect(client_addr(1), port);
        pair.wait(4_000);
        let server = &pair.servers[&link.server];
        let reset = server.packet(server.next, callgate_pptp::wire::tcp::Flags::RST, &[]);
        pair.down(reset);
    }
    assert_eq!((pair.engine.counters().connections_opened, pair.engine.counters().connections_refused), (120, 0));
}

#[test]
fn who_closes_at_once_is_not_charged_for_a_server_that_takes_its_time_nor_who_never_answers_its_syn() {
    let mut pair = Pair::new();
    for (n, closes_after) in [4_000, 4_000, 4_000, 30_000].into_iter().cycle().take(12).enumerate() {
        let link = pair.connect(client_addr(0), n as u16);
        let fin = pair.clients.get_mut(&link.client).unwrap().fin();
        pair.up(fin);
        if n % 2 == 0 {
            // What the journal has is enough.
            pair.restart();
        }
        pair.wait(closes_after);
        let fin = pair.servers.get_mut(&link.server).unwrap().fin();
        pair.down(fin);
    }
    for port in 100..110 {
        let mut end = End::new(client_addr(1), port, SERVER, 1723, 7);
        let syn = end.syn();
        pair.up(syn);
        pair.wait(30_000);
    }
    let counters = pair.engine.counters();
    assert_eq!((counters.connections_refused, pair.engine.connection_count()), (0, 0));
    assert!(gets_through(&mut pair, 0, 200) && gets_through(&mut pair, 1, 200));
}

#[test]
fn another_client_and_another_server_are_not_concerned_nor_who_has_the_address_next() {
    let mut pair = Pair::new();
    gets_through(&mut pair, 0, 1);
    pair.wait(5_000);
    assert!(!gets_through(&mut pair, 0, 2) && gets_through(&mut pair, 1, 2));
    let other = "198.51.100.10".parse().unwrap();
    pair.connect_to(client_addr(0), 3, other);
    assert!(!pair.clients[&(client_addr(0), 3)].reset);
    pair.engine.end_clients(&[client_addr(0)].into(), pair.now);
    pair.settle(callgate_pptp::Verdict::Consumed, vec![]);
    assert!(gets_through(&mut pair, 0, 4));
}
