//! The truth: pppd with MS-CHAPv2 and MPPE-128, in kernels of their own.

use callgate_e2e::gateway::callgate::{CLASSIC, Callgate};
use callgate_e2e::lab::capture::Capture;
use callgate_e2e::lab::topology::{LAN, LAN_IF, Lab, OUT_IF, Plan, client_address, server_address};
use callgate_e2e::peers::uml::{Guest, Network};

use super::support::can_run;
use super::{agreement, shared};

#[test]
fn three_clients_with_mppe_128_are_all_live() {
    if !can_run("three_clients_with_mppe_128_are_all_live") {
        return;
    }
    let lab = Lab::build(Plan { clients: 3, servers: 1, guests: true }).unwrap();
    let callgate = Callgate::start(&lab.gw, &CLASSIC).unwrap();
    let inner = Capture::start(&lab.gw, LAN_IF).unwrap();
    let outer = Capture::start(&lab.gw, OUT_IF).unwrap();
    // 100 pings, five a second: 20 s.
    let (clients, _server) = dial(&lab, 100);
    let calls = callgate.wait_calls(&lab.gw, 3).unwrap();
    all_live(&clients, &callgate);
    agreement::check(&calls, &inner.stop().unwrap(), &outer.stop().unwrap());
}

#[test]
fn three_clients_with_mppe_128_are_all_live_through_shared_after_a_planned_restart() {
    if !can_run("three_clients_with_mppe_128_are_all_live_through_shared_after_a_planned_restart") {
        return;
    }
    let lab = Lab::build(Plan { clients: 3, servers: 1, guests: true }).unwrap();
    let mut callgate = Callgate::start_with(&lab.gw, &shared::manifests("Shared"), &["--keep"]).unwrap();
    let (clients, _server) = dial(&lab, 50);
    let before = callgate.wait_calls(&lab.gw, 3).unwrap();
    callgate.stop().unwrap();
    callgate.run(&lab.gw).unwrap();
    let after = callgate.wait_calls(&lab.gw, 3).unwrap();
    let tunnels =
        |calls: &[callgate_e2e::gateway::callgate::Call]| calls.iter().map(|call| call.tunnel).collect::<Vec<_>>();
    assert_eq!(tunnels(&before), tunnels(&after));
    assert!(before.iter().all(|call| call.tunnel.is_some()));
    all_live(&clients, &callgate);
}

/// A server and three clients, whose tunnels are up, and who will send so many pings.
fn dial(lab: &Lab, pings: u32) -> (Vec<Guest>, Guest) {
    let outside = Network { address: server_address(0), bits: 24, via: "203.0.113.1".parse().unwrap() };
    let server = Guest::server(&lab.servers[0], outside).unwrap();
    let inside = |index| Network { address: client_address(index), bits: 16, via: LAN };
    let clients: Vec<Guest> = (0..3)
        .map(|index| Guest::client(&lab.clients[index], inside(index), server_address(0), pings).unwrap())
        .collect();
    clients.iter().for_each(|client| client.wait_up().unwrap());
    (clients, server)
}

/// No ping is lost, and all are encrypted.
fn all_live(clients: &[Guest], callgate: &Callgate) {
    clients.iter().for_each(|client| client.go().unwrap());
    let pinged: Vec<(u32, bool)> = clients
        .iter()
        .map(|client| client.pinged().unwrap())
        .map(|(pinged, encrypted)| (pinged.loss_percent(), encrypted))
        .collect();
    assert_eq!(pinged, [(0, true); 3], "{}", callgate.log());
}
