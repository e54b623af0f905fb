//! `Auto`: a connection a client, and what is learned about a server.

use std::net::Ipv4Addr;

use callgate_pptp::shared::{Gone, SessionId, Why};

use super::lab::{EXTERNAL, Lab, SERVER, client_addr};
use super::messages;
use super::peer::Surplus;

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
    for (surplus, why) in [(Surplus::Result(3), Why::SecondRefused), (Surplus::Resets, Why::SecondReset)] {
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
fn when_a_server_is_full_the_calls_of_all_clients_that_have_connections_of_their_own_are_one_groups() {
    let mut lab = Lab::new(65_535);
    lab.server.connections = 200;
    let own: Vec<_> = (0..200).map(|number| apart(&mut lab, number, 0)).collect();
    lab.assert_all_calls_live(200);
    let refused = apart(&mut lab, 200, 0);
    assert_eq!((lab.kinds(refused), lab.last(refused)[16]), (vec![2, 8], 1));
    // The group has every call: each is cleared, found and counted as before, and a restart finds the same.
    lab.restart(0);
    lab.assert_all_calls_live(201);
    own.into_iter().chain([refused]).for_each(|id| lab.leaves(id, Gone::Finished));
    lab.assert_nothing_left();
}

#[test]
fn clients_that_share_are_served_over_the_connection_an_older_one_has_of_its_own() {
    for surplus in [Surplus::Result(3), Surplus::Resets] {
        let mut lab = Lab::new(65_535);
        (lab.server.connections, lab.server.surplus) = (1, surplus);
        let first = apart(&mut lab, 0, 0);
        // The PptpAlg says Shared from now on.
        let second = lab.start_with_call(1, 0);
        lab.wait(60_000);
        let third = lab.start_with_call(2, 0);
        let told = [first, second, third].map(|id| (lab.kinds(id)[..2].to_vec(), lab.calls_of(id).len()));
        assert_eq!(told, [(vec![2, 8], 1), (vec![2, 8], 1), (vec![2, 8], 1)], "{surplus:?}");
        assert_eq!((lab.live_upstreams().len(), lab.upstreams.len()), (1, 2));
        lab.assert_all_calls_live(3);
        [first, second, third].into_iter().for_each(|id| lab.leaves(id, Gone::Finished));
        lab.assert_nothing_left();
    }
}

#[test]
fn what_was_learned_at_one_external_address_shuts_out_nobody_at_another_where_clients_have_their_own() {
    let mut lab = Lab::new(65_535);
    lab.server.connections = 2;
    let other = Ipv4Addr::new(192, 0, 2, 77);
    let clients = [(0, EXTERNAL), (1, other), (2, EXTERNAL), (3, other)].map(|(number, external)| {
        lab.external = external;
        apart(&mut lab, number, 0)
    });
    lab.wait(60_000);
    assert_eq!(clients.map(|id| lab.kinds(id)[..2].to_vec()), [(); 4].map(|()| vec![2, 8]));
    assert_eq!((lab.live_upstreams().len(), lab.server.call_count()), (2, 4));
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
fn a_refusal_or_reset_while_no_other_connection_lives_teaches_nothing() {
    for surplus in [Surplus::Result(3), Surplus::Resets] {
        let mut lab = Lab::new(65_535);
        (lab.server.connections, lab.server.surplus) = (0, surplus);
        let client = apart(&mut lab, 0, 0);
        lab.wait(60_000);
        assert_eq!(lab.kinds(client), [2], "refused after the tries");
        assert_eq!(lab.shared.learned(lab.now).count(), 0);
    }
}

#[test]
fn other_refusals_and_a_close_beside_a_connection_that_lives_teach_nothing() {
    for surplus in [2, 4, 5].map(Surplus::Result).into_iter().chain([Surplus::Closes]) {
        let mut lab = Lab::new(65_535);
        (lab.server.connections, lab.server.surplus) = (1, surplus);
        apart(&mut lab, 0, 0);
        let second = apart(&mut lab, 1, 0);
        lab.wait(60_000);
        assert_eq!((lab.kinds(second), lab.shared.learned(lab.now).count()), (vec![2], 0), "{surplus:?}");
        lab.assert_all_calls_live(1);
    }
}

#[test]
fn a_connection_from_another_external_address_is_no_first_one() {
    let mut lab = Lab::new(65_535);
    (lab.server.connections, lab.server.surplus) = (1, Surplus::Resets);
    apart(&mut lab, 0, 0);
    lab.external = Ipv4Addr::new(192, 0, 2, 77);
    let second = apart(&mut lab, 1, 0);
    lab.wait(60_000);
    assert_eq!((lab.kinds(second), lab.shared.learned(lab.now).count()), (vec![2], 0));
}

#[test]
fn the_port_of_a_clients_own_connection_is_counted_to_it_and_that_of_one_that_is_shared_to_nobody() {
    let mut lab = Lab::new(65_535);
    lab.server.connections = 1;
    lab.start_with_call(0, 0);
    assert_eq!(lab.owners.values().copied().collect::<Vec<_>>(), [None]);
    let mut lab = Lab::new(65_535);
    lab.server.connections = 1;
    (0..3).for_each(|number| {
        apart(&mut lab, number, 0);
    });
    let owners: Vec<Option<Ipv4Addr>> = lab.owners.values().copied().collect();
    assert_eq!(owners, [Some(client_addr(0)), Some(client_addr(1))]);
    assert_eq!(lab.shared.owner(lab.live_upstreams()[0]), None, "it is shared now");
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
