//! Many clients of one server behind one address: all live, and the table says what the wire says.

use std::time::Duration;

use callgate_e2e::gateway::callgate::{CLASSIC, Callgate};
use callgate_e2e::lab::capture::{Capture, write_pcap};
use callgate_e2e::lab::topology::{LAN_IF, Lab, OUT_IF};

use super::agreement;
use super::shared::client::{Client, give_addresses};
use super::shared::server::{Second, Server};
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

#[test]
fn the_classic_set_up_refuses_nobody_after_the_200th_client() {
    if !can_run("the_classic_set_up_refuses_nobody_after_the_200th_client") {
        return;
    }
    // More than a Service takes that says nothing of maxSessions.
    let count = 205;
    let lab = Lab::new(1, 1).unwrap();
    give_addresses(&lab.clients[0], count);
    let callgate = Callgate::start(&lab.gw, &CLASSIC).unwrap();
    let server = Server::start(&lab.servers[0], 1, Second::Serve);
    let clients: Vec<Client> =
        (0..count).map_while(|number| Client::connect(&lab.clients[0], number).ok()).map_while(started).collect();
    assert_eq!((clients.len(), server.connections()), (count, (count, count)), "{}", callgate.log());
    assert_eq!(callgate.counter(&lab.gw, "connections_refused").unwrap(), 0);
}

/// A client that the server has answered.
fn started(mut client: Client) -> Option<Client> {
    matches!(client.start(), Ok(1)).then_some(client)
}
