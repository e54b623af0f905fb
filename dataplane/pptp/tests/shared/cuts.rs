//! However TCP cuts and glues what a client says, the same commands follow.

use callgate_pptp::shared::{Command, SessionId};

use super::lab::{Lab, Rings};
use super::messages;

/// A client with a call under id 7, a call of the server that rings, and another client with a call.
fn busy() -> (Lab, SessionId) {
    let mut lab = Lab::new(4);
    let session = lab.start(0);
    lab.clients.get_mut(&session).unwrap().rings = Rings::Ignores;
    let upstream = lab.live_upstreams()[0];
    lab.server_says(upstream, &messages::incoming_request(500));
    lab.says(session, &messages::outgoing_request(7));
    lab.start_with_call(1, 7);
    lab.log.clear();
    (lab, session)
}

/// Everything a client may say in that state.
fn sayings() -> Vec<Vec<u8>> {
    let (lab, session) = busy();
    let pac = lab.calls_of(session)[0].client_pac.unwrap();
    vec![
        messages::start_request(),
        messages::stop_request(),
        messages::stop_reply(),
        messages::echo_request(),
        messages::echo_reply(),
        messages::outgoing_request(7),
        messages::outgoing_request(8),
        messages::incoming_reply(9, 500, 1),
        messages::incoming_reply(0, 500, 3),
        messages::call_clear(7),
        messages::set_link_info(pac),
        messages::disconnect_notify(1),
    ]
}

/// Says these pieces one after another, then carries out what follows.
fn commands(state: &dyn Fn() -> (Lab, SessionId), pieces: &[&[u8]]) -> Vec<Command> {
    let (mut lab, session) = state();
    for piece in pieces {
        lab.shared.client_bytes(session, piece, &mut lab.engine, lab.now);
    }
    lab.settle();
    lab.log
}

fn fresh() -> (Lab, SessionId) {
    let mut lab = Lab::new(4);
    let session = lab.connect(0);
    (lab, session)
}

/// Cut in two at every octet, and octet by octet.
fn same_however_cut(state: &dyn Fn() -> (Lab, SessionId), whole: &[&[u8]]) {
    let expected = commands(state, whole);
    let glued = whole.concat();
    for cut in 0..=glued.len() {
        let (one, two) = glued.split_at(cut);
        assert_eq!(commands(state, &[one, two]), expected, "cut at {cut}: {whole:?}");
    }
    let octets: Vec<&[u8]> = glued.chunks(1).collect();
    assert_eq!(commands(state, &octets), expected, "octet by octet: {whole:?}");
}

#[test]
fn every_message_cut_at_every_octet_gives_the_same_commands() {
    same_however_cut(&fresh, &[&messages::start_request()]);
    for message in sayings() {
        same_however_cut(&busy, &[&message]);
    }
}

#[test]
fn every_pair_glued_and_cut_at_every_octet_gives_the_same_commands() {
    let start = messages::start_request();
    for message in sayings() {
        same_however_cut(&fresh, &[&start, &message]);
    }
    for one in sayings() {
        for two in sayings() {
            same_however_cut(&busy, &[&one, &two]);
        }
    }
}

#[test]
fn the_same_calls_result_whether_the_server_answers_between_two_messages_or_after_both() {
    for one in sayings() {
        for two in sayings() {
            let ids = |glued: bool| {
                let (mut lab, session) = busy();
                if glued {
                    lab.says(session, &[&one[..], &two[..]].concat());
                } else {
                    lab.says(session, &one);
                    lab.says(session, &two);
                }
                lab.wait(100);
                let calls = lab.calls().into_iter();
                calls.map(|call| (call.flow, call.client_pns, call.tunnel, call.is_up)).collect::<Vec<_>>()
            };
            assert_eq!(ids(true), ids(false), "{one:?} {two:?}");
        }
    }
}

#[test]
fn what_the_server_says_may_be_cut_and_glued_at_will_too() {
    let said = |lab: &Lab| {
        let call = lab.calls().into_iter().find(|call| call.is_up).unwrap();
        let (pns, pac) = (call.server_pns.unwrap(), call.server_pac.unwrap());
        [
            messages::echo_request(),
            messages::wan_error(pns),
            messages::incoming_request(600),
            messages::disconnect_notify(pac),
        ]
        .concat()
    };
    let run = |pieces: &dyn Fn(&[u8]) -> Vec<Vec<u8>>| {
        let (mut lab, _) = busy();
        let upstream = lab.live_upstreams()[0];
        let bytes = said(&lab);
        for piece in pieces(&bytes) {
            lab.shared.upstream_bytes(upstream, &piece, &mut lab.engine, lab.now);
        }
        lab.settle();
        lab.log
    };
    let expected = run(&|bytes| messages::split(bytes));
    assert_eq!(run(&|bytes| bytes.chunks(1).map(<[u8]>::to_vec).collect()), expected);
    for cut in 0..400 {
        assert_eq!(run(&|bytes| vec![bytes[..cut].to_vec(), bytes[cut..].to_vec()]), expected, "cut at {cut}");
    }
}
