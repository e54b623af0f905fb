//! What becomes of ports of connections to servers, in a network of its own.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use callgate_pptp::shared::{Config, Leg, Shared};
use callgate_pptp::{Engine, Limits, Now};

use super::*;
use crate::alg::gate::Gate;
use crate::alg::scripted::{Host, gate};
use crate::own_network::in_a_network_of_its_own;
use crate::shared::{Memory, Place};

const OURS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
const SERVERS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const CLIENTS: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 0, 0, 2), Ipv4Addr::new(10, 0, 0, 3)];

struct Lab {
    mode: Mode,
    engine: Engine,
    gate: Gate,
    now: Now,
    next: u64,
    _state: tempfile::TempDir,
}

impl Lab {
    /// With so many external ports, from 10,001 on, and so many for each client.
    fn new(ports: u16, ports_per_client: u32) -> Self {
        let limits = Limits { port_ranges: vec![(10_001, 10_000 + ports)], ports_per_client, ..Limits::default() };
        let state = tempfile::tempdir().unwrap();
        let kept = (Memory::new(state.path()), Place::new(state.path()));
        Self {
            mode: Mode::new(Shared::new(Config::default(), limits.clone(), 1), kept, 0, 0).unwrap(),
            engine: Engine::new(limits, 1),
            gate: gate(&Host::default()),
            now: Now(1),
            next: 1,
            _state: state,
        }
    }

    /// Opens a connection to this port; what comes of it, and its name.
    fn open(&mut self, port: u16, client: Option<Ipv4Addr>) -> (Result<(), ConnectError>, UpstreamId) {
        let (mut heard, upstream) = (Vec::new(), UpstreamId(self.next));
        self.next += 1;
        let Self { mode, engine, gate, now, .. } = self;
        let with = &mut With { engine, gate, now: *now };
        mode.open(upstream, (OURS, SocketAddrV4::new(SERVERS, port)), client, &mut heard, with);
        let begun = Instant::now();
        let came = loop {
            let came = heard.iter().find_map(|heard| match heard {
                Heard::Connected(_) => Some(Ok(())),
                Heard::Failed(_, why) => Some(Err(*why)),
                _ => None,
            });
            if let Some(came) = came {
                break came;
            }
            assert!(begun.elapsed() < Duration::from_secs(20));
            mode.legs.hear(&mut heard);
        };
        mode.take(heard, with);
        (came, upstream)
    }

    fn reset(&mut self, upstream: UpstreamId) {
        let mut heard = Vec::new();
        self.mode.legs.reset(Leg::Upstream(upstream), &mut heard);
        let Self { mode, engine, gate, now, .. } = self;
        mode.take(heard, &mut With { engine, gate, now: *now });
    }

    /// Whether somebody else gets a port towards this one now.
    fn is_free(&mut self, port: u16) -> bool {
        let lent = self.engine.lend_port(OURS, (SERVERS, port), None, self.now);
        lent.into_iter().for_each(|lent| self.engine.give_back_port((OURS, lent), (SERVERS, port), None));
        lent.is_ok()
    }
}

fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind((SERVERS, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

#[test]
fn the_port_of_a_connection_the_server_has_refused_is_anybodys_at_once_and_that_of_one_that_was_up_rests() {
    in_a_network_of_its_own(|| {
        let mut lab = Lab::new(1, 1);
        let (server, port) = listener();
        drop(server);
        for _ in 0..3 {
            assert_eq!(lab.open(port, Some(CLIENTS[0])).0, Err(ConnectError::Refused));
            assert_eq!((lab.is_free(port), lab.mode.ends.is_empty(), lab.mode.changes.len()), (true, true, 0));
        }
        let _server = TcpListener::bind((SERVERS, port)).unwrap();
        let (came, upstream) = lab.open(port, Some(CLIENTS[0]));
        assert_eq!((came, lab.is_free(port)), (Ok(()), false));
        lab.reset(upstream);
        assert_eq!((lab.is_free(port), lab.mode.changes.len(), lab.mode.owners.len()), (false, 1, 0));
        lab.now = Now(1 + 120_000);
        assert!(lab.is_free(port));
    });
}

#[test]
fn a_port_that_another_program_has_is_given_back_and_another_is_tried() {
    in_a_network_of_its_own(|| {
        let mut lab = Lab::new(1, 9);
        let ((_server, port), other) = (listener(), TcpListener::bind((OURS, 10_001)).unwrap());
        assert_eq!(lab.open(port, Some(CLIENTS[0])).0, Err(ConnectError::Local));
        drop(other);
        assert_eq!((lab.open(port, Some(CLIENTS[0])).0, lab.mode.changes.len()), (Ok(()), 0));
    });
}

#[test]
fn a_client_uses_up_its_own_ports_in_use_or_resting_and_nobody_elses() {
    in_a_network_of_its_own(|| {
        let (mut lab, (_server, port)) = (Lab::new(9, 2), listener());
        let [a, b] = CLIENTS.map(Some);
        let (_, first) = lab.open(port, a);
        assert_eq!(lab.open(port, a).0, Ok(()));
        lab.reset(first);
        assert_eq!(lab.open(port, a).0, Err(ConnectError::PortsOfClient));
        assert_eq!([b, None, None, None].map(|client| lab.open(port, client).0), [Ok(()); 4]);
        lab.now = Now(1 + 120_000);
        assert_eq!(lab.open(port, a).0, Ok(()));
        // Whoever has its address next begins with none.
        let gone = [CLIENTS[0]].into();
        let Lab { mode, engine, gate, now, .. } = &mut lab;
        mode.end_clients(&gone, &mut With { engine, gate, now: *now });
        lab.engine.end_clients(&gone, lab.now);
        assert_eq!([a, a].map(|client| lab.open(port, client).0), [Ok(()); 2]);
    });
}
