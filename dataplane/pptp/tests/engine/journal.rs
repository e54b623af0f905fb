//! What the journal has of a connection, how long its lines are, and that those of an earlier version are read.

use callgate_pptp::{CallDirection, CallState, CallView, Change, Engine, Limits, Traffic};

use super::messages::*;
use super::pair::{EXTERNAL, Pair, SERVER, client_addr};

/// Octets of each line that `act` leads to.
fn lines(pair: &mut Pair, act: impl FnOnce(&mut Pair)) -> Vec<usize> {
    let before = pair.journal.len();
    act(pair);
    pair.journal[before..].iter().map(|change| serde_json::to_string(change).unwrap().len()).collect()
}

#[test]
fn a_message_of_a_connection_with_a_thousand_calls_costs_no_longer_a_line_than_one_of_a_connection_with_one() {
    let mut pair = Pair::new();
    let link = pair.start(client_addr(0), 40_000);
    pair.call(link, 0, 0);
    let echo = lines(&mut pair, |pair| pair.client_says(link, &echo_request()));
    for pns in 1..1_000 {
        pair.client_says(link, &outgoing_request(pns));
    }
    let later = lines(&mut pair, |pair| pair.client_says(link, &echo_request()));
    let request = lines(&mut pair, |pair| pair.client_says(link, &outgoing_request(1_000)));
    let cleared = lines(&mut pair, |pair| pair.client_says(link, &call_clear(7)));
    let longest = [&echo, &later, &request, &cleared].map(|lines| (lines.len(), lines[0] < 1_100));
    assert_eq!(longest, [(1, true); 4], "{echo:?} {later:?} {request:?} {cleared:?}");
    pair.restart();
    assert_eq!(pair.engine.call_count(), 1_001);
}

#[test]
fn what_a_server_does_not_acknowledge_makes_no_line_long_however_the_messages_came() {
    for glued in [1, 500] {
        let mut pair = Pair::new();
        let link = pair.start(client_addr(0), 40_000);
        let deaf = pair.servers.remove(&link.server).unwrap();
        let written = lines(&mut pair, |pair| {
            (0..500 / glued).for_each(|_| pair.client_says(link, &echo_request().repeat(glued)));
        });
        assert!(written.iter().all(|octets| *octets < 10_000), "{written:?}");
        // All of it arrives in the end.
        pair.servers.insert(link.server, deaf);
        for _ in 0..20 {
            let client = &pair.clients[&link.client];
            let rest = client.again(client.delivered(), client.sent.len());
            pair.up(rest);
        }
        assert_eq!(pair.at_server(link).len(), 1 + 500);
    }
}

#[test]
fn a_set_up_call_costs_few_octets() {
    let mut pair = Pair::new();
    let written = lines(&mut pair, |pair| {
        let link = pair.start(client_addr(0), 40_000);
        pair.call(link, 5, 100);
    });
    assert!(written.len() == 6 && written.iter().sum::<usize>() < 4_500, "{written:?}");
}

#[test]
fn what_went_through_a_call_is_known_after_a_restart_though_its_messages_were_about_other_things() {
    let mut pair = Pair::new();
    let link = pair.start(client_addr(0), 40_000);
    for call in 0..3 {
        pair.call(link, call, 100 + call);
        pair.up(gre(client_addr(0), SERVER, 100 + call, 1, b"of a till"));
    }
    (0..3).for_each(|_| pair.client_says(link, &echo_request()));
    let before = pair.engine.calls();
    pair.restart();
    assert_eq!(pair.engine.calls(), before);
    assert_eq!(before.iter().map(|call| call.up.packets).collect::<Vec<_>>(), [1, 1, 1]);
}

#[test]
fn calls_that_ended_and_came_are_as_they_were_after_each_of_many_restarts() {
    let mut pair = Pair::new();
    let link = pair.start(client_addr(0), 40_000);
    for round in 0..20u16 {
        pair.call(link, round, 100 + round);
        pair.server_says(link, &incoming_request(200 + round));
        if round % 3 == 0 {
            pair.server_says(link, &disconnect_notify(100 + round));
        }
        let before = (pair.engine.calls(), pair.engine.connections());
        pair.restart();
        assert_eq!((pair.engine.calls(), pair.engine.connections()), before, "round {round}");
        if round == 10 {
            pair.journal = pair.engine.records();
        }
    }
    let replayed = Engine::restore(Limits::default(), 1, pair.journal.clone(), pair.now);
    assert_eq!(replayed.records(), pair.engine.records());
}

#[test]
fn a_journal_of_whole_records_is_read_and_goes_on_in_the_new_form() {
    let old = include_str!("../data/journal-of-whole-records.jsonl");
    let mut pair = Pair::new();
    // The connection whose journal this is, with the same numbers.
    let link = pair.start(client_addr(0), 40_000);
    let translated = pair.call(link, 5, 100);
    pair.server_says(link, &incoming_request(102));
    pair.client_says(link, &echo_request());
    let expected = (pair.engine.calls(), pair.engine.connections());
    pair.journal = old.lines().map(|line| serde_json::from_str::<Change>(line).unwrap()).collect();
    pair.restart();
    assert_eq!((pair.engine.calls(), pair.engine.connections()), expected);
    // Its calls are changed, ended, and joined by others; all of it is told in lines behind the old ones.
    pair.server_says(link, &disconnect_notify(100));
    pair.client_says(link, &incoming_reply(6, 102, 1));
    pair.call(link, 7, 103);
    pair.restart();
    let call = |direction, state, pns, pac| (direction, state, Some(pns), Some(pac));
    let brief = |view: &CallView| (view.direction, view.state, view.pns_id, view.pac_id);
    let calls: Vec<_> = pair.engine.calls().iter().map(brief).collect();
    let accepted = call(CallDirection::Incoming, CallState::Accepted, 6, 102);
    assert_eq!(calls, [accepted, call(CallDirection::Outgoing, CallState::Up, 7, 103)]);
    pair.down(gre(SERVER, EXTERNAL, translated, 1, b"of the call that is over"));
    assert_eq!(pair.at_client.len(), 0);
    pair.up(gre(client_addr(0), SERVER, 103, 1, b"of the new one"));
    assert_eq!(pair.engine.calls()[1].up, Traffic { packets: 1, bytes: 46, lost: 0 });
}
