//! An ALG without sockets for tests of those who ask it: one call, which is gone from the fourth list on.

use callgate_pptp::{CallDirection, CallState, Flow, Now, Traffic};

use super::*;

/// The way to it. It ends with the last handle.
pub(crate) fn handle() -> Handle {
    let (requests, received) = channel();
    let wake = Arc::new(EventFd::new().unwrap());
    std::thread::spawn(move || {
        let mut lists = 0;
        while let Ok(request) = received.recv() {
            match request {
                Request::Expect(_, reply) => drop(reply.send(())),
                Request::Configure(_, reply) => drop(reply.send(())),
                Request::ShutDown(reply) => drop(reply.send(())),
                Request::EndClients(_, reply) => drop(reply.send(())),
                Request::Calls(reply) => {
                    lists += 1;
                    let calls = if lists < 4 { vec![call()] } else { vec![] };
                    drop(reply.send((calls, Now(10_000))));
                }
                Request::Totals(reply) => {
                    let counters = vec![("a_scripted_counter".to_owned(), 5), ("rx_pods".to_owned(), 7)];
                    let by = callgate_pptp::CallsByObject {
                        rules: [("pos/tills".to_owned(), 1)].into(),
                        services: [("pos/pptp".to_owned(), 1)].into(),
                        algs: [("pos/alg".to_owned(), 1)].into(),
                    };
                    drop(reply.send(Totals { connections: 1, calls: 1, counters, by, ..Totals::default() }));
                }
                Request::Refresh => {}
                Request::Stop | Request::HandOver => return,
            }
        }
    });
    Handle { requests, wake }
}

fn call() -> CallView {
    CallView {
        flow: Flow {
            client: [10, 0, 0, 2].into(),
            client_port: 40_000,
            server: [203, 0, 113, 7].into(),
            server_port: 1723,
        },
        external: [192, 0, 2, 1].into(),
        external_port: 10_007,
        pns_id: Some(0),
        translated_id: Some(4711),
        pac_id: Some(128),
        pac_id_outside: Some(128),
        tunnel: None,
        direction: CallDirection::Outgoing,
        state: CallState::Up,
        up: Traffic { packets: 3, bytes: 300, lost: 1 },
        down: Traffic { packets: 4, bytes: 400, lost: 0 },
        created: Now(1_000),
        last_seen: Now(9_000),
        rule: "pos/tills".into(),
        service: "pos/pptp".into(),
        alg: "pos/alg".into(),
    }
}
