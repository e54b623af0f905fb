//! maxCalls, and who gets a call when they are scarce.

use callgate_pptp::shared::{Config, Event, Gone, Refusal};

use super::lab::{Lab, client_addr, id};
use super::messages;

fn refusals(lab: &Lab) -> Vec<Refusal> {
    lab.events
        .iter()
        .filter_map(|event| match event {
            Event::CallRefused { why, .. } => Some(*why),
            _ => None,
        })
        .collect()
}

#[test]
fn a_call_beyond_max_calls_is_not_accepted_and_says_no_resource() {
    let mut lab = Lab::new(65_535);
    lab.policy.max_calls = 3;
    for n in 0..3 {
        lab.start_with_call(n, 0);
    }
    let session = lab.start_with_call(3, 7);
    let reply = lab.last(session);
    assert_eq!((reply[9], id(&reply, 14), reply[16], reply[17]), (8, 7, 7, 4));
    assert_eq!((refusals(&lab), lab.clients[&session].cut), (vec![Refusal::MaxCalls(3)], None));
    lab.assert_all_calls_live(3);
}

#[test]
fn a_call_that_ends_makes_room_even_before_the_server_confirms_it() {
    let mut lab = Lab::new(65_535);
    lab.policy.max_calls = 1;
    lab.server.clears = super::peer::Clears::Silent;
    let session = lab.start_with_call(0, 0);
    lab.leaves(session, Gone::Reset);
    let session = lab.start_with_call(0, 0);
    assert_eq!(lab.kinds(session), [2, 8]);
    assert_eq!((lab.last(session)[16], lab.calls_of(session).len()), (1, 1));
}

#[test]
fn when_calls_are_scarce_a_client_with_its_share_gets_no_more_and_one_with_none_does() {
    let mut lab = Lab::new(65_535);
    lab.policy.max_calls = 8;
    let greedy = lab.start(0);
    lab.start_with_call(1, 0);
    for pns in 0..8 {
        lab.says(greedy, &messages::outgoing_request(pns));
    }
    // Six of eight were free to take; the last two are for those who have less than four.
    assert_eq!(lab.calls_of(greedy).len(), 5);
    let reply = lab.last(greedy);
    assert_eq!((reply[16], reply[17]), (2, 4));
    assert_eq!(refusals(&lab), [Refusal::Share(5); 3]);
    let newcomer = lab.start_with_call(2, 0);
    assert_eq!(lab.calls_of(newcomer).len(), 1);
    lab.assert_all_calls_live(7);
}

#[test]
fn alone_a_client_may_have_all_calls_of_a_few_and_all_but_a_sixteenth_of_many() {
    for (max_calls, most, why) in [(8, 8, Refusal::MaxCalls(8)), (16, 15, Refusal::Share(15))] {
        let mut lab = Lab::new(65_535);
        lab.policy.max_calls = max_calls;
        let session = lab.start(0);
        for pns in 0..=most {
            lab.says(session, &messages::outgoing_request(pns));
        }
        assert_eq!((lab.calls_of(session).len(), refusals(&lab)), (usize::from(most), vec![why]));
    }
}

#[test]
fn calls_of_the_server_leave_a_client_its_share_and_no_more() {
    let mut lab = Lab::new(65_535);
    lab.policy.max_calls = 16;
    let rung = lab.start(0);
    let upstream = lab.live_upstreams()[0];
    (0..20).for_each(|pac| lab.server_says(upstream, &messages::incoming_request(900 + pac)));
    let offered: Vec<u16> = lab.clients[&rung].got.iter().filter(|m| m[9] == 9).map(|m| id(m, 12)).collect();
    assert_eq!(offered, (900..915).collect::<Vec<_>>());
    let told: Vec<_> = lab.server.heard[&upstream].iter().filter(|m| m[9] == 10).cloned().collect();
    let refused: Vec<_> = told.iter().map(|m| (id(m, 14), m[16], m[17])).collect();
    assert_eq!(refused, (915..920).map(|pac| (pac, 3, 4)).collect::<Vec<_>>());
    // The last one is for who has none.
    let newcomer = lab.start_with_call(1, 0);
    assert_eq!((lab.last(newcomer)[9], lab.last(newcomer)[16], lab.shared.client_call_count()), (8, 1, 16));
}

#[test]
fn calls_that_waited_are_served_in_turns_not_by_who_asked_for_most() {
    let mut lab = Lab::new(3);
    lab.server.connections = 1;
    lab.server.dead = true;
    let greedy = lab.connect(0);
    let many: Vec<u8> = (0..10).flat_map(messages::outgoing_request).collect();
    lab.says(greedy, &[messages::start_request(), many].concat());
    let modest: Vec<_> = (1..3).map(|n| lab.connect(n)).collect();
    for &session in &modest {
        lab.says(session, &[messages::start_request(), messages::outgoing_request(0)].concat());
    }
    // The server wakes up; it takes three calls and no second connection.
    let upstream = lab.live_upstreams()[0];
    lab.server.dead = false;
    let reply = lab.server.hear_first_again(upstream);
    lab.server_does(upstream, reply);
    for &session in &modest {
        assert_eq!(lab.calls_of(session).len(), 1, "asked last, for one");
    }
    assert_eq!(lab.calls_of(greedy).len(), 1);
    let told: Vec<_> = lab.clients[&greedy].got.iter().filter(|m| m[9] == 8).map(|m| (m[16], m[17])).collect();
    assert_eq!(told.iter().filter(|codes| **codes == (2, 4)).count(), 9);
    lab.assert_all_calls_live(3);
}

#[test]
fn when_too_many_calls_wait_the_last_of_who_has_most_makes_room_for_a_client_with_fewer() {
    let mut lab = Lab::with_config(65_535, Config { max_waiting: 4, ..Config::default() });
    lab.server.dead = true;
    let greedy = lab.start(0);
    let upstream = lab.live_upstreams()[0];
    (0..5).for_each(|pns| lab.says(greedy, &messages::outgoing_request(pns)));
    let modest: Vec<_> = (1..5).map(|number| lab.start_with_call(number, 0)).collect();
    assert_eq!(refusals(&lab), [Refusal::TooManyWaiting(4); 5]);
    lab.server.dead = false;
    let reply = lab.server.hear_first_again(upstream);
    lab.server_does(upstream, reply);
    // Its first call was before theirs; the last of them has as few as those who wait.
    assert_eq!(lab.calls_of(greedy).iter().map(|call| call.client_pns).collect::<Vec<_>>(), [Some(0)]);
    let served: Vec<usize> = modest.iter().map(|session| lab.calls_of(*session).len()).collect();
    assert_eq!(served, [1, 1, 1, 0]);
    let refused: Vec<u16> =
        lab.clients[&greedy].got.iter().filter(|m| m[9] == 8 && m[16] == 2).map(|m| id(m, 14)).collect();
    assert_eq!(refused, [4, 3, 2, 1]);
}

#[test]
fn max_calls_holds_for_all_clients_of_the_alg_and_counts_are_given_back() {
    let mut lab = Lab::new(4);
    lab.policy.max_calls = 5;
    for round in 0..20 {
        let sessions: Vec<_> = (0..7).map(|n| lab.start_with_call(n, round)).collect();
        lab.assert_all_calls_live(5);
        for session in sessions {
            lab.leaves(session, Gone::Reset);
        }
        lab.assert_all_calls_live(0);
    }
    assert_eq!(refusals(&lab).len(), 40, "two in each round, whoever came last: {}", client_addr(6));
    lab.assert_nothing_left();
}

#[test]
fn whoever_asks_for_a_call_before_it_is_answered_hears_the_answer_first_and_the_refusal_behind_it() {
    let mut lab = Lab::new(65_535);
    lab.policy.max_calls = 1;
    let session = lab.connect(0);
    let requests = [messages::outgoing_request(1), messages::outgoing_request(2), messages::start_request()];
    lab.says(session, &[messages::start_request(), requests.concat()].concat());
    let got: Vec<(u8, u16, u8)> =
        lab.clients[&session].got.iter().map(|message| (message[9], id(message, 14), message[16])).collect();
    assert_eq!(got, [(2, 0x0100, 0), (8, 2, 7), (8, 1, 1)]);
    // Nor can it make us keep much for it.
    lab.server.dead = true;
    let mut lab = Lab::new(65_535);
    lab.server.dead = true;
    let session = lab.connect(0);
    lab.says(session, &[messages::start_request(), messages::echo_request().repeat(300)].concat());
    lab.wait(0);
    assert_eq!(lab.clients[&session].cut, Some(super::lab::Cut::Reset));
}
