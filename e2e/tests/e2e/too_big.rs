//! GRE of a real server that does not fit the way to the client, and what nobody may tell that server.

use std::time::Duration;

use callgate_e2e::lab::capture::Capture;
use callgate_e2e::lab::packet::Packet;
use callgate_e2e::lab::topology::{EXTERNAL, OUT_IF, client_address};
use callgate_e2e::wait;
use callgate_pptp::wire::ipv4;

use super::raw;
use super::support::{LOOK, Scene, can_run, server};
use super::wire::{gre_packet, icmp_error, is_icmp_error};

/// How long a packet may take.
const LIMIT: Duration = Duration::from_secs(5);

/// Two real clients with links of 1,400 octets: both have calls to one pptpd.
fn scene() -> Scene {
    let scene = Scene::new(2, 1);
    for (number, node) in scene.lab.clients.iter().enumerate() {
        node.ip("link set eth0 mtu 1400").unwrap();
        scene.lab.gw.ip(&format!("link set c{} mtu 1400", number + 1)).unwrap();
    }
    scene
}

/// Sends from the server, with DF, what fits its own link but no client's; the packet arrives in pieces, nobody is told, all live.
fn arrives_in_pieces(mut scene: Scene) -> Scene {
    let links = scene.dial_all();
    let calls = scene.callgate.wait_calls(&scene.lab.gw, 2).unwrap();
    let call = calls.iter().find(|call| call.client.address == client_address(0)).unwrap();
    let payload: Vec<u8> = (0..1_460).map(|n| n as u8).collect();
    let mut down = gre_packet(server(0), EXTERNAL, call.pns_call_id_outside.unwrap(), &payload);
    ipv4::Packet::new_unchecked(&mut down[..]).set_fragment(true, false, 0);
    ipv4::Packet::new_unchecked(&mut down[..]).fill_checksum();
    let outside = Capture::start(&scene.lab.gw, OUT_IF).unwrap();
    let at_client = Capture::start(&scene.lab.clients[0], "eth0").unwrap();
    raw::send(&scene.lab.servers[0], &down).unwrap();
    let whole = wait::until("all fragments", LIMIT, || {
        Ok(raw::reassembled(&at_client.packets(), server(0), ipv4::PROTOCOL_GRE))
    });
    let mut expected = down[20..].to_vec();
    expected[6..8].copy_from_slice(&call.pns_call_id.unwrap().to_be_bytes());
    assert_eq!(whole.unwrap(), expected);
    scene.all_live(&links, LOOK);
    let errors: Vec<Packet> = outside.stop().unwrap().into_iter().filter(is_icmp_error).collect();
    assert!(errors.is_empty(), "{errors:?}");
    scene
}

#[test]
fn gre_larger_than_the_clients_link_arrives_in_pieces_and_both_calls_of_the_address_live() {
    if !can_run("gre_larger_than_the_clients_link_arrives_in_pieces_and_both_calls_of_the_address_live") {
        return;
    }
    arrives_in_pieces(scene());
}

#[test]
fn so_it_does_where_a_route_and_not_the_link_says_what_fits() {
    if !can_run("so_it_does_where_a_route_and_not_the_link_says_what_fits") {
        return;
    }
    let scene = Scene::new(2, 1);
    scene.lab.gw.ip(&format!("route add {}/32 dev lan0 mtu 1400", client_address(0))).unwrap();
    let scene = arrives_in_pieces(scene);
    // The kernel has said so in the host's name, as routers do; the firewall table kept it from the server.
    assert!(scene.callgate.counter(&scene.lab.gw, "kernel_guarded").unwrap() >= 1);
}

#[test]
fn fragmentation_needed_of_one_client_ends_nobodys_call() {
    if !can_run("fragmentation_needed_of_one_client_ends_nobodys_call") {
        return;
    }
    let mut scene = scene();
    let links = scene.dial_all();
    let calls = scene.callgate.wait_calls(&scene.lab.gw, 2).unwrap();
    let call = calls.iter().find(|call| call.client.address == client_address(0)).unwrap();
    let outside = Capture::start(&scene.lab.gw, OUT_IF).unwrap();
    let quoted = gre_packet(server(0), client_address(0), call.pns_call_id.unwrap(), b"data");
    for _ in 0..5 {
        raw::send(&scene.lab.clients[0], &icmp_error(client_address(0), server(0), 4, 1_000, &quoted)).unwrap();
    }
    wait::until_true("they are dropped and counted", LIMIT, || {
        Ok(scene.callgate.counter(&scene.lab.gw, "drop_icmp_too_big_gre")? >= 5)
    })
    .unwrap();
    scene.all_live(&links, LOOK);
    let errors: Vec<Packet> = outside.stop().unwrap().into_iter().filter(is_icmp_error).collect();
    assert!(errors.is_empty(), "{errors:?}");
}
