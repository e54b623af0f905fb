//! Clients that come and go, are killed, talk nonsense or do not read: the others keep their calls.

use callgate_pptp::shared::{Gone, SessionId};

use super::lab::Lab;
use super::messages;

const STEADY: u32 = 20;

/// One client that comes and goes in the `n`-th way.
fn visit(lab: &mut Lab, n: u32) {
    let number = 100 + n % 37;
    let with_calls = |lab: &mut Lab, count: u16| -> SessionId {
        let session = lab.start(number);
        for pns in 0..count {
            lab.says(session, &messages::outgoing_request(pns));
        }
        session
    };
    match n % 11 {
        0 => {
            let session = with_calls(lab, 1);
            lab.says(session, &messages::call_clear(0));
            lab.says(session, &messages::stop_request());
        }
        1 => {
            let session = with_calls(lab, 2);
            lab.says(session, &messages::stop_request());
        }
        2 => {
            let session = with_calls(lab, 3);
            lab.leaves(session, Gone::Reset);
        }
        3 => {
            let session = with_calls(lab, 1);
            lab.leaves(session, Gone::Finished);
        }
        4 => {
            let session = with_calls(lab, 2);
            lab.says(session, &[0xff; 40]);
        }
        5 => {
            let session = lab.connect(number);
            lab.says(session, &messages::start_request()[..100]);
            lab.leaves(session, Gone::Reset);
        }
        6 => {
            // Killed in the middle of a message.
            let session = with_calls(lab, 1);
            lab.says(session, &messages::outgoing_request(9)[..60]);
            lab.leaves(session, Gone::Reset);
        }
        7 => {
            let session = with_calls(lab, 1);
            lab.clients.get_mut(&session).unwrap().reads = false;
            lab.says(session, &messages::echo_request());
        }
        8 => {
            let session = with_calls(lab, 1);
            lab.clients.get_mut(&session).unwrap().answers = false;
        }
        9 => {
            lab.connect(number);
        }
        _ => {
            let session = with_calls(lab, 1);
            lab.says(session, &messages::outgoing_request(0));
            lab.says(session, &messages::disconnect_notify(0));
        }
    }
}

fn churn(channels: u16, visits: u32) -> Lab {
    let mut lab = Lab::new(channels);
    let steady: Vec<SessionId> = (0..STEADY).map(|n| lab.start_with_call(n, 0)).collect();
    let calls: Vec<_> = steady.iter().map(|&session| lab.calls_of(session)[0].clone()).collect();
    for n in 0..visits {
        visit(&mut lab, n);
        lab.wait(500);
        for call in &calls {
            lab.assert_gre_passes(call);
        }
    }
    // The slow, the dead and the silent are found out in their time.
    lab.wait(400_000);
    lab.assert_all_calls_live(STEADY as usize);
    for (session, call) in steady.iter().zip(&calls) {
        // Told nothing but answers and Echo-Requests.
        assert!(lab.kinds(*session).iter().all(|kind| [2, 8, 5].contains(kind)));
        let now = &lab.calls_of(*session)[0];
        assert_eq!(
            (now.client_pns, now.server_pns, now.server_pac),
            (call.client_pns, call.server_pns, call.server_pac)
        );
        assert_eq!((now.up.packets, now.down.packets), (u64::from(visits) + 1, u64::from(visits) + 1));
        lab.leaves(*session, Gone::Finished);
    }
    lab
}

#[test]
fn a_thousand_comings_and_goings_cost_the_others_no_packet_and_the_one_connection_stays() {
    let mut lab = churn(65_535, 1_000);
    assert_eq!(lab.upstreams.len(), 1);
    lab.assert_nothing_left();
}

#[test]
fn the_same_holds_with_four_calls_a_connection_and_with_one() {
    for channels in [4, 1] {
        let mut lab = churn(channels, 300);
        lab.assert_nothing_left();
    }
}

#[test]
fn a_server_that_closes_at_each_clear_as_pptpd_does_costs_nobody_else_a_call() {
    let mut lab = Lab::new(1);
    lab.server.clears = super::peer::Clears::Closes;
    let steady: Vec<SessionId> = (0..5).map(|n| lab.start_with_call(n, 0)).collect();
    for n in 0..200 {
        let session = lab.start_with_call(50 + n % 7, 0);
        match n % 3 {
            0 => lab.says(session, &messages::call_clear(0)),
            1 => lab.leaves(session, Gone::Reset),
            _ => lab.says(session, &messages::stop_request()),
        }
        lab.assert_all_calls_live(5);
    }
    for session in steady {
        assert_eq!(lab.kinds(session), [2, 8]);
    }
}
