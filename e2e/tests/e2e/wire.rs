//! Packets that real peers rarely send: ICMP errors about GRE, fragments, GRE of nobody's call.

use std::net::Ipv4Addr;
use std::time::Duration;

use callgate_e2e::lab::capture::Capture;
use callgate_e2e::lab::packet::Packet;
use callgate_e2e::lab::topology::{EXTERNAL, OUT_IF, client_address};
use callgate_e2e::wait;
use callgate_pptp::wire::{gre, icmp, ipv4};

use super::raw;
use super::support::{LOOK, Scene, can_run, server};

/// A packet that must have gone by when nothing else is seen: sent after what must not be seen.
const LIMIT: Duration = Duration::from_secs(5);

/// With the oldest sequence number: a receiver that is in the middle of a call drops it, and goes on.
pub(crate) fn gre_packet(src: Ipv4Addr, dst: Ipv4Addr, call_id: u16, payload: &[u8]) -> Vec<u8> {
    let header = gre::Repr { call_id, seq: Some(0), ack: None, payload_len: payload.len() as u16 };
    let mut body = vec![0; header.buffer_len()];
    header.emit(&mut body).unwrap();
    body.extend_from_slice(payload);
    raw::datagram(src, dst, ipv4::PROTOCOL_GRE, &body)
}

pub(crate) fn icmp_error(src: Ipv4Addr, dst: Ipv4Addr, code: u8, mtu: u16, original: &[u8]) -> Vec<u8> {
    let error = icmp::Repr { kind: icmp::DESTINATION_UNREACHABLE, code, mtu, original: &original[..28] };
    let mut body = vec![0; error.buffer_len()];
    error.emit(&mut body).unwrap();
    raw::datagram(src, dst, ipv4::PROTOCOL_ICMP, &body)
}

pub(crate) fn is_icmp_error(packet: &Packet) -> bool {
    packet.bytes.get(9) == Some(&1) && packet.bytes.get(20) == Some(&3)
}

#[test]
fn protocol_unreachable_of_one_client_ends_nobodys_call() {
    if !can_run("protocol_unreachable_of_one_client_ends_nobodys_call") {
        return;
    }
    let mut scene = Scene::new(2, 1);
    let links = scene.dial_all();
    let call = scene.callgate.wait_calls(&scene.lab.gw, 2).unwrap().remove(0);
    let outside = Capture::start(&scene.lab.gw, OUT_IF).unwrap();
    let client = client_address(0);
    let quoted = gre_packet(server(0), client, call.pns_call_id.unwrap(), b"data");
    scene.lab.clients[0].nft("flush ruleset").unwrap();
    for _ in 0..5 {
        raw::send(&scene.lab.clients[0], &icmp_error(client, server(0), 2, 0, &quoted)).unwrap();
    }
    wait::until_true("they are dropped and counted", LIMIT, || {
        Ok(scene.callgate.counter(&scene.lab.gw, "drop_icmp_protocol_unreachable")? >= 5)
    })
    .unwrap();
    scene.all_live(&links, LOOK);
    let errors: Vec<Packet> = outside.stop().unwrap().into_iter().filter(is_icmp_error).collect();
    assert!(errors.is_empty(), "{errors:?}");
}

#[test]
fn fragmentation_needed_reaches_the_client_with_the_header_it_knows() {
    if !can_run("fragmentation_needed_reaches_the_client_with_the_header_it_knows") {
        return;
    }
    let mut scene = Scene::new(1, 1);
    scene.dial_all();
    let call = scene.callgate.wait_calls(&scene.lab.gw, 1).unwrap().remove(0);
    let inside = Capture::start(&scene.lab.clients[0], "eth0").unwrap();
    let quoted = gre_packet(EXTERNAL, server(0), call.pac_call_id.unwrap(), b"data");
    raw::send(&scene.lab.servers[0], &icmp_error(server(0), EXTERNAL, 4, 1_000, &quoted)).unwrap();
    let seen = inside.wait("fragmentation-needed at the client", LIMIT, is_icmp_error).unwrap();
    let inner = &seen.bytes[28..];
    assert_eq!(seen.bytes[26..28], 1_000u16.to_be_bytes());
    assert_eq!(inner[12..16], client_address(0).octets());
    assert_eq!(inner[16..20], server(0).octets());
    assert_eq!(inner[26..28], call.pac_call_id.unwrap().to_be_bytes());
}

#[test]
fn fragments_of_gre_pass_both_ways() {
    if !can_run("fragments_of_gre_pass_both_ways") {
        return;
    }
    let mut scene = Scene::new(1, 1);
    let links = scene.dial_all();
    let call = scene.callgate.wait_calls(&scene.lab.gw, 1).unwrap().remove(0);
    let payload: Vec<u8> = (0..2_000).map(|n| n as u8).collect();
    let client = client_address(0);
    let at_server = Capture::start(&scene.lab.servers[0], "eth0").unwrap();
    let at_client = Capture::start(&scene.lab.clients[0], "eth0").unwrap();
    let up = gre_packet(client, server(0), call.pac_call_id.unwrap(), &payload);
    let down = gre_packet(server(0), EXTERNAL, call.pns_call_id_outside.unwrap(), &payload);
    for (node, packet) in [(&scene.lab.clients[0], &up), (&scene.lab.servers[0], &down)] {
        for fragment in raw::fragments(packet, 1_400) {
            raw::send(node, &fragment).unwrap();
        }
    }
    let whole = |capture: &Capture, from: Ipv4Addr| {
        wait::until("all fragments", LIMIT, || Ok(raw::reassembled(&capture.packets(), from, ipv4::PROTOCOL_GRE)))
            .unwrap()
    };
    assert_eq!(whole(&at_server, EXTERNAL), up[20..]);
    let mut expected = down[20..].to_vec();
    expected[6..8].copy_from_slice(&call.pns_call_id.unwrap().to_be_bytes());
    assert_eq!(whole(&at_client, server(0)), expected);
    scene.all_live(&links, Duration::from_secs(1));
}

#[test]
fn gre_of_nobodys_call_is_dropped_silently_and_counted() {
    if !can_run("gre_of_nobodys_call_is_dropped_silently_and_counted") {
        return;
    }
    let mut scene = Scene::new(2, 1);
    let links = scene.dial_all();
    let calls = scene.callgate.wait_calls(&scene.lab.gw, 2).unwrap();
    let outside = Capture::start(&scene.lab.gw, OUT_IF).unwrap();
    let inside = Capture::start(&scene.lab.clients[1], "eth0").unwrap();
    let taken: Vec<u16> = calls.iter().filter_map(|call| call.pns_call_id_outside).collect();
    let free = (1..u16::MAX).find(|id| !taken.contains(id)).unwrap();
    raw::send(&scene.lab.servers[0], &gre_packet(server(0), EXTERNAL, free, b"nobody's")).unwrap();
    // From the second client into the first one's call.
    let forged = gre_packet(client_address(1), server(0), calls[0].pac_call_id.unwrap(), b"forged payload");
    raw::send(&scene.lab.clients[1], &forged).unwrap();
    wait::until_true("both are dropped and counted", LIMIT, || {
        Ok(scene.callgate.counter(&scene.lab.gw, "drop_gre_unknown_call")? >= 2)
    })
    .unwrap();
    scene.all_live(&links, Duration::from_secs(1));
    let packets = outside.stop().unwrap();
    assert!(!packets.iter().any(is_icmp_error), "answered by ICMP");
    let contains = |packet: &Packet, text: &[u8]| packet.bytes.windows(text.len()).any(|window| window == text);
    assert!(!packets.iter().any(|packet| contains(packet, b"forged payload")), "left for the server");
    assert!(!inside.stop().unwrap().iter().any(is_icmp_error), "answered by ICMP");
}
