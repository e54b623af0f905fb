//! 60,000 calls to one server: each has its own Call ID, GRE of each finds its way, and when all ids are used up the next is refused.

use callgate_pptp::Limits;

use super::messages::{self, gre, read_gre};
use super::pair::{EXTERNAL, Pair, SERVER, client_addr};

#[test]
fn sixty_thousand_calls_to_one_server_are_kept_apart() {
    let mut pair = Pair::with_limits(Limits { half_open_per_server: 10, ..Limits::default() });
    let mut ids = Vec::new();
    // 600 clients with 100 calls each.
    for client in 0..600u32 {
        let link = pair.start(client_addr(client), 40_000);
        for call in 0..100u16 {
            let pac = (client * 100 + u32::from(call)) as u16;
            ids.push((client, call, pac, pair.call(link, call, pac)));
            // The script keeps all octets; only the last message matters here.
            pair.clients.get_mut(&link.client).unwrap().got.clear();
            pair.servers.get_mut(&link.server).unwrap().got.clear();
        }
        pair.journal.clear();
        pair.events.clear();
    }
    let mut translated: Vec<u16> = ids.iter().map(|(.., translated)| *translated).collect();
    translated.sort_unstable();
    translated.dedup();
    assert_eq!((pair.engine.call_count(), translated.len()), (60_000, 60_000));
    for &(client, call, pac, translated) in ids.iter().step_by(97) {
        pair.down(gre(SERVER, EXTERNAL, translated, 0, b"x"));
        assert_eq!(read_gre(&pair.at_client.pop().unwrap()), (SERVER, client_addr(client), call, b"x".to_vec()));
        pair.up(gre(client_addr(client), SERVER, pac, 0, b"y"));
        assert_eq!(read_gre(&pair.at_server.pop().unwrap()), (EXTERNAL, SERVER, pac, b"y".to_vec()));
    }
}

#[test]
fn when_the_call_ids_of_a_pair_are_used_up_the_next_call_is_refused_with_a_reply() {
    let mut pair = Pair::new();
    for client in 0..512 {
        let link = pair.start(client_addr(client), 40_000);
        for call in 0..128 {
            pair.call(link, call, client as u16 * 128 + call);
            pair.clients.get_mut(&link.client).unwrap().got.clear();
            pair.servers.get_mut(&link.server).unwrap().got.clear();
        }
        pair.journal.clear();
        pair.events.clear();
    }
    let second = pair.start(client_addr(600), 40_000);
    pair.client_says(second, &messages::outgoing_request(9));
    let refusal = pair.at_client(second).pop().unwrap();
    assert_eq!((refusal[9], refusal[16], refusal[17]), (8, 2, 4));
    assert_eq!(u16::from_be_bytes([refusal[14], refusal[15]]), 9);
    assert_eq!(pair.at_server(second).len(), 1);
    assert_eq!(pair.engine.counters().calls_refused, 1);
}
