//! Many clients of one server behind one address: all live, and the table says what the wire says.

use std::time::Duration;

use callgate_e2e::gateway::callgate::Call;
use callgate_e2e::lab::capture::{Capture, write_pcap};
use callgate_e2e::lab::control;
use callgate_e2e::lab::topology::{LAN_IF, OUT_IF};

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
    // Each side's peers must name the call as the table does.
    let table = |external: bool| {
        let mut names: Vec<_> = calls.iter().map(|call: &Call| name(call, external)).collect();
        names.sort();
        names
    };
    let seen = |packets| {
        let calls = control::calls(packets, 1723);
        let mut names: Vec<_> = calls.iter().map(|c| (*c.client.ip(), c.client.port(), c.pns, c.pac)).collect();
        names.sort();
        names.dedup();
        names
    };
    assert_eq!(table(false), seen(&inside));
    assert_eq!(table(true), seen(&outside));
    let ids: std::collections::BTreeSet<_> = calls.iter().map(|call| call.pns_call_id_outside).collect();
    assert_eq!(ids.len(), clients, "Call IDs towards the server must differ");
    for packet in outside.iter().filter_map(|packet| packet.gre().map(|gre| (packet, gre))) {
        let (packet, gre) = packet;
        let known = calls.iter().any(|call| {
            (packet.source == call.external.address && Some(gre.call_id) == call.pac_call_id)
                || (packet.destination == call.external.address && Some(gre.call_id) == call.pns_call_id_outside)
        });
        assert!(known, "GRE outside that belongs to no call of the table: {packet:?}");
    }
}

fn name(call: &Call, external: bool) -> (std::net::Ipv4Addr, u16, u16, u16) {
    let (end, pns) =
        if external { (&call.external, call.pns_call_id_outside) } else { (&call.client, call.pns_call_id) };
    (end.address, end.port, pns.unwrap(), call.pac_call_id.unwrap())
}

#[test]
fn two_clients_with_the_same_call_id_are_both_live() {
    if can_run("two_clients_with_the_same_call_id_are_both_live") {
        all_live(2, true, Duration::from_secs(if cfg!(feature = "long") { 60 } else { 20 }));
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
