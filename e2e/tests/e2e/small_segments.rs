//! A path whose segments are smaller than a message: real peers, every request in two pieces.

use std::time::Duration;

use callgate_e2e::gateway::baseline;
use callgate_e2e::gateway::callgate::{CLASSIC, Callgate};
use callgate_e2e::lab::capture::Capture;
use callgate_e2e::lab::packet::Packet;
use callgate_e2e::lab::ping;
use callgate_e2e::lab::topology::{LAN_IF, Lab, OUT_IF, server_address};
use callgate_e2e::peers::pptp_client::PptpClient;
use callgate_e2e::peers::pptpd::Pptpd;

use super::support::{LOOK, UP, can_run};

/// What the server lets the client send in one segment, options included, octets. An Outgoing-Call-Request has 168.
const SEGMENT: usize = 100;
/// The timestamp option in every segment of Linux.
const OPTIONS: usize = 12;

/// Two clients whose requests are cut, and the server; the gateway is left to the caller.
fn lab() -> (Lab, Pptpd) {
    let lab = Lab::new(2, 1).unwrap();
    let server = &lab.servers[0];
    server.sysctl("net/ipv4/route/min_adv_mss", "64").unwrap();
    server.ip(&format!("route change default via 203.0.113.1 advmss {SEGMENT}")).unwrap();
    for client in &lab.clients {
        // Else the interface is handed the whole message, to be cut by it.
        client.run("ethtool", &["-K", "eth0", "tso", "off", "gso", "off"]).unwrap();
    }
    let pptpd = Pptpd::start(server, 0).unwrap();
    (lab, pptpd)
}

/// Fails if no message was cut: then the test shows nothing.
fn was_cut(packets: &[Packet]) {
    let sizes: Vec<usize> = packets
        .iter()
        .filter_map(|p| p.tcp())
        .filter(|s| s.destination_port == 1723)
        .map(|s| s.payload.len())
        .collect();
    assert!(
        sizes.iter().all(|size| *size <= SEGMENT) && sizes.iter().any(|size| *size + OPTIONS == SEGMENT),
        "{sizes:?}"
    );
}

#[test]
fn the_kernels_alg_misses_requests_that_come_in_two_segments() {
    if !can_run("the_kernels_alg_misses_requests_that_come_in_two_segments") {
        return;
    }
    let (lab, _server) = lab();
    baseline::kernel_alg(&lab.gw, OUT_IF).unwrap();
    let inside = Capture::start(&lab.gw, LAN_IF).unwrap();
    let client = PptpClient::dial(&lab.clients[0], server_address(0)).unwrap();
    assert!(client.wait_up(&lab.clients[0], Duration::from_secs(6)).is_err());
    was_cut(&inside.stop().unwrap());
}

#[test]
fn requests_in_two_segments_make_calls_as_any_others() {
    if !can_run("requests_in_two_segments_make_calls_as_any_others") {
        return;
    }
    let (lab, _server) = lab();
    let callgate = Callgate::start(&lab.gw, &CLASSIC).unwrap();
    for node in &lab.clients {
        node.force_call_id(4_711).unwrap();
    }
    let inside = Capture::start(&lab.gw, LAN_IF).unwrap();
    let clients: Vec<PptpClient> =
        lab.clients.iter().map(|node| PptpClient::dial(node, server_address(0)).unwrap()).collect();
    let links: Vec<_> = clients.iter().zip(&lab.clients).map(|(c, node)| c.wait_up(node, UP).unwrap()).collect();
    let targets = lab.clients.iter().zip(&links).map(|(node, link)| (node, link.remote));
    let losses: Vec<u32> = ping::all(targets, LOOK).unwrap().iter().map(ping::Pinged::loss_percent).collect();
    assert_eq!(losses, [0, 0], "{}", callgate.log());
    was_cut(&inside.stop().unwrap());
}
