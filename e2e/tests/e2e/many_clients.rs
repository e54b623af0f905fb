//! Many clients of one server behind one address: all live, and the table says what the wire says.

use std::time::Duration;

use callgate_e2e::lab::capture::{Capture, write_pcap};
use callgate_e2e::lab::topology::{LAN_IF, OUT_IF};

use super::agreement;
use super::support::{Scene, can_run};

/// Dials all, pings, and compares `calls` with captures on both sides.
fn all_live(clients: usize, same_ids: bool, time: Duration) {
    let mut scene = Scene::new(clients, 1);
    for (index, node) in scene.lab.clients.iter().enumerate() {
        node.force_call_id(if same_ids { 4_711 } else { 1_000 + index as u16 }).unwrap();
    }
    let inside = Capture::start(&scene.lab.gw, LAN_IF).unwrap();
    let outside = Capture::start(&scene.lab.gw, OUT_IF).unwrap();
    let links = scene.dial_all();
    scene.all_live(&links, time);
    let calls = scene.callgate.wait_calls(&scene.lab.gw, clients).unwrap();
    let (inside, outside) = (inside.stop().unwrap(), outside.stop().unwrap());
    // How dataplane/pptp/tests/data/lab-*.pcap were made.
    if let Some(dir) = std::env::var_os("CALLGATE_PCAP_DIR").map(std::path::PathBuf::from) {
        write_pcap(&dir.join(format!("lab-inside-{clients}.pcap")), &inside).unwrap();
        write_pcap(&dir.join(format!("lab-outside-{clients}.pcap")), &outside).unwrap();
    }
    agreement::check(&calls, &inside, &outside);
}

#[test]
fn two_clients_with_the_same_call_id_are_both_live() {
    if can_run("two_clients_with_the_same_call_id_are_both_live") {
        all_live(2, true, Duration::from_secs(if cfg!(feature = "long") { 60 } else { 20 }));
    }
}

#[test]
fn two_clients_with_their_own_call_ids_are_both_live() {
    if can_run("two_clients_with_their_own_call_ids_are_both_live") {
        all_live(2, false, Duration::from_secs(20));
    }
}

#[test]
fn three_clients_with_the_same_call_id_are_all_live() {
    if can_run("three_clients_with_the_same_call_id_are_all_live") {
        all_live(3, true, Duration::from_secs(20));
    }
}

#[test]
fn three_clients_with_their_own_call_ids_are_all_live() {
    if can_run("three_clients_with_their_own_call_ids_are_all_live") {
        all_live(3, false, Duration::from_secs(20));
    }
}

#[test]
fn fifty_clients_with_the_same_call_id_are_all_live() {
    if can_run("fifty_clients_with_the_same_call_id_are_all_live") {
        all_live(50, true, Duration::from_secs(20));
    }
}

#[test]
fn fifty_clients_with_their_own_call_ids_are_all_live() {
    if can_run("fifty_clients_with_their_own_call_ids_are_all_live") {
        all_live(50, false, Duration::from_secs(20));
    }
}
