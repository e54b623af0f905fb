//! What one client may have of Call IDs and calls, so that others are served whatever it does.

use callgate_pptp::Limits;
use callgate_pptp::shared::{Config, Event, Gone, Refusal, SessionId};

use super::lab::{Lab, Rings, client_addr, id};
use super::messages;
use super::pair::Pair;
use super::peer::Clears;

/// A lab in which a client may have so many Call IDs, and a control connection so many calls.
fn lab(call_ids_per_client: u32, calls_per_connection: u32) -> Lab {
    let limits = Limits { call_ids_per_client, calls_per_connection, ..Limits::default() };
    Lab::with_limits(65_535, Config::default(), limits)
}

fn refusals(lab: &mut Lab) -> Vec<Refusal> {
    let why = |event| match event {
        Event::CallRefused { why, .. } => Some(why),
        _ => None,
    };
    lab.events.drain(..).filter_map(why).collect()
}

#[test]
fn who_asks_and_hangs_up_without_end_uses_up_its_own_call_ids_and_nobody_elses() {
    let mut lab = lab(8, 1_024);
    for number in 0..12 {
        // Another session is the same client.
        let session = lab.start_with_call(0, number);
        lab.says(session, &messages::call_clear(number));
    }
    assert_eq!(refusals(&mut lab), [Refusal::CallIdsOfClient(8); 4]);
    let other = lab.start_with_call(1, 0);
    assert_eq!(lab.calls_of(other).len(), 1);
    // Nor does it get any in the path; others do.
    let mut pair = Pair::new();
    std::mem::swap(&mut pair.engine, &mut lab.engine);
    let link = pair.start(client_addr(0), 30_000);
    pair.client_says(link, &messages::outgoing_request(5));
    let reply = pair.at_client(link).pop().unwrap();
    assert_eq!((reply[9], reply[16], reply[17]), (8, 2, 4));
    let link = pair.start(client_addr(1), 30_000);
    pair.call(link, 5, 7);
    std::mem::swap(&mut pair.engine, &mut lab.engine);
    // They are its own again once they have rested, twice the echo time-out.
    lab.wait(360_000);
    let session = lab.start_with_call(0, 0);
    assert_eq!((lab.calls_of(session).len(), refusals(&mut lab)), (1, vec![]));
}

#[test]
fn the_call_id_of_a_call_the_server_refuses_may_be_used_again_at_once() {
    let mut lab = lab(1, 1_024);
    lab.server.mute = true;
    let session = lab.start(0);
    let upstream = lab.live_upstreams()[0];
    for pns in 0..10 {
        lab.says(session, &messages::outgoing_request(pns));
        let asked = id(lab.server.heard[&upstream].last().unwrap(), 12);
        lab.server_says(upstream, &messages::outgoing_reply(0, asked, 4));
        assert_eq!((lab.last(session)[9], lab.last(session)[16]), (8, 4));
    }
    assert_eq!((refusals(&mut lab), &lab.journal[..]), (vec![], &[][..]));
}

#[test]
fn a_call_id_rests_where_the_server_was_told_to_clear_the_call_it_then_refuses() {
    let mut lab = lab(1, 1_024);
    lab.server.mute = true;
    let session = lab.start_with_call(0, 0);
    let upstream = lab.live_upstreams()[0];
    let asked = id(lab.server.heard[&upstream].last().unwrap(), 12);
    // No answer in time: it is cleared, and that meets the refusal on its way.
    lab.server.calls.get_mut(&upstream).unwrap().insert(7, asked);
    lab.server.clears = Clears::Silent;
    lab.wait(60_000);
    lab.server_says(upstream, &messages::outgoing_reply(0, asked, 4));
    lab.says(session, &messages::outgoing_request(1));
    assert_eq!(refusals(&mut lab), [Refusal::CallIdsOfClient(1)]);
}

#[test]
fn call_ids_of_calls_whose_client_is_gone_are_counted_to_it_also_by_the_next_process() {
    let mut lab = lab(2, 1_024);
    lab.server.clears = Clears::Silent;
    let gone = lab.start_with_call(0, 0);
    lab.start_with_call(0, 1);
    lab.leaves(gone, Gone::Reset);
    lab.restart(0);
    lab.start_with_call(0, 2);
    assert_eq!(refusals(&mut lab), [Refusal::CallIdsOfClient(2)]);
}

#[test]
fn who_has_the_address_of_a_client_that_is_gone_does_not_answer_for_what_was_its() {
    let mut lab = lab(2, 1_024);
    lab.server.clears = Clears::Silent;
    let sessions: Vec<SessionId> = (0..2).map(|pns| lab.start_with_call(0, pns)).collect();
    sessions.into_iter().for_each(|session| lab.leaves(session, Gone::Reset));
    let gone = [client_addr(0)].into();
    lab.shared.disown(&gone);
    lab.engine.end_clients(&gone, lab.now);
    let first = lab.start_with_call(0, 0);
    lab.start_with_call(0, 1);
    // Those of the client before are given up, and change nothing of what is counted to this one.
    lab.wait(10_000 + 360_000);
    lab.says(first, &messages::outgoing_request(2));
    assert_eq!(refusals(&mut lab), [Refusal::CallsOfClient(2)]);
}

#[test]
fn of_one_client_no_more_calls_wait_than_it_may_have_whatever_sessions_it_opens() {
    for apart in [false, true] {
        let mut lab = lab(10, 4);
        lab.server.dead = true;
        let asks = |lab: &mut Lab, client: u32| {
            let session = lab.connect(client);
            if apart {
                lab.shared.keep_apart(session);
            }
            let requests: Vec<u8> = (0..6).flat_map(messages::outgoing_request).collect();
            lab.says(session, &[messages::start_request(), requests].concat());
            refusals(lab)
        };
        let (session, client) = (Refusal::CallsOfConnection(4), Refusal::CallsOfClient(10));
        assert_eq!([asks(&mut lab, 0), asks(&mut lab, 0)], [vec![session; 2], vec![session; 2]]);
        assert_eq!([asks(&mut lab, 0), asks(&mut lab, 0)], [vec![client; 4], vec![client; 6]]);
        assert_eq!((asks(&mut lab, 1), lab.shared.call_count()), (vec![session; 2], 14));
    }
}

#[test]
fn a_call_of_the_server_goes_to_no_session_that_has_all_it_may_have() {
    let mut lab = lab(10, 1);
    let sessions = [0, 0].map(|client| lab.start(client));
    sessions.iter().enumerate().for_each(|(pns, session)| {
        lab.clients.get_mut(session).unwrap().rings = Rings::Accepts(pns as u16);
    });
    let upstream = lab.live_upstreams()[0];
    (0..3).for_each(|pac| lab.server_says(upstream, &messages::incoming_request(900 + pac)));
    lab.assert_all_calls_live(2);
    let told = lab.server.heard[&upstream].last().unwrap();
    assert_eq!((told[9], id(told, 14), told[16]), (10, 902, 3));
}

#[test]
fn a_policy_many_have_is_looked_up_once_and_a_client_is_gone_when_its_session_is() {
    let mut lab = Lab::new(65_535);
    let [a, b] = [0, 1].map(|client| lab.start_with_call(client, 0));
    let mut asked = 0;
    let mut look_up = |old: &callgate_pptp::Policy| {
        asked += 1;
        Some(old.clone())
    };
    lab.shared.set_policies(&mut look_up, &mut lab.engine, lab.now);
    assert_eq!(asked, 1);
    let clients = |lab: &Lab| {
        let mut clients: Vec<_> = lab.shared.flows().map(|flow| flow.client).collect();
        clients.sort();
        (clients, lab.shared.sessions_gone(), lab.shared.client_call_count())
    };
    assert_eq!(clients(&lab), (vec![client_addr(0), client_addr(1)], 0, 2));
    lab.leaves(a, Gone::Finished);
    assert_eq!((clients(&lab), lab.live_upstreams().len()), ((vec![client_addr(1)], 1, 1), 1));
    // One that is told to go is there until it has gone.
    lab.shared.set_policies(&mut |_| None, &mut lab.engine, lab.now);
    lab.settle();
    assert_eq!(clients(&lab), (vec![client_addr(1)], 1, 0));
    lab.leaves(b, Gone::Finished);
    assert_eq!(clients(&lab), (vec![], 2, 0));
}
