//! For tests: an ALG without sockets for those who ask it, with one call, which is gone from the fourth list on; and a host without
//! devices for those who admit connections.

use std::sync::Mutex;

use callgate_pptp::{CallDirection, CallState, Flow, Now, Traffic};

use super::outlets::Outlets;
use super::*;
use crate::kernel::Peers;

/// A host that reaches every server, and writes down which peers it is told of.
#[derive(Clone, Default)]
pub(crate) struct Host(pub(crate) Arc<Mutex<Vec<Peers>>>);

impl Node for Host {
    fn way(&mut self, _: Ipv4Addr) -> io::Result<Option<Way>> {
        Ok(Some(Way { source: Ipv4Addr::new(192, 0, 2, 1), links: vec![7] }))
    }

    fn claim(&mut self, _: &[Ipv4Addr], peers: &Peers) -> io::Result<()> {
        self.0.lock().unwrap().push(peers.clone());
        Ok(())
    }

    fn index_of(&mut self, _: &str) -> Option<u32> {
        None
    }
}

/// Admission on this host, by no rules yet. `--interface` names a device that is not there, so that nothing is tapped.
pub(crate) fn gate(host: &Host) -> gate::Gate {
    let outlets = Outlets::new(Box::new(host.clone()), vec!["cg-none".into()], vec![]);
    gate::Gate::new(Arc::default(), outlets)
}

/// The way to it. It ends with the last handle.
pub(crate) fn handle() -> Handle {
    let (requests, received) = channel();
    let wake = Arc::new(EventFd::new().unwrap());
    std::thread::spawn(move || {
        let mut lists = 0;
        while let Ok(request) = received.recv() {
            let Request::Ask(question) = request else { continue };
            match question {
                Question::Expect(_, reply) => drop(reply.send(())),
                Question::Configure(_, reply) => drop(reply.send(())),
                Question::ShutDown(reply) => drop(reply.send(())),
                Question::EndClients(_, reply) => drop(reply.send(())),
                Question::Calls(reply) => {
                    lists += 1;
                    let calls = if lists < 4 { vec![call()] } else { vec![] };
                    drop(reply.send((calls, Now(10_000))));
                }
                Question::Totals(reply) => {
                    let counters = vec![("a_scripted_counter".to_owned(), 5), ("rx_pods".to_owned(), 7)];
                    let by = callgate_pptp::CallsByObject {
                        rules: [("pos/tills".to_owned(), 1)].into(),
                        services: [("pos/pptp".to_owned(), 1)].into(),
                        algs: [("pos/alg".to_owned(), 1)].into(),
                    };
                    drop(reply.send(Totals { connections: 1, calls: 1, counters, by, ..Totals::default() }));
                }
                Question::Alive(reply) => drop(reply.send(())),
                Question::Stop | Question::HandOver => return,
            }
        }
    });
    Handle { requests, wake }
}

/// The way to one that has ended.
pub(crate) fn ended() -> Handle {
    Handle { requests: channel().0, wake: Arc::new(EventFd::new().unwrap()) }
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
