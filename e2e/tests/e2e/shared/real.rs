//! Real pptp-linux clients through Shared to real pptpd, which takes one call a connection.

use std::collections::BTreeSet;
use std::time::Duration;

use callgate_e2e::lab::ping;
use callgate_e2e::lab::topology::server_address;
use callgate_e2e::peers::pptp_client::PptpClient;

use super::super::support::{LOOK, Scene, UP, can_run};
use super::manifests;

#[test]
fn real_clients_reach_a_real_pptpd_through_shared_and_all_are_live() {
    if !can_run("real_clients_reach_a_real_pptpd_through_shared_and_all_are_live") {
        return;
    }
    let mut scene = Scene::with(8, 1, &manifests("Shared"));
    for node in &scene.lab.clients {
        node.force_call_id(4_711).unwrap();
    }
    let links = scene.dial_all();
    scene.all_live(&links, if cfg!(feature = "long") { Duration::from_secs(60) } else { LOOK });
    let calls = scene.callgate.wait_calls(&scene.lab.gw, 8).unwrap();
    let tunnels: BTreeSet<_> = calls.iter().map(|call| call.tunnel).collect();
    assert!(!tunnels.contains(&None) && tunnels.len() == 8, "pptpd takes one call a connection: {tunnels:?}");
    // One hangs up: its call ends, the others' do not.
    scene.clients[0].hang_up().unwrap();
    scene.callgate.wait_calls(&scene.lab.gw, 7).unwrap();
    let rest: Vec<_> = scene.lab.clients.iter().zip(&links).skip(1).map(|(node, link)| (node, link.remote)).collect();
    let lost = ping::all(rest, LOOK).unwrap();
    assert!(lost.iter().all(|pinged| pinged.loss_percent() == 0), "{lost:?}");
}

#[test]
fn of_two_calls_on_one_control_connection_both_are_live_in_tunnels_of_their_own() {
    if !can_run("of_two_calls_on_one_control_connection_both_are_live_in_tunnels_of_their_own") {
        return;
    }
    // A second pptp to the same server goes through the first one's call manager, on the same TCP connection. pptpd itself
    // would keep the newest of two calls on one connection only: here it never sees two on one.
    let mut scene = Scene::with(2, 1, &manifests("Shared"));
    let links = scene.dial_all();
    let node = &scene.lab.clients[0];
    let second = PptpClient::dial(node, server_address(0)).unwrap();
    let newest = second.wait_up(node, UP).unwrap();
    let calls = scene.callgate.wait_calls(&scene.lab.gw, 3).unwrap();
    let ports: BTreeSet<u16> = calls.iter().map(|call| call.client.port).collect();
    let tunnels: BTreeSet<_> = calls.iter().map(|call| call.tunnel).collect();
    assert_eq!((ports.len(), tunnels.len()), (2, 3), "{calls:?}");
    for link in [&links[0], &newest] {
        let text = node.run("ip", &["-o", "-4", "addr", "show", "to", &link.local.to_string()]).unwrap();
        let device = text.split_whitespace().nth(1).unwrap();
        node.ip(&format!("route replace {} dev {device}", link.remote)).unwrap();
        let pinged = ping::all([(node, link.remote), (&scene.lab.clients[1], links[1].remote)], LOOK).unwrap();
        assert_eq!(pinged.iter().map(ping::Pinged::loss_percent).collect::<Vec<_>>(), [0, 0], "{device}");
    }
}
