//! The same two clients through other NATs: they fail in the way that is known of each.

use std::time::Duration;

use callgate_e2e::gateway::baseline;
use callgate_e2e::lab::capture::Capture;
use callgate_e2e::lab::control;
use callgate_e2e::lab::node::Node;
use callgate_e2e::lab::packet::Packet;
use callgate_e2e::lab::ping;
use callgate_e2e::lab::topology::{EXTERNAL, Lab, OUT_IF, client_address, server_address};
use callgate_e2e::peers::pptp_client::{Link, PptpClient};
use callgate_e2e::peers::pptpd::Pptpd;

use super::support::{LOOK, UP, can_run};

#[test]
fn plain_masquerade_carries_nobody() {
    if !can_run("plain_masquerade_carries_nobody") {
        return;
    }
    let lab = Lab::new(2, 1).unwrap();
    let _server = Pptpd::start(&lab.servers[0], 0).unwrap();
    baseline::masquerade(&lab.gw, OUT_IF).unwrap();
    let outside = Capture::start(&lab.gw, OUT_IF).unwrap();
    let clients: Vec<PptpClient> =
        lab.clients.iter().map(|node| PptpClient::dial(node, server_address(0)).unwrap()).collect();
    for (client, node) in clients.iter().zip(&lab.clients) {
        assert!(client.wait_up(node, Duration::from_secs(6)).is_err());
    }
    // The server grants the calls; its GRE matches no flow, and the gateway's ICMP ends them.
    let packets = outside.stop().unwrap();
    assert!(!control::calls(&packets, 1723).is_empty(), "no call was granted");
    let refused = |packet: &Packet| packet.source == EXTERNAL && packet.is_protocol_unreachable();
    assert!(packets.iter().any(refused), "the gateway sent no protocol-unreachable");
}

#[test]
fn a_nat_whose_first_client_keeps_the_gre_lets_no_second_one_in() {
    if !can_run("a_nat_whose_first_client_keeps_the_gre_lets_no_second_one_in") {
        return;
    }
    let lab = Lab::new(2, 1).unwrap();
    let _server = Pptpd::start(&lab.servers[0], 0).unwrap();
    baseline::gre_by_address(&lab.gw).unwrap();
    baseline::gre_goes_to(&lab.gw, server_address(0), client_address(0)).unwrap();
    let first = PptpClient::dial(&lab.clients[0], server_address(0)).unwrap();
    let link = first.wait_up(&lab.clients[0], UP).unwrap();
    let outside = Capture::start(&lab.gw, OUT_IF).unwrap();
    let second = PptpClient::dial(&lab.clients[1], server_address(0)).unwrap();
    assert!(second.wait_up(&lab.clients[1], Duration::from_secs(6)).is_err());
    // Its call is granted, it is only LCP that stays without an answer.
    assert_eq!(control::calls(&outside.stop().unwrap(), 1723).len(), 1);
    let pinged = ping::all([(&lab.clients[0], link.remote)], LOOK).unwrap();
    assert_eq!(pinged[0].loss_percent(), 0);
}

#[test]
fn a_nat_that_maps_gre_by_address_kills_the_first_tunnel_with_the_second() {
    if !can_run("a_nat_that_maps_gre_by_address_kills_the_first_tunnel_with_the_second") {
        return;
    }
    let lab = Lab::new(2, 1).unwrap();
    let _server = Pptpd::start(&lab.servers[0], 0).unwrap();
    baseline::gre_by_address(&lab.gw).unwrap();
    let mut clients = Vec::new();
    let mut links = Vec::new();
    let mut losses = Vec::new();
    for (index, node) in lab.clients.iter().enumerate() {
        baseline::gre_goes_to(&lab.gw, server_address(0), client_address(index)).unwrap();
        let client = PptpClient::dial(node, server_address(0)).unwrap();
        links.push(client.wait_up(node, UP).unwrap());
        clients.push(client);
        let targets = lab.clients.iter().zip(&links).map(|(node, link)| (node, link.remote));
        let pinged = ping::all(targets, LOOK).unwrap();
        losses.push(pinged.iter().map(ping::Pinged::loss_percent).collect::<Vec<_>>());
    }
    assert_eq!(losses, [vec![0], vec![100, 0]]);
}

#[test]
fn the_kernels_alg_carries_both() {
    if !can_run("the_kernels_alg_carries_both") {
        return;
    }
    let lab = Lab::new(2, 1).unwrap();
    let _server = Pptpd::start(&lab.servers[0], 0).unwrap();
    baseline::kernel_alg(&lab.gw, OUT_IF).unwrap();
    let (clients, links): (Vec<_>, Vec<_>) = lab.clients.iter().map(through_the_kernels_alg).unzip();
    let targets = lab.clients.iter().zip(&links).map(|(node, link)| (node, link.remote));
    let losses: Vec<u32> = ping::all(targets, LOOK).unwrap().iter().map(ping::Pinged::loss_percent).collect();
    assert_eq!(losses, [0, 0]);
    drop(clients);
}

/// It knows only the first message of a segment: where a busy machine has put two into one, the call is dead, and is dialled again.
fn through_the_kernels_alg(node: &Node) -> (PptpClient, Link) {
    let mut last = None;
    for _ in 0..3 {
        let client = PptpClient::dial(node, server_address(0)).unwrap();
        match client.wait_up(node, UP) {
            Ok(link) => return (client, link),
            Err(error) => last = Some(error),
        }
    }
    panic!("three calls did not come up: {last:?}")
}

/// How often a client comes back where nothing is translated.
const RETURNS: usize = if cfg!(feature = "long") { 100 } else { 10 };

#[test]
fn without_nat_both_are_live_and_may_come_and_go() {
    if !can_run("without_nat_both_are_live_and_may_come_and_go") {
        return;
    }
    let lab = Lab::new(2, 1).unwrap();
    baseline::routed(&lab.inet).unwrap();
    let _server = Pptpd::start(&lab.servers[0], 0).unwrap();
    for node in &lab.clients {
        node.force_call_id(4_711).unwrap();
    }
    let mut clients: Vec<PptpClient> =
        lab.clients.iter().map(|node| PptpClient::dial(node, server_address(0)).unwrap()).collect();
    let links: Vec<_> = clients.iter().zip(&lab.clients).map(|(c, node)| c.wait_up(node, UP).unwrap()).collect();
    let targets = lab.clients.iter().zip(&links).map(|(node, link)| (node, link.remote));
    let losses: Vec<u32> = ping::all(targets, LOOK).unwrap().iter().map(ping::Pinged::loss_percent).collect();
    assert_eq!(losses, [0, 0]);
    // Beside lives::a_client_may_come_and_go_while_another_stays: what of it is the peers' own.
    let (mut outlived, node) = (0, &lab.clients[1]);
    for _ in 0..RETURNS {
        outlived += usize::from(!clients[1].hang_up().unwrap());
        clients[1] = PptpClient::dial(node, server_address(0)).unwrap();
        clients[1].wait_up(node, UP).unwrap();
    }
    println!("{outlived} of {RETURNS} pptp outlived their SIGTERM without any NAT");
}
