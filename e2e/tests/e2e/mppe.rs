//! The truth: pppd with MS-CHAPv2 and MPPE-128, in kernels of their own.

use callgate_e2e::gateway::callgate::{CLASSIC, Call, Callgate};
use callgate_e2e::lab::capture::Capture;
use callgate_e2e::lab::packet::Packet;
use callgate_e2e::lab::topology::{LAN, LAN_IF, Lab, OUT_IF, Plan, client_address, server_address};
use callgate_e2e::peers::uml::{Guest, Network};

use super::agreement;
use super::support::can_run;

#[test]
fn three_clients_with_mppe_128_are_all_live() {
    if can_run("three_clients_with_mppe_128_are_all_live") {
        let (calls, inner, outer) = three_are_live(CLASSIC);
        agreement::check(&calls, &inner, &outer);
    }
}

/// Three guests call a fourth through Callgate with these manifests, ping, and lose nothing; the calls, and what was on both
/// sides of the gateway.
pub(crate) fn three_are_live(manifests: &str) -> (Vec<Call>, Vec<Packet>, Vec<Packet>) {
    let lab = Lab::build(Plan { clients: 3, servers: 1, guests: true }).unwrap();
    let callgate = Callgate::start(&lab.gw, manifests).unwrap();
    let inner = Capture::start(&lab.gw, LAN_IF).unwrap();
    let outer = Capture::start(&lab.gw, OUT_IF).unwrap();
    let outside = Network { address: server_address(0), bits: 24, via: "203.0.113.1".parse().unwrap() };
    let _server = Guest::server(&lab.servers[0], outside).unwrap();
    let inside = |index| Network { address: client_address(index), bits: 16, via: LAN };
    // 100 pings, five a second: 20 s.
    let clients: Vec<Guest> = (0..3)
        .map(|index| Guest::client(&lab.clients[index], inside(index), server_address(0), 100).unwrap())
        .collect();
    clients.iter().for_each(|client| client.wait_up().unwrap());
    let calls = callgate.wait_calls(&lab.gw, 3).unwrap();
    clients.iter().for_each(|client| client.go().unwrap());
    let pinged: Vec<(u32, bool)> = clients
        .iter()
        .map(|client| client.pinged().unwrap())
        .map(|(pinged, encrypted)| (pinged.loss_percent(), encrypted))
        .collect();
    assert_eq!(pinged, [(0, true); 3], "{}", callgate.log());
    (calls, inner.stop().unwrap(), outer.stop().unwrap())
}
