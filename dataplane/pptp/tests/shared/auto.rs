//! `Auto`: what is learned about a server, and how a living in-path connection becomes a tunnel.

use std::net::Ipv4Addr;

use callgate_pptp::shared::{Connection, Gone, Learned, Learner, LiveCall, Mode, Seen, SessionId, TakeOver, Why};
use callgate_pptp::wire::control::StartReply;
use callgate_pptp::{Admission, CallDirection, Flow, Now};

use super::lab::{EXTERNAL, Lab, SERVER, client_addr, policy};
use super::messages;
use super::peer::Surplus;

const DAY: u64 = 86_400_000;
const ALG: &str = "pos/alg";

fn connection(client: u32) -> Connection {
    let flow = Flow { client: client_addr(client), client_port: 5_000, server: SERVER, server_port: 1723 };
    Connection { external: EXTERNAL, flow }
}

#[test]
fn a_server_is_per_client_until_it_refuses_a_second_connection_while_another_lives() {
    let mut learner = Learner::new(DAY, []);
    let refused = |n| Seen::Refused { connection: connection(n), result: 3 };
    assert_eq!(learner.see(refused(1), ALG, Now(1)), None, "nobody else has one: it may be an old one of the server's");
    assert_eq!(learner.see(Seen::Started(connection(0)), ALG, Now(2)), None);
    assert_eq!(learner.mode(SERVER, 1723, Now(2)), Mode::PerClient);
    let learned = Learned {
        server: SERVER,
        server_port: 1723,
        why: Why::SecondRefused,
        alg: ALG.into(),
        since: Now(3),
        seen: Now(3),
        until: Now(3 + DAY),
    };
    assert_eq!(learner.see(refused(1), ALG, Now(3)), Some(learned.clone()));
    assert_eq!(learner.mode(SERVER, 1723, Now(4)), Mode::Shared);
    assert_eq!(learner.mode(SERVER, 1724, Now(4)), Mode::PerClient);
    assert_eq!(learner.learned(Now(4)).collect::<Vec<_>>(), [learned]);
}

#[test]
fn a_reset_teaches_the_same_and_other_refusals_and_ended_connections_nothing() {
    let mut learner = Learner::new(DAY, []);
    learner.see(Seen::Started(connection(0)), ALG, Now(1));
    for result in [2, 4, 5] {
        assert_eq!(learner.see(Seen::Refused { connection: connection(1), result }, ALG, Now(2)), None);
    }
    learner.see(Seen::Ended(connection(0)), ALG, Now(3));
    assert_eq!(learner.see(Seen::ResetAtStart(connection(1)), ALG, Now(4)), None);
    learner.see(Seen::Started(connection(2)), ALG, Now(5));
    assert_eq!(
        learner.see(Seen::ResetAtStart(connection(1)), ALG, Now(6)).map(|learned| learned.why),
        Some(Why::SecondReset)
    );
}

#[test]
fn a_connection_from_another_external_address_is_no_first_one() {
    let mut learner = Learner::new(DAY, []);
    let elsewhere = Connection { external: Ipv4Addr::new(192, 0, 2, 77), ..connection(0) };
    learner.see(Seen::Started(elsewhere), ALG, Now(1));
    assert_eq!(learner.see(Seen::ResetAtStart(connection(1)), ALG, Now(2)), None);
}

#[test]
fn what_was_learned_expires_unless_it_is_seen_again_and_survives_a_restart() {
    let mut learner = Learner::new(100, []);
    learner.see(Seen::Started(connection(0)), ALG, Now(0));
    let first = learner.see(Seen::ResetAtStart(connection(1)), ALG, Now(10)).unwrap();
    let again = learner.see(Seen::ResetAtStart(connection(1)), ALG, Now(60)).unwrap();
    assert_eq!((again.since, again.seen, again.until), (Now(10), Now(60), Now(160)));
    assert_eq!(first.until, Now(110));
    let text = serde_json::to_string(&again).unwrap();
    let mut restored = Learner::new(100, [serde_json::from_str(&text).unwrap()]);
    assert_eq!(restored.mode(SERVER, 1723, Now(159)), Mode::Shared);
    assert_eq!(restored.mode(SERVER, 1723, Now(160)), Mode::PerClient);
    assert_eq!(restored.learned(Now(160)).count(), 0);
    assert!(restored.forget(SERVER, 1723));
    assert_eq!(restored.mode(SERVER, 1723, Now(100)), Mode::PerClient);
}

fn take_over(calls: &[(u16, u16, u16)]) -> TakeOver {
    let flow = connection(0).flow;
    let mut reply = messages::start_reply();
    reply[24..26].copy_from_slice(&[0xff, 0xff]);
    TakeOver {
        flow,
        admission: Admission { external: EXTERNAL, policy: policy() },
        server: StartReply::parse(&reply).unwrap(),
        calls: calls
            .iter()
            .map(|&(pns_id, translated_id, pac_id)| LiveCall {
                direction: CallDirection::Outgoing,
                pns_id,
                translated_id,
                pac_id,
            })
            .collect(),
    }
}

#[test]
fn the_refused_client_is_served_at_once_over_the_first_ones_connection_whose_calls_go_on() {
    let mut lab = Lab::new(65_535);
    lab.server.connections = 1;
    let (first, upstream) =
        lab.shared.take_over(take_over(&[(0, 4_000, 128), (1, 4_001, 0)]), &mut lab.engine, lab.now).unwrap();
    lab.adopt(first, upstream, &[(128, 4_000), (0, 4_001)]);
    lab.settle();
    assert_eq!(lab.log, []);
    lab.assert_all_calls_live(2);
    // The first message the server has refused is in our hands: it is said again, here.
    let second = lab.start_with_call(1, 0);
    assert_eq!(lab.kinds(second), [2, 8]);
    assert_eq!((lab.live_upstreams(), lab.server.most), (vec![upstream], 0));
    lab.assert_all_calls_live(3);
    lab.says(first, &messages::call_clear(1));
    assert_eq!(lab.last(first)[9], 13);
    lab.assert_all_calls_live(2);
}

#[test]
fn a_take_over_of_a_call_id_that_is_somebody_elses_is_refused() {
    let mut lab = Lab::new(65_535);
    lab.start_with_call(5, 0);
    let taken = lab.shared.calls()[0].translated_pns_id.unwrap();
    let refused = lab.shared.take_over(take_over(&[(0, taken, 128)]), &mut lab.engine, lab.now);
    assert_eq!(refused, None);
    lab.assert_all_calls_live(1);
}

/// A client that keeps its connection for itself as long as it can.
fn apart(lab: &mut Lab, number: u32, pns: u16) -> SessionId {
    let id = lab.connect(number);
    lab.shared.keep_apart(id);
    lab.says(id, &messages::start_request());
    lab.says(id, &messages::outgoing_request(pns));
    id
}

#[test]
fn a_server_that_takes_every_connection_gets_one_of_each_client_and_it_ends_with_its_client() {
    let mut lab = Lab::new(65_535);
    let clients: Vec<_> = (0..5).map(|number| apart(&mut lab, number, 0)).collect();
    assert_eq!(lab.live_upstreams().len(), 5);
    lab.assert_all_calls_live(5);
    lab.leaves(clients[0], Gone::Finished);
    lab.wait(1);
    assert_eq!(lab.live_upstreams().len(), 4, "no linger: nobody else uses it");
    assert_eq!(lab.shared.learned(lab.now).count(), 0);
    clients[1..].iter().for_each(|id| lab.leaves(*id, Gone::Reset));
    lab.assert_nothing_left();
}

#[test]
fn a_refused_client_is_served_at_once_over_the_connection_that_lives_and_so_is_every_later_one() {
    for (surplus, why) in [(Surplus::Result3, Why::SecondRefused), (Surplus::Resets, Why::SecondReset)] {
        let mut lab = Lab::new(65_535);
        (lab.server.connections, lab.server.surplus) = (1, surplus);
        let first = apart(&mut lab, 0, 0);
        let begun = lab.now;
        let second = apart(&mut lab, 1, 0);
        assert_eq!((lab.kinds(second), lab.last(second)[16], lab.now), (vec![2, 8], 1, begun), "{why:?}");
        let third = apart(&mut lab, 2, 0);
        assert_eq!((lab.kinds(first), lab.kinds(third)), (vec![2, 8], vec![2, 8]), "the first hears nothing of it");
        assert_eq!(lab.upstreams.len(), 2, "the third was not tried on its own");
        lab.assert_all_calls_live(3);
        let learned: Vec<_> =
            lab.shared.learned(lab.now).map(|entry| (entry.server, entry.server_port, entry.why)).collect();
        assert_eq!(learned, [(SERVER, 1723, why)]);
        // The first may go: the others keep its connection.
        lab.leaves(first, Gone::Finished);
        lab.assert_all_calls_live(2);
        lab.leaves(second, Gone::Finished);
        lab.leaves(third, Gone::Finished);
        lab.assert_nothing_left();
    }
}

#[test]
fn a_call_that_waits_when_its_connection_is_refused_goes_over_the_other() {
    let mut lab = Lab::new(65_535);
    lab.server.connections = 1;
    apart(&mut lab, 0, 0);
    let second = lab.connect(1);
    lab.shared.keep_apart(second);
    lab.says(
        second,
        &[messages::start_request(), messages::outgoing_request(4), messages::outgoing_request(5)].concat(),
    );
    assert_eq!(lab.kinds(second), [2, 8, 8]);
    lab.assert_all_calls_live(3);
}

#[test]
fn a_refusal_while_no_other_connection_lives_teaches_nothing() {
    let mut lab = Lab::new(65_535);
    lab.server.connections = 0;
    let client = apart(&mut lab, 0, 0);
    lab.wait(60_000);
    assert_eq!(lab.kinds(client), [2], "refused after the tries");
    assert_eq!(lab.shared.learned(lab.now).count(), 0);
}

#[test]
fn what_was_learned_is_forgotten_after_a_day_and_remembered_by_the_next_process_until_then() {
    let mut lab = Lab::new(65_535);
    lab.server.connections = 1;
    let clients = [apart(&mut lab, 0, 0), apart(&mut lab, 1, 0)];
    let learned: Vec<_> = lab.shared.learned(lab.now).collect();
    let mut next = Lab::new(65_535);
    next.shared.remember(learned);
    next.server.connections = 1;
    apart(&mut next, 0, 0);
    apart(&mut next, 1, 0);
    assert_eq!(next.upstreams.len(), 1, "shared from the first");
    clients.into_iter().for_each(|id| lab.leaves(id, Gone::Finished));
    lab.wait(86_400_000);
    lab.server.connections = usize::MAX;
    apart(&mut lab, 2, 0);
    apart(&mut lab, 3, 0);
    assert_eq!((lab.live_upstreams().len(), lab.shared.learned(lab.now).count()), (2, 0));
}
