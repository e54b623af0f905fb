//! Whose a segment is, through the life of a connection.

use super::*;

const FLOW: Flow = Flow {
    client: Ipv4Addr::new(10, 0, 0, 2),
    client_port: 40_000,
    server: Ipv4Addr::new(203, 0, 113, 7),
    server_port: 1723,
};

fn awaited() -> Awaited {
    let policy = Policy {
        rule: "pos/tills".into(),
        service: "pos/pptp".into(),
        alg: "pos/alg".into(),
        echo_timeout_ms: 0,
        idle_timeout_ms: 0,
        max_calls: 0,
        max_sessions: 0,
        strict: true,
    };
    Awaited { admission: Admission { external: Ipv4Addr::new(192, 0, 2, 1), policy }, apart: false }
}

#[test]
fn a_client_is_known_from_its_syn_until_a_while_after_its_end_and_its_ports_may_be_used_again_meanwhile() {
    let (mut ends, end) = (Ends::default(), End::Client(FLOW));
    assert_eq!((ends.is_new(end), ends.has(end), ends.accepted(FLOW)), (true, false, None));
    ends.awaits(FLOW, awaited(), Now(0));
    assert_eq!((ends.is_new(end), ends.has(end), ends.next()), (false, true, Some(Now(HANDSHAKE))));
    assert_eq!(ends.accepted(FLOW), Some(awaited()));
    assert_eq!((ends.accepted(FLOW), ends.next()), (None, None), "only once");
    ends.over(end, Now(1_000));
    assert_eq!((ends.is_new(end), ends.has(end)), (true, true));
    ends.awaits(FLOW, awaited(), Now(2_000));
    assert_eq!(ends.accepted(FLOW), Some(awaited()));
    ends.forget(Now(1_000 + LINGER));
    assert!(ends.has(end), "the second one is there");
    ends.over(end, Now(100_000));
    ends.forget(Now(100_000 + LINGER));
    assert!(ends.is_empty() && ends.next().is_none());
}

#[test]
fn what_is_over_is_still_known_to_the_next_process_until_its_time_has_come() {
    let (mut ends, end) = (Ends::default(), End::Client(FLOW));
    assert_eq!(ends.leaving(), []);
    ends.awaits(FLOW, awaited(), Now(0));
    ends.live(end);
    assert_eq!(ends.leaving(), [], "it lives");
    ends.over(end, Now(1_000));
    let mut next = Ends::default();
    ends.leaving().into_iter().for_each(|(end, until)| next.leaves(end, until));
    assert_eq!((next.has(end), next.is_new(end), next.next()), (true, true, Some(Now(1_000 + LINGER))));
}

#[test]
fn a_handshake_that_is_never_completed_is_forgotten() {
    let mut ends = Ends::default();
    ends.awaits(FLOW, awaited(), Now(5));
    ends.forget(Now(5 + HANDSHAKE));
    assert_eq!(ends.accepted(FLOW), None);
}

#[test]
fn what_a_client_has_awaited_is_counted_until_it_is_accepted_or_forgotten() {
    let (mut ends, flow) = (Ends::default(), |client_port| Flow { client_port, ..FLOW });
    let another = Flow { client: Ipv4Addr::new(10, 0, 0, 3), ..FLOW };
    for flow in [flow(1), flow(2), flow(u16::MAX), another] {
        ends.awaits(flow, awaited(), Now(5));
    }
    ends.awaits(flow(1), awaited(), Now(6));
    assert_eq!((ends.awaited_of(FLOW.client), ends.awaited_of(another.client)), (3, 1));
    ends.accepted(flow(1)).unwrap();
    assert_eq!(ends.awaited_of(FLOW.client), 2);
    ends.over(End::Client(flow(1)), Now(7));
    ends.forget(Now(5 + HANDSHAKE));
    assert_eq!((ends.awaited_of(FLOW.client), ends.awaited_of(another.client)), (0, 0));
}

#[test]
fn what_is_awaited_follows_the_rules_and_is_forgotten_with_its_own() {
    let (mut ends, stays, goes) = (Ends::default(), FLOW, Flow { client_port: 1, ..FLOW });
    ends.awaits(stays, awaited(), Now(5));
    let mut other = awaited();
    other.admission.policy.rule = "pos/other".into();
    ends.awaits(goes, other, Now(5));
    ends.renew(&mut |old| (old.rule == "pos/tills").then(|| Policy { max_calls: 7, ..old.clone() }));
    assert_eq!((ends.has(End::Client(goes)), ends.accepted(goes)), (false, None));
    assert_eq!(ends.accepted(stays).unwrap().admission.policy.max_calls, 7);
    assert_eq!(ends.next(), None);
}

#[test]
fn what_another_mode_opens_anew_is_not_taken_for_what_is_over() {
    let (mut ends, end) = (Ends::default(), End::Client(FLOW));
    ends.live(end);
    ends.over(end, Now(1_000));
    ends.disown(end);
    assert!(ends.is_empty() && ends.next().is_none());
}

#[test]
fn connections_to_servers_say_where_answers_come_in() {
    let mut ends = Ends::default();
    let outer = Outer {
        external: SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 10_007),
        server: SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 7), 1723),
    };
    ends.live(End::Server(outer));
    assert_eq!(ends.external_addresses(), [Ipv4Addr::new(192, 0, 2, 1)].into());
    assert_eq!(ends.server_ports(), [1723].into());
    assert!(
        ends.has(End::Server(outer))
            && !ends.has(End::Server(Outer { external: outer.server, server: outer.external }))
    );
}
