//! More for a server than it reads at once: whoever asks waits, and nobody's tunnel ends.

use callgate_pptp::shared::{Config, Event, Leg, SessionId, UpstreamEnd, UpstreamId};

use super::lab::{Cut, Lab};
use super::messages;
use super::peer::Back;

/// Octets of an Outgoing-Call-Request, and how many of them make more than 16 KiB.
const REQUEST: usize = 168;
const AT_ONCE: usize = 98;

/// So many clients that wait for a server, each with a call it wants; the server is back, and reads nothing yet.
fn waiting(count: u32, channels: u16) -> (Lab, Vec<SessionId>, UpstreamId) {
    let mut lab = Lab::new(channels);
    lab.server.connections = 1;
    lab.server.dead = true;
    let sessions: Vec<SessionId> = (0..count).map(|number| lab.start_with_call(number, 0)).collect();
    let upstream = lab.live_upstreams()[0];
    (lab.server.dead, lab.server_reads) = (false, false);
    let reply = lab.server.hear_first_again(upstream);
    lab.server_does(upstream, reply);
    (lab, sessions, upstream)
}

/// The server reads so many octets of what it was told.
fn reads(lab: &mut Lab, upstream: UpstreamId, octets: usize) {
    lab.shared.written(Leg::Upstream(upstream), octets, &mut lab.engine, lab.now);
    lab.settle();
}

fn asked(lab: &Lab, upstream: UpstreamId) -> usize {
    lab.server_kinds(upstream).iter().filter(|kind| **kind == 7).count()
}

#[test]
fn a_server_that_comes_back_to_a_thousand_clients_is_asked_as_fast_as_it_reads_and_serves_them_all() {
    let (mut lab, sessions, upstream) = waiting(1_000, 65_535);
    lab.wait(20_000);
    assert_eq!((asked(&lab, upstream), lab.live_upstreams()), (AT_ONCE, vec![upstream]));
    // The next process knows as well what is still to be read.
    lab.restart(500);
    reads(&mut lab, upstream, REQUEST);
    assert_eq!(asked(&lab, upstream), AT_ONCE + 1, "a request for each that is read");
    lab.server_reads = true;
    reads(&mut lab, upstream, AT_ONCE * REQUEST);
    lab.assert_all_calls_live(1_000);
    assert_eq!((lab.upstreams.len(), asked(&lab, upstream)), (1, 1_000));
    assert!(sessions.iter().all(|session| lab.kinds(*session) == [2, 8]));
}

#[test]
fn a_server_that_takes_no_second_connection_refuses_only_calls_that_do_not_fit_on_the_first() {
    let (mut lab, sessions, upstream) = waiting(130, 120);
    assert_eq!(asked(&lab, upstream), AT_ONCE);
    lab.server_reads = true;
    reads(&mut lab, upstream, AT_ONCE * REQUEST);
    lab.assert_all_calls_live(120);
    let refused: Vec<u8> =
        sessions.iter().map(|session| lab.last(*session)[16]).filter(|result| *result == 2).collect();
    assert_eq!((refused.len(), lab.live_upstreams()), (10, vec![upstream]));
}

#[test]
fn a_server_that_reads_nothing_at_all_is_given_up_after_its_time() {
    let (mut lab, _, upstream) = waiting(200, 65_535);
    lab.wait(29_000);
    assert_eq!(lab.upstreams[&upstream], None);
    lab.wait(2_000);
    assert_eq!(lab.upstreams[&upstream], Some(Cut::Reset));
    let why = UpstreamEnd::SlowReader;
    assert!(lab.events.contains(&Event::UpstreamClosed { upstream, why, calls: AT_ONCE as u32 }));
}

#[test]
fn a_client_cannot_fill_what_waits_for_the_server_with_news_of_its_line_and_ends_of_calls_still_pass() {
    let mut lab = Lab::new(65_535);
    let session = lab.start_with_call(0, 5);
    let upstream = lab.live_upstreams()[0];
    let pac = lab.calls_of(session)[0].client_pac.unwrap();
    lab.server_reads = false;
    for _ in 0..10 {
        lab.says(session, &messages::set_link_info(pac).repeat(100));
    }
    let told = lab.server_kinds(upstream).iter().filter(|kind| **kind == 15).count();
    assert_eq!((told, lab.shared.counters().link_infos_dropped), (683, 317));
    lab.says(session, &messages::call_clear(5));
    assert_eq!((lab.last(session)[9], lab.server_kinds(upstream).last()), (13, Some(&12)));
    lab.wait(0);
    assert_eq!(lab.live_upstreams(), [upstream]);
}

#[test]
fn a_server_that_asks_without_reading_is_given_up() {
    let mut lab = Lab::with_config(65_535, Config { max_unwritten_server: 4_096, ..Config::default() });
    let session = lab.start_with_call(0, 0);
    let upstream = lab.live_upstreams()[0];
    lab.server_reads = false;
    lab.server_does(upstream, Back::Says(messages::echo_request().repeat(300)));
    lab.wait(0);
    assert_eq!((lab.upstreams[&upstream], lab.last(session)[9]), (Some(Cut::Reset), 3));
}
