//! What the kernel is told of ends that no rule knows, as connections come and go; and what becomes of what rules admit that the kernel refuses.

use std::sync::mpsc::sync_channel;

use callgate_pptp::shared::{Config, Gone, SessionId, Shared};
use callgate_pptp::wire::control::{GeneralError, StartReply, StartRequest, StartResult};
use callgate_pptp::wire::{Seq, ipv4, tcp};
use callgate_pptp::{Admission, Limits};
use callgate_proto::model::{ControlConnection, ObjectKey};

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

#[test]
fn a_session_that_the_rules_know_ends_without_a_look_at_all_others() {
    in_a_network_of_its_own(|| {
        let (host, state) = (Host::default(), tempfile::tempdir().unwrap());
        let mut core = core(&host, state.path());
        let mut out = Outgoing::new();
        core.configure(Arc::new(config()), Now(1));
        let beyond = session(&mut core, [10, 0, 0, 2]);
        let known = session(&mut core, [10, 0, 0, 3]);
        session(&mut core, [10, 0, 0, 4]);
        answer(&mut core);
        let mut narrower = config();
        narrower.sources[0].net = "10.0.0.2/31".parse().unwrap();
        core.configure(Arc::new(narrower), Now(2));
        let told = |host: &Host| host.0.lock().unwrap().last().cloned().unwrap();
        let clients = |of: &[[u8; 4]]| Peers { clients: of.iter().map(|a| (*a).into()).collect(), ..Peers::default() };
        let mut leave = |core: &mut Core, id| {
            core.shared.core_mut().client_closed(id, Gone::Finished, &mut core.engine, Now(3));
            core.carry_out(&mut out);
            core.rest();
        };
        assert_eq!(told(&host), clients(&[[10, 0, 0, 4]]));
        // Whoever looked would see others beyond these.
        core.gate.config = Arc::default();
        leave(&mut core, known);
        assert_eq!(told(&host), clients(&[[10, 0, 0, 4]]));
        let fourth =
            core.shared.core_mut().sessions().into_iter().find(|s| s.flow.client == Ipv4Addr::new(10, 0, 0, 4));
        leave(&mut core, fourth.unwrap().session);
        assert_eq!(told(&host).clients, [Ipv4Addr::new(10, 0, 0, 2)].into());
        leave(&mut core, beyond);
        assert_eq!(told(&host), Peers::default());
    });
}

#[test]
fn a_client_that_is_being_told_to_stop_when_its_rule_goes_is_forgotten_when_it_has_had_its_time() {
    in_a_network_of_its_own(|| {
        let (host, state) = (Host::default(), tempfile::tempdir().unwrap());
        let mut core = core(&host, state.path());
        let mut out = Outgoing::new();
        core.configure(Arc::new(config()), Now(1));
        session(&mut core, [10, 0, 0, 2]);
        session(&mut core, [10, 0, 0, 3]);
        answer(&mut core);
        core.carry_out(&mut out);
        core.rest();
        // They are told, under rules that know them.
        let mut other = config();
        other.algs.iter_mut().for_each(|alg| alg.key.name.push_str("-other"));
        core.configure(Arc::new(other.clone()), Now(2));
        core.carry_out(&mut out);
        core.rest();
        assert_eq!(core.shared.core().leaving_flows().count(), 2);
        other.sources[0].net = "10.0.0.3/32".parse().unwrap();
        core.configure(Arc::new(other), Now(3));
        core.carry_out(&mut out);
        core.rest();
        let told = |host: &Host| host.0.lock().unwrap().last().cloned().unwrap();
        assert_eq!(told(&host).clients, [Ipv4Addr::new(10, 0, 0, 2)].into());
        core.handle_timeout(&mut out, core.shared.poll_timeout().unwrap());
        core.rest();
        assert_eq!((core.shared.core().leaving_flows().count(), told(&host).clients), (0, BTreeSet::new()));
    });
}

/// A client's SYN.
fn syn(client: [u8; 4]) -> Vec<u8> {
    let header = tcp::Repr {
        src_port: 40_000,
        dst_port: 1723,
        seq: Seq(7),
        ack: Seq(0),
        flags: tcp::Flags::SYN,
        window: 1_000,
        timestamps: None,
    };
    let ip = ipv4::Repr {
        src: client.into(),
        dst: SERVER.into(),
        protocol: ipv4::PROTOCOL_TCP,
        tos: 0,
        ttl: 64,
        id: 0,
        dont_fragment: true,
        payload_len: 0,
    };
    tcp::datagram(&ip, &header, &[]).unwrap()
}

/// The same rules, and one before them.
fn with_another() -> NodeConfig {
    let mut config = config();
    let mut other = config.rules[0].clone();
    other.key = ObjectKey::new("pos", "other");
    config.rules.push(other);
    config.chains = vec![vec![2, 0, 1]];
    config
}

#[test]
fn a_connection_that_rules_admit_which_the_kernel_refuses_goes_on_by_those_in_force() {
    in_a_network_of_its_own(|| {
        let state = tempfile::tempdir().unwrap();
        let mut core = core(&Host::default(), state.path());
        let mut out = Outgoing::new();
        let rules = |core: &Core| core.engine.connections().into_iter().map(|view| view.rule).collect::<Vec<_>>();
        core.configure(Arc::new(config()), Now(1));
        core.expect(Some(Arc::new(with_another())), Now(2));
        core.packet(Side::Client, &mut syn([10, 0, 0, 2]), &mut out, Now(2));
        assert_eq!(rules(&core), ["pos/other"]);
        core.expect(None, Now(3));
        assert_eq!(rules(&core), ["pos/tills"]);
        core.configure(Arc::new(config()), Now(4));
        assert_eq!(rules(&core), ["pos/tills"]);
        // Once the kernel has them it is theirs.
        core.expect(Some(Arc::new(with_another())), Now(5));
        core.packet(Side::Client, &mut syn([10, 0, 0, 3]), &mut out, Now(5));
        core.configure(Arc::new(with_another()), Now(6));
        assert_eq!(rules(&core), ["pos/tills", "pos/other"]);
    });
}

#[test]
fn a_syn_let_through_to_sockets_by_rules_that_the_kernel_refuses_is_the_other_modes_again() {
    in_a_network_of_its_own(|| {
        let state = tempfile::tempdir().unwrap();
        let mut core = core(&Host::default(), state.path());
        let mut out = Outgoing::new();
        let mut shared = config();
        shared.algs[0].control_connection = ControlConnection::Shared;
        core.configure(Arc::new(config()), Now(1));
        let mut arrives = |core: &mut Core, now| {
            core.packet(Side::Client, &mut syn([10, 0, 0, 2]), &mut out, Now(now));
            (core.engine.connections().len(), core.shared.is_idle())
        };
        core.expect(Some(Arc::new(shared)), Now(2));
        assert_eq!(arrives(&mut core, 2), (0, false));
        core.expect(None, Now(3));
        assert_eq!(arrives(&mut core, 4), (1, true));
    });
}
