//! Both modes at once: one stock of Call IDs, one count of calls and sessions, no packet of the other.

use callgate_pptp::{CallRefusal, Event, Side, Verdict, shared};

use super::lab::{EXTERNAL, Lab, SERVER, client_addr};
use super::messages::{self, gre, read_gre};
use super::pair::Pair;

/// An in-path call of client 0 with PAC id 7, and a shared mode that is lent the same engine.
fn both() -> (Pair, Lab, u16) {
    let mut pair = Pair::new();
    let link = pair.start(client_addr(0), 30_000);
    let translated = pair.call(link, 5, 7);
    let mut lab = Lab::new(65_535);
    std::mem::swap(&mut pair.engine, &mut lab.engine);
    (pair, lab, translated)
}

#[test]
fn a_client_with_a_call_in_each_mode_to_one_server_keeps_both() {
    let (mut pair, mut lab, translated) = both();
    lab.server.first_pac = Some(7);
    let session = lab.start_with_call(0, 5);
    let call = lab.calls_of(session)[0].clone();
    assert_eq!(call.server_pac, Some(7));
    assert_ne!((call.client_pac, call.server_pns), (Some(7), Some(translated)));
    lab.assert_gre_passes(&call);
    // The other one's packets are not ours.
    let mut up = gre(client_addr(0), SERVER, 7, 1, b"in the path");
    assert_eq!(lab.shared.from_client(&mut up, lab.now), None);
    let mut down = gre(SERVER, EXTERNAL, translated, 1, b"in the path");
    assert_eq!(lab.shared.from_server(&mut down, lab.now), None);
    std::mem::swap(&mut pair.engine, &mut lab.engine);
    pair.up(up);
    assert_eq!(pair.at_server.pop().map(|packet| read_gre(&packet).2), Some(7));
    assert_eq!(pair.engine.from_server(&mut down, pair.now), Verdict::Forward(Side::Client));
}

#[test]
fn max_calls_and_max_sessions_hold_for_both_together() {
    let (mut pair, mut lab, _) = both();
    (lab.policy.max_calls, lab.policy.max_sessions) = (2, 3);
    let session = lab.start_with_call(1, 0);
    let refused = lab.start_with_call(2, 0);
    assert_eq!((lab.last(session)[16], lab.last(refused)[16], lab.last(refused)[17]), (1, 7, 4));
    assert!(lab.try_connect(3).is_err());
    std::mem::swap(&mut pair.engine, &mut lab.engine);
    // And the in-path mode counts those of the shared one.
    pair.policy.max_calls = 2;
    let link = pair.start(client_addr(4), 31_000);
    pair.client_says(link, &messages::outgoing_request(6));
    let reply = pair.at_client(link).pop().unwrap();
    assert_eq!((reply[9], reply[16], reply[17]), (8, 7, 4));
}

#[test]
fn a_clients_share_is_of_the_calls_it_has_in_both_modes() {
    let mut pair = Pair::new();
    pair.policy.max_calls = 8;
    let link = pair.start(client_addr(0), 30_000);
    for n in 0..3 {
        pair.call(link, 5 + n, 7 + n);
    }
    let mut lab = Lab::new(65_535);
    std::mem::swap(&mut pair.engine, &mut lab.engine);
    lab.policy.max_calls = 8;
    lab.start_with_call(1, 0);
    let session = lab.start_with_call(0, 20);
    lab.says(session, &messages::outgoing_request(21));
    let all = [(client_addr(0), 5), (client_addr(1), 1)].map(|(client, calls)| ("pos/alg".to_owned(), client, calls));
    assert_eq!(lab.engine.counted()[1], all);
    // Two are left, and half of all is four.
    lab.says(session, &messages::outgoing_request(22));
    let refused = lab.events.iter().find_map(|event| match event {
        shared::Event::CallRefused { pns_id, why, .. } => Some((*pns_id, *why)),
        _ => None,
    });
    assert_eq!(refused, Some((22, shared::Refusal::Share(5))));
    std::mem::swap(&mut pair.engine, &mut lab.engine);
    pair.client_says(link, &messages::outgoing_request(9));
    let refused = pair.events.iter().find_map(|event| match event {
        Event::CallRefused { pns_id, why, .. } => Some((*pns_id, *why)),
        _ => None,
    });
    assert_eq!(refused, Some((9, CallRefusal::Share(5))));
}
