//! Servers that give a Call ID to a second client while the first one's call lives.

use callgate_pptp::wire::tcp::Flags;
use callgate_pptp::{CallEnd, Event, Flow};

use super::messages::{self, gre, message, read_gre};
use super::pair::{EXTERNAL, Link, Pair, SERVER, client_addr};

/// Clients 0 and 1, connected; the server says how many calls a connection of its takes.
fn two(channels: u8) -> (Pair, Link, Link) {
    let mut pair = Pair::new();
    let [first, second] = [0, 1].map(|number| {
        let link = pair.connect(client_addr(number), 40_000);
        pair.client_says(link, &messages::start_request());
        pair.server_says(link, &message(2, 156, &[(12, &[1, 0, 1, 0]), (25, &[channels])]));
        link
    });
    (pair, first, second)
}

/// Client, translated id and PAC id of each call that is up.
fn up(pair: &Pair) -> Vec<(std::net::Ipv4Addr, Option<u16>, Option<u16>)> {
    pair.engine.calls().iter().map(|call| (call.flow.client, call.translated_id, call.pac_id)).collect()
}

/// The call that was asked for with this PNS id is refused on both sides.
fn assert_refused(pair: &Pair, link: Link, pns: u16, translated: u16) {
    assert_eq!(pair.at_client(link).pop(), Some(message(8, 32, &[(14, &pns.to_be_bytes()), (16, &[2, 4])])));
    assert_eq!(pair.at_server(link).pop(), Some(messages::call_clear(translated)));
}

#[test]
fn the_second_call_is_refused_on_both_sides_and_the_first_goes_on() {
    let (mut pair, first, second) = two(0);
    let live = pair.call(first, 5, 128);
    pair.events.clear();
    let refused = pair.call(second, 6, 128);
    assert_refused(&pair, second, 6, refused);
    assert_eq!(up(&pair), [(client_addr(0), Some(live), Some(128))]);
    let flow = Flow { client: client_addr(1), client_port: 40_000, server: SERVER, server_port: 1723 };
    let taken = Event::PacIdTaken { flow, external: EXTERNAL, pac_id: 128, holder: client_addr(0) };
    let told: Vec<&str> = pair.events.iter().map(Event::name).collect();
    assert_eq!((told, pair.events.last()), (vec!["call_down", "pac_id_taken"], Some(&taken)));
    assert!(matches!(&pair.events[0], Event::CallDown { reason: CallEnd::PacIdTaken, .. }));
    assert_eq!(pair.engine.counters().calls_pac_id_taken, 1);
    // GRE of the first passes, nothing of the second does.
    pair.up(gre(client_addr(0), SERVER, 128, 1, b"first"));
    pair.up(gre(client_addr(1), SERVER, 128, 1, b"second"));
    pair.down(gre(SERVER, EXTERNAL, refused, 1, b"second"));
    pair.down(gre(SERVER, EXTERNAL, live, 1, b"first"));
    let arrived = |packets: &[Vec<u8>]| packets.iter().map(|packet| read_gre(packet).3).collect::<Vec<_>>();
    assert_eq!(
        (arrived(&pair.at_server), arrived(&pair.at_client)),
        (vec![b"first".to_vec()], vec![b"first".to_vec()])
    );
    // The server may still end it by the book; that id is the first one's to everybody else.
    pair.server_says(second, &messages::disconnect_notify(128));
    assert_eq!(pair.at_client(second).len(), 2);
    assert_eq!(up(&pair), [(client_addr(0), Some(live), Some(128))]);
    // The connection goes on, and so it is after a restart.
    pair.restart();
    let refused = pair.call(second, 6, 128);
    assert_refused(&pair, second, 6, refused);
    let accepted = pair.call(second, 6, 129);
    assert_eq!(up(&pair), [(client_addr(0), Some(live), Some(128)), (client_addr(1), Some(accepted), Some(129))]);
}

#[test]
fn an_id_is_free_as_soon_as_its_call_is_being_cleared_or_its_server_has_closed() {
    let (mut pair, first, second) = two(0);
    pair.call(first, 5, 128);
    pair.client_says(first, &messages::call_clear(5));
    let translated = pair.call(second, 6, 128);
    assert!(up(&pair).contains(&(client_addr(1), Some(translated), Some(128))));

    let (mut pair, first, second) = two(0);
    pair.call(first, 5, 128);
    let fin = pair.servers.get_mut(&first.server).unwrap().fin();
    pair.down(fin);
    let translated = pair.call(second, 6, 128);
    assert!(up(&pair).contains(&(client_addr(1), Some(translated), Some(128))));

    let (mut pair, first, second) = two(0);
    pair.call(first, 5, 128);
    let server = &pair.servers[&first.server];
    let reset = server.packet(server.next, Flags::RST, &[]);
    pair.down(reset);
    let translated = pair.call(second, 6, 128);
    assert_eq!(up(&pair), [(client_addr(1), Some(translated), Some(128))]);
}

#[test]
fn of_a_server_that_takes_one_call_a_connection_only_the_newest_counts() {
    let (mut pair, first, second) = two(1);
    // pptpd drops each for the next, and says nothing.
    for pac in 128..138 {
        pair.call(first, pac, pac);
    }
    pair.restart();
    let translated = pair.call(second, 6, 129);
    assert!(up(&pair).contains(&(client_addr(1), Some(translated), Some(129))));
    let refused = pair.call(second, 7, 137);
    assert_refused(&pair, second, 7, refused);
}

#[test]
fn an_offer_under_the_id_of_anothers_call_is_not_taken_and_no_client_hears_of_it() {
    let (mut pair, first, second) = two(0);
    pair.call(first, 5, 128);
    let before = pair.at_client(second);
    pair.server_says(second, &messages::incoming_request(128));
    assert_eq!(pair.at_client(second), before);
    assert_eq!(pair.at_server(second).pop(), Some(message(10, 24, &[(14, &[0, 128, 2, 5])])));
    assert_eq!((pair.engine.calls().len(), pair.engine.counters().calls_pac_id_taken), (1, 1));
    // Nor is a call accepted under the id of an offer that rings elsewhere.
    pair.server_says(first, &messages::incoming_request(200));
    let refused = pair.call(second, 6, 200);
    assert_refused(&pair, second, 6, refused);
}
