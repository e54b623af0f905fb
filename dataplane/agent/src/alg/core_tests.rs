//! What the kernel is told of ends that no rule knows, as connections come and go.

use std::sync::mpsc::sync_channel;

use callgate_pptp::shared::{Config, Gone, SessionId, Shared};
use callgate_pptp::wire::control::{GeneralError, StartReply, StartRequest, StartResult};
use callgate_pptp::{Admission, Limits};

use super::super::policy::tests::{config, expected, flow};
use super::super::scripted::{Host, gate};
use super::*;
use crate::own_network::in_a_network_of_its_own;
use crate::shared::{Memory, Place};

const SERVER: [u8; 4] = [203, 0, 113, 7];

fn core(host: &Host, state: &std::path::Path) -> Core {
    let engine = Engine::new(Limits::default(), 1);
    let shared = Shared::new(Config::default(), Limits::default(), 1);
    let mode = Mode::new(shared, (Memory::new(state), Place::new(state)), 0, 0).unwrap();
    let (journal, _) = Journal::open(state, |_: callgate_pptp::Change| {}).unwrap();
    let fast = fast::Setup { mode: fast::Mode::Off, ..fast::Setup::default() };
    // Nobody reads it: events that cannot be logged are counted.
    Core::new(engine, gate(host), mode, journal, sync_channel(1).0, fast, None)
}

/// A client's session in the shared mode.
fn session(core: &mut Core, client: [u8; 4]) -> SessionId {
    let admission = Admission { external: Ipv4Addr::new(192, 0, 2, 1), policy: expected() };
    let (shared, engine) = (core.shared.core_mut(), &mut core.engine);
    let id = shared.client_connected(flow(client, SERVER, 1723), admission, engine, Now(1)).unwrap();
    let start = StartRequest {
        reserved0: 0,
        version: 0x0100,
        reserved1: 0,
        framing: 3,
        bearer: 3,
        max_channels: 0,
        firmware: 0,
        host: [0; 64],
        vendor: [0; 64],
    };
    shared.client_bytes(id, &start.to_bytes(), engine, Now(1));
    id
}

/// The server answers on the one tunnel there is.
fn answer(core: &mut Core) {
    let (shared, engine) = (core.shared.core_mut(), &mut core.engine);
    let tunnel = shared.tunnels()[0].tunnel;
    shared.upstream_connected(tunnel, engine, Now(1));
    let reply = StartReply {
        reserved0: 0,
        version: 0x0100,
        result: StartResult::Ok,
        error: GeneralError::None,
        framing: 3,
        bearer: 3,
        max_channels: u16::MAX,
        firmware: 0,
        host: [0; 64],
        vendor: [0; 64],
    };
    shared.upstream_bytes(tunnel, &reply.to_bytes(), engine, Now(1));
}

#[test]
fn a_client_no_rule_knows_is_forgotten_with_its_last_session_though_the_tunnel_stays_for_another() {
    in_a_network_of_its_own(|| {
        let (host, state) = (Host::default(), tempfile::tempdir().unwrap());
        let mut core = core(&host, state.path());
        let mut out = Outgoing::new();
        core.configure(Arc::new(config()), Now(1));
        let gone = session(&mut core, [10, 0, 0, 2]);
        session(&mut core, [10, 0, 0, 3]);
        answer(&mut core);
        core.carry_out(&mut out);
        core.rest();
        let mut narrower = config();
        narrower.sources[0].net = "10.0.0.3/32".parse().unwrap();
        core.configure(Arc::new(narrower), Now(2));
        core.rest();
        let told = |host: &Host| host.0.lock().unwrap().last().cloned().unwrap();
        assert_eq!(told(&host), Peers { clients: [[10, 0, 0, 2].into()].into(), ..Peers::default() });
        core.shared.core_mut().client_closed(gone, Gone::Finished, &mut core.engine, Now(3));
        core.carry_out(&mut out);
        core.rest();
        assert_eq!((told(&host), core.shared.tunnels().len()), (Peers::default(), 1));
    });
}
