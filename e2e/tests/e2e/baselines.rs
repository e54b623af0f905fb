//! The same two clients through other NATs: they fail in the way that is known of each.

use std::time::Duration;

use callgate_e2e::gateway::baseline;
use callgate_e2e::lab::ping;
use callgate_e2e::lab::topology::{Lab, OUT_IF, client_address, server_address};
use callgate_e2e::peers::pptp_client::PptpClient;
use callgate_e2e::peers::pptpd::Pptpd;

use super::support::{LOOK, UP, can_run};

#[test]
fn plain_masquerade_carries_nobody() {
    if !can_run("plain_masquerade_carries_nobody") {
        return;
    }
    let lab = Lab::new(2, 1).unwrap();
    let _server = Pptpd::start(&lab.servers[0], 0).unwrap();
    baseline::masquerade(&lab.gw).unwrap();
    let clients: Vec<PptpClient> =
        lab.clients.iter().map(|node| PptpClient::dial(node, server_address(0)).unwrap()).collect();
    for (client, node) in clients.iter().zip(&lab.clients) {
        assert!(client.wait_up(node, Duration::from_secs(6)).is_err());
    }
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
    let clients: Vec<PptpClient> =
        lab.clients.iter().map(|node| PptpClient::dial(node, server_address(0)).unwrap()).collect();
    let links: Vec<_> = clients.iter().zip(&lab.clients).map(|(c, node)| c.wait_up(node, UP).unwrap()).collect();
    let targets = lab.clients.iter().zip(&links).map(|(node, link)| (node, link.remote));
    let losses: Vec<u32> = ping::all(targets, LOOK).unwrap().iter().map(ping::Pinged::loss_percent).collect();
    assert_eq!(losses, [0, 0]);
}
