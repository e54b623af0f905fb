//! Ids, requests and answers: each finds the right client.

use callgate_pptp::Side;
use callgate_pptp::shared::{CallEnd, Event, Gone};

use super::lab::{Lab, id};
use super::messages;
use super::peer::{Back, Clears};

#[test]
fn a_request_reaches_the_server_as_the_client_said_it_but_for_its_call_id() {
    let mut lab = Lab::new(65_535);
    let session = lab.start(0);
    let mut said = messages::outgoing_request(7);
    said[14..20].copy_from_slice(&[0x11, 0x22, 0, 0, 1, 0x2c]);
    lab.says(session, &said);
    let upstream = lab.live_upstreams()[0];
    let mut heard = lab.server.heard[&upstream][1].clone();
    heard[12..14].copy_from_slice(&7u16.to_be_bytes());
    assert_eq!(heard, said);
    let reply = lab.last(session);
    let call = &lab.calls()[0];
    assert_eq!((id(&reply, 12), id(&reply, 14), reply[16]), (call.client_pac.unwrap(), 7, 1));
}

#[test]
fn call_disconnect_notify_goes_to_the_client_whose_call_it_is_whichever_id_the_server_names() {
    for clears in [Clears::Book, Clears::WithPnsId] {
        let mut lab = Lab::new(65_535);
        lab.server.clears = clears;
        let sessions: Vec<_> = (0..5).map(|n| lab.start_with_call(n, 0)).collect();
        let pac = id(&lab.last(sessions[3]), 12);
        lab.says(sessions[3], &messages::call_clear(0));
        let told = lab.last(sessions[3]);
        assert_eq!((told[9], id(&told, 12), told[14]), (13, pac, 4));
        for n in [0, 1, 2, 4] {
            assert_eq!(lab.kinds(sessions[n]), [2, 8]);
        }
        lab.assert_all_calls_live(4);
    }
}

#[test]
fn a_server_ends_one_call_of_many_with_its_reason_and_statistics() {
    let mut lab = Lab::new(65_535);
    let sessions: Vec<_> = (0..3).map(|n| lab.start_with_call(n, 9)).collect();
    let call = lab.calls_of(sessions[1])[0].clone();
    let upstream = call.tunnel.unwrap();
    let notify = messages::message(
        13,
        148,
        &[(12, &call.server_pac.unwrap().to_be_bytes()), (14, &[1, 0, 0, 16]), (20, b"12 s")],
    );
    lab.server.calls.get_mut(&upstream).unwrap().remove(&call.server_pac.unwrap());
    lab.server_says(upstream, &notify);
    let mut expected = notify;
    expected[12..14].copy_from_slice(&call.client_pac.unwrap().to_be_bytes());
    assert_eq!(lab.last(sessions[1]), expected);
    assert_eq!((lab.kinds(sessions[0]), lab.kinds(sessions[2])), (vec![2, 8], vec![2, 8]));
    lab.assert_all_calls_live(2);
}

#[test]
fn the_reply_that_refuses_a_call_passes_with_its_codes_and_the_id_does_not_rest() {
    let mut lab = Lab::new(65_535);
    lab.server.mute = true;
    let session = lab.start_with_call(0, 7);
    let upstream = lab.live_upstreams()[0];
    let asked = id(&lab.server.heard[&upstream][1], 12);
    lab.server_says(upstream, &messages::outgoing_reply(0, asked, 4));
    let reply = lab.last(session);
    assert_eq!((id(&reply, 14), reply[16], lab.calls().len()), (7, 4, 0));
    assert_eq!(lab.journal, []);
    let ended = lab
        .events
        .iter()
        .any(|event| matches!(event, Event::CallDown { why: CallEnd::NotAccepted { result: 4, error: 0 }, .. }));
    assert!(ended);
}

#[test]
fn set_link_info_and_wan_error_notify_find_their_call_both_ways() {
    let mut lab = Lab::new(65_535);
    let sessions: Vec<_> = (0..3).map(|n| lab.start_with_call(n, 9)).collect();
    let call = lab.calls_of(sessions[2])[0].clone();
    let upstream = call.tunnel.unwrap();
    lab.says(sessions[2], &messages::set_link_info(call.client_pac.unwrap()));
    assert_eq!(lab.server.heard[&upstream].last().unwrap(), &messages::set_link_info(call.server_pac.unwrap()));
    lab.server_says(upstream, &messages::wan_error(call.server_pns.unwrap()));
    assert_eq!(lab.last(sessions[2]), messages::wan_error(9));
    lab.server_says(upstream, &messages::set_link_info(call.server_pns.unwrap()));
    assert_eq!(lab.last(sessions[2]), messages::set_link_info(9));
    assert_eq!((lab.kinds(sessions[0]), lab.kinds(sessions[1])), (vec![2, 8], vec![2, 8]));
}

#[test]
fn nobody_can_speak_about_the_call_of_another() {
    let mut lab = Lab::new(65_535);
    let owner = lab.start_with_call(0, 9);
    let other = lab.start(1);
    let call = lab.calls_of(owner)[0].clone();
    let upstream = call.tunnel.unwrap();
    let before = lab.server.heard[&upstream].len();
    lab.says(other, &messages::call_clear(9));
    lab.says(other, &messages::set_link_info(call.client_pac.unwrap()));
    lab.says(other, &messages::incoming_reply(1, call.client_pac.unwrap(), 1));
    assert_eq!(lab.server.heard[&upstream].len(), before);
    assert_eq!(lab.shared.counters().messages_ignored, 3);
    lab.server_says(upstream, &messages::wan_error(call.server_pns.unwrap().wrapping_add(1)));
    lab.server_says(upstream, &messages::disconnect_notify(60_000));
    assert_eq!((lab.kinds(owner), lab.kinds(other)), (vec![2, 8], vec![2]));
    lab.assert_all_calls_live(1);
}

#[test]
fn a_client_that_asks_again_for_a_live_call_id_gets_a_new_call_and_the_old_one_is_cleared() {
    let mut lab = Lab::new(65_535);
    let session = lab.start_with_call(0, 9);
    let old = lab.calls_of(session)[0].clone();
    lab.says(session, &messages::outgoing_request(9));
    let new = lab.calls_of(session)[0].clone();
    assert_ne!(new.server_pns, old.server_pns);
    assert_eq!(lab.kinds(session), [2, 8, 8]);
    lab.assert_all_calls_live(1);
}

#[test]
fn a_repeated_request_whose_answer_is_under_way_is_answered_once() {
    let mut lab = Lab::new(65_535);
    lab.server.mute = true;
    let session = lab.start_with_call(0, 9);
    lab.says(session, &messages::outgoing_request(9));
    let upstream = lab.live_upstreams()[0];
    assert_eq!(lab.server_kinds(upstream), [1, 7]);
}

#[test]
fn a_call_cleared_before_its_reply_is_cleared_behind_it() {
    let mut lab = Lab::new(65_535);
    lab.server.mute = true;
    let session = lab.start_with_call(0, 9);
    let upstream = lab.live_upstreams()[0];
    lab.says(session, &messages::call_clear(9));
    // accel-ppp takes harm from a Call-Clear-Request for a call it has not answered.
    assert_eq!(lab.server_kinds(upstream), [1, 7]);
    let asked = id(&lab.server.heard[&upstream][1], 12);
    for back in lab.server.accept(upstream, asked) {
        lab.server_does(upstream, back);
    }
    assert_eq!((lab.server_kinds(upstream), lab.kinds(session)), (vec![1, 7, 12], vec![2, 8, 13]));
    assert_eq!((lab.calls().len(), lab.server.call_count()), (0, 0));
}

#[test]
fn a_call_whose_client_is_gone_before_the_reply_is_cleared_behind_it() {
    let mut lab = Lab::new(65_535);
    lab.server.mute = true;
    let session = lab.start_with_call(0, 9);
    let upstream = lab.live_upstreams()[0];
    lab.leaves(session, Gone::Reset);
    let asked = id(&lab.server.heard[&upstream][1], 12);
    for back in lab.server.accept(upstream, asked) {
        lab.server_does(upstream, back);
    }
    assert_eq!(lab.server_kinds(upstream), [1, 7, 12]);
    assert_eq!((lab.shared.call_count(), lab.server.call_count()), (0, 0));
    lab.assert_nothing_left();
}

#[test]
fn a_call_cleared_while_it_waits_never_reaches_the_server() {
    let mut lab = Lab::new(65_535);
    lab.server.dead = true;
    let session = lab.connect(0);
    lab.says(session, &[messages::start_request(), messages::outgoing_request(9)].concat());
    lab.says(session, &messages::call_clear(9));
    let upstream = lab.live_upstreams()[0];
    lab.server_says(upstream, &messages::start_reply());
    let reply = lab.last(session);
    assert_eq!((lab.kinds(session), id(&reply, 14), reply[16]), (vec![2, 8], 9, 7));
    assert_eq!(lab.server_kinds(upstream), [1]);
}

#[test]
fn a_server_that_ends_a_cleared_call_by_closing_or_not_at_all_still_ends_it_for_the_client() {
    let mut lab = Lab::new(1);
    lab.server.clears = Clears::Closes;
    let session = lab.start_with_call(0, 9);
    lab.says(session, &messages::call_clear(9));
    let told = lab.last(session);
    assert_eq!((told[9], told[14], lab.clients[&session].cut), (13, 4, None));
    // Its own control connection lives, and the next call is served.
    lab.says(session, &messages::outgoing_request(9));
    lab.assert_all_calls_live(1);
    lab.server.clears = Clears::Silent;
    lab.says(session, &messages::call_clear(9));
    assert_eq!(lab.last(session)[9], 8);
    lab.wait(10_000);
    let told = lab.last(session);
    assert_eq!((told[9], told[14]), (13, 4));
    assert_eq!(lab.shared.call_count(), 0);
}

#[test]
fn a_pac_id_given_to_a_newer_call_of_the_same_connection_ends_the_older() {
    let mut lab = Lab::new(65_535);
    lab.server.mute = true;
    let old = lab.start_with_call(0, 1);
    let upstream = lab.live_upstreams()[0];
    let asked = id(&lab.server.heard[&upstream][1], 12);
    lab.server_says(upstream, &messages::outgoing_reply(70, asked, 1));
    let new = lab.start_with_call(1, 1);
    let asked = id(&lab.server.heard[&upstream][2], 12);
    lab.server_says(upstream, &messages::outgoing_reply(70, asked, 1));
    assert_eq!((lab.kinds(old), lab.last(old)[14]), (vec![2, 8, 13], 1));
    assert_eq!((lab.kinds(new), lab.calls().len()), (vec![2, 8], 1));
}

#[test]
fn the_in_path_mode_never_gives_out_a_call_id_that_is_lent() {
    let mut lab = Lab::new(65_535);
    for n in 0..100 {
        lab.start_with_call(n, 0);
    }
    let calls = lab.calls();
    let mut ids: Vec<u16> = calls.iter().map(|call| call.server_pns.unwrap()).collect();
    // The same allocator: a second shared mode beside the first takes none of them.
    let mut other = Lab::new(65_535);
    std::mem::swap(&mut lab.engine, &mut other.engine);
    for n in 0..100 {
        other.start_with_call(n, 0);
    }
    ids.extend(other.calls().iter().map(|call| call.server_pns.unwrap()));
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 200);
}

#[test]
fn an_unanswered_second_first_message_and_a_call_of_the_server_as_pns_cost_nobody_a_call() {
    let mut lab = Lab::new(65_535);
    let session = lab.start_with_call(0, 9);
    let upstream = lab.live_upstreams()[0];
    lab.says(session, &messages::start_request());
    assert_eq!((lab.last(session)[9], lab.last(session)[14]), (2, 3));
    lab.server_says(upstream, &messages::outgoing_request(3));
    let refusal = lab.server.heard[&upstream].last().cloned();
    // The script accepts what a PNS never says by the book, since it was asked for.
    assert_eq!(refusal.map(|message| (message[9], id(&message, 14), message[16])), Some((8, 3, 7)));
    lab.assert_all_calls_live(1);
}

#[test]
fn events_name_the_call_on_both_sides() {
    let mut lab = Lab::new(65_535);
    let session = lab.start_with_call(0, 9);
    lab.says(session, &messages::call_clear(9));
    let ended: Vec<_> = lab.events.iter().filter(|event| event.name() == "shared_call_down").collect();
    assert_eq!(ended.len(), 1);
    let Event::CallDown { call, why, .. } = ended[0] else { panic!("named so") };
    assert_eq!((call.pns_id.0, *why), (Some(9), CallEnd::Cleared(Side::Client)));
    assert!(ended[0].to_string().contains("10.0.0.2 call 9/"), "{}", ended[0]);
}

#[test]
fn a_finished_upstream_without_calls_is_nobodys_business() {
    let mut lab = Lab::new(65_535);
    let session = lab.start(0);
    let upstream = lab.live_upstreams()[0];
    lab.server_does(upstream, Back::Ends(Gone::Finished));
    assert_eq!((lab.kinds(session), lab.clients[&session].cut), (vec![2], None));
    lab.says(session, &messages::outgoing_request(1));
    lab.assert_all_calls_live(1);
}
