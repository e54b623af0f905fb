//! Servers that give a Call ID to a second client while the first one's call lives, over another connection or in the other mode.

use callgate_pptp::shared::{CallEnd, Event, Gone};

use super::lab::{EXTERNAL, Lab, SERVER, client_addr, id};
use super::messages::{self, message};
use super::pair::Pair;

/// What was told about it: the Call ID and who has it.
fn told(lab: &Lab) -> Vec<(u16, std::net::Ipv4Addr)> {
    let of = |event: &Event| match event {
        Event::PacIdTaken { external: EXTERNAL, server: SERVER, pac_id, holder, .. } => Some((*pac_id, *holder)),
        _ => None,
    };
    lab.events.iter().filter_map(of).collect()
}

#[test]
fn the_second_call_is_refused_on_both_sides_and_the_first_goes_on() {
    let mut lab = Lab::new(1);
    // Each connection of the server counts anew.
    lab.server.first_pac = Some(7);
    let first = lab.start_with_call(0, 5);
    let second = lab.start_with_call(1, 6);
    assert_eq!(lab.last(second), message(8, 32, &[(14, &[0, 6, 2, 4])]));
    let upstream = lab.live_upstreams()[1];
    let heard = &lab.server.heard[&upstream];
    assert_eq!(heard.last(), Some(&messages::call_clear(id(&heard[1], 12))));
    assert_eq!((told(&lab), lab.shared.counters().calls_pac_id_taken), (vec![(7, client_addr(0))], 1));
    let ends: Vec<CallEnd> = lab
        .events
        .iter()
        .filter_map(|event| match event {
            Event::CallDown { why, .. } => Some(*why),
            _ => None,
        })
        .collect();
    assert_eq!(ends, [CallEnd::PacIdTaken]);
    lab.assert_all_calls_live(1);
    // Its session goes on; under another id it has its call.
    lab.server.first_pac = Some(8);
    lab.says(second, &messages::outgoing_request(6));
    lab.assert_all_calls_live(2);
    lab.restart(0);
    // An id is free when its call is over.
    lab.says(first, &messages::call_clear(5));
    lab.server.first_pac = Some(7);
    lab.start_with_call(2, 5);
    lab.assert_all_calls_live(2);
}

#[test]
fn an_offer_under_the_id_of_anothers_call_rings_nowhere() {
    let mut lab = Lab::new(2);
    lab.server.first_pac = Some(7);
    let sessions = [0, 1].map(|number| lab.start_with_call(number, 5));
    let third = lab.start(2);
    lab.server.first_pac = Some(20);
    lab.says(third, &messages::outgoing_request(5));
    let upstream = lab.live_upstreams()[1];
    let before: Vec<_> = sessions.iter().map(|session| lab.kinds(*session)).collect();
    lab.server_says(upstream, &messages::incoming_request(8));
    assert_eq!(sessions.iter().map(|session| lab.kinds(*session)).collect::<Vec<_>>(), before);
    assert_eq!(lab.server.heard[&upstream].last(), Some(&message(10, 24, &[(14, &[0, 8, 2, 5])])));
    assert_eq!(told(&lab), [(8, client_addr(1))]);
}

#[test]
fn a_call_of_the_in_path_mode_has_its_id_for_itself_too() {
    let mut pair = Pair::new();
    let link = pair.start(client_addr(0), 30_000);
    pair.call(link, 5, 7);
    let mut lab = Lab::new(65_535);
    std::mem::swap(&mut pair.engine, &mut lab.engine);
    lab.server.first_pac = Some(7);
    let session = lab.start_with_call(1, 5);
    assert_eq!(lab.last(session), message(8, 32, &[(14, &[0, 5, 2, 4])]));
    assert_eq!(told(&lab), [(7, client_addr(0))]);
    // And a call of this one.
    lab.server.first_pac = Some(9);
    lab.says(session, &messages::outgoing_request(6));
    std::mem::swap(&mut pair.engine, &mut lab.engine);
    let asked = pair.call(link, 8, 9);
    assert_eq!(pair.at_server(link).pop(), Some(messages::call_clear(asked)));
    assert_eq!(pair.at_client(link).pop(), Some(message(8, 32, &[(14, &[0, 8]), (16, &[2, 4])])));
    std::mem::swap(&mut pair.engine, &mut lab.engine);
    lab.leaves(session, Gone::Reset);
    std::mem::swap(&mut pair.engine, &mut lab.engine);
    pair.call(link, 8, 9);
    assert_eq!(pair.engine.calls().iter().map(|call| call.pac_id).collect::<Vec<_>>(), [Some(7), Some(9)]);
}
