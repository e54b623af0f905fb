//! Real pptp-linux clients through Shared to real pptpd, which takes one call a connection.

use std::time::Duration;

use super::super::support::{LOOK, Scene, can_run};
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
    let tunnels: std::collections::BTreeSet<_> = calls.iter().map(|call| call.tunnel).collect();
    assert!(!tunnels.contains(&None) && tunnels.len() == 8, "pptpd takes one call a connection: {tunnels:?}");
    // One hangs up: its call ends, the others' do not.
    scene.clients[0].hang_up().unwrap();
    scene.callgate.wait_calls(&scene.lab.gw, 7).unwrap();
    let rest: Vec<_> = scene.lab.clients.iter().zip(&links).skip(1).map(|(node, link)| (node, link.remote)).collect();
    let lost = callgate_e2e::lab::ping::all(rest, LOOK).unwrap();
    assert!(lost.iter().all(|pinged| pinged.loss_percent() == 0), "{lost:?}");
}
