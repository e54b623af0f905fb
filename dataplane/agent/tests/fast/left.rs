//! What is left to the ALG: everything that is not plain GRE of a call, octet by octet as it came.

use callgate_agent::fast::{Fast, Mode};

use super::lab::{Lab, NOW, call, modes, root, sh};
use super::packets::{Gre, changed};

/// Sends it both ways: each time it must come to the ALG as it was sent, and nowhere else.
fn left(lab: &Lab, what: &str, change: impl Fn(Gre) -> Vec<u8>) {
    let path = call(1);
    let (up, down) = (change(Gre::up(&path)), change(Gre::down(&path)));
    lab.client_sends().send(&up);
    assert_eq!(lab.at_gateway.wait(1), [up], "{what}, up");
    lab.server_sends().send(&down);
    assert_eq!(lab.at_gateway.wait(1), [down], "{what}, down");
    // A packet that passes, behind it on the same way: what came out before that is everything.
    let (client, server) = (lab.client_sends(), lab.server_sends());
    client.send(&Gre::up(&path).bytes());
    server.send(&Gre::down(&path).bytes());
    assert_eq!(lab.at_server.wait(1), [Gre::up(&path).beyond(&path).bytes()], "{what}, up");
    assert_eq!(lab.at_client.wait(1), [Gre::down(&path).beyond(&path).bytes()], "{what}, down");
}

pub(crate) fn counters(fast: &Fast) -> Vec<(&'static str, u64)> {
    fast.counters().into_iter().filter(|(name, count)| name.starts_with("fast_left") && *count > 0).collect()
}

#[test]
fn what_the_program_does_not_handle_comes_to_the_alg_unchanged() {
    if !root() {
        return;
    }
    for mode in modes() {
        let (lab, fast, _) = Lab::with_call(mode);
        let whole = |packet: Gre| packet.bytes();
        left(&lab, "a first fragment", |packet| changed(whole(packet), |bytes| bytes[6] = 0x20));
        left(&lab, "a later fragment", |packet| changed(whole(packet), |bytes| bytes[6..8].copy_from_slice(&[0, 3])));
        assert_eq!(counters(&fast), [("fast_left_fragment", 4)]);
        left(&lab, "TTL 1", |packet| Gre { ttl: 1, ..packet }.bytes());
        left(&lab, "TTL 0", |packet| Gre { ttl: 0, ..packet }.bytes());
        left(&lab, "IPv4 options", |packet| {
            let bytes = Gre { ..packet }.bytes();
            let with = [&bytes[..20], &[7, 3, 4, 0], &bytes[20..]].concat();
            let length = with.len() as u16;
            changed(with, |bytes| {
                bytes[0] = 0x46;
                bytes[2..4].copy_from_slice(&length.to_be_bytes());
            })
        });
        left(&lab, "a Call ID of no call", |packet| Gre { call_id: packet.call_id ^ 0x4000, ..packet }.bytes());
        left(&lab, "GRE that says it is longer than its packet", |packet| {
            changed(whole(packet), |bytes| bytes[24..26].copy_from_slice(&38u16.to_be_bytes()))
        });
        left(&lab, "an IPv4 length beyond the frame", |packet| changed(whole(packet), |bytes| bytes[3] += 40));
        assert_eq!(
            counters(&fast),
            [
                ("fast_left_unknown", 2),
                ("fast_left_options", 2),
                ("fast_left_fragment", 4),
                ("fast_left_ttl", 4),
                ("fast_left_malformed", 4),
            ]
        );
    }
}

#[test]
fn what_is_not_pptps_gre_is_not_even_counted() {
    if !root() {
        return;
    }
    let (lab, fast, _) = Lab::with_call(Mode::Auto);
    let whole = |packet: Gre| packet.bytes();
    left(&lab, "version 0", |packet| changed(whole(packet), |bytes| bytes[21] &= !7));
    left(&lab, "version 2", |packet| changed(whole(packet), |bytes| bytes[21] = 2));
    left(&lab, "no key", |packet| changed(whole(packet), |bytes| bytes[20] &= !0x20));
    left(&lab, "a checksum", |packet| changed(whole(packet), |bytes| bytes[20] |= 0x80));
    left(&lab, "routing", |packet| changed(whole(packet), |bytes| bytes[20] |= 0x40));
    left(&lab, "strict source route", |packet| changed(whole(packet), |bytes| bytes[20] |= 0x08));
    left(&lab, "another protocol", |packet| changed(whole(packet), |bytes| bytes[22] = 0x08));
    left(&lab, "neither number", |packet| Gre { seq: None, payload: vec![], ..packet }.bytes());
    assert_eq!(counters(&fast), []);
}

#[test]
fn what_does_not_fit_the_way_out_comes_to_the_alg_which_tells_the_sender_or_cuts_it() {
    if !root() {
        return;
    }
    let (lab, mut fast, _) = Lab::with_call(Mode::Auto);
    let mut look = |line: &str| {
        sh(line);
        fast.refresh();
        fast.work(NOW);
    };
    let (up, down) = (Gre::up(&call(1)), Gre::down(&call(1)));
    look("ip link set cg-out mtu 1300");
    let (fits, large) = (up.clone().length(1_300), up.length(1_301).bytes());
    lab.client_sends().send(&fits.bytes());
    assert_eq!(lab.at_server.wait(1), [fits.beyond(&call(1)).bytes()]);
    lab.client_sends().send(&large);
    assert_eq!(lab.at_gateway.wait(1), [large]);
    // A route's own MTU counts too.
    look("ip link set cg-out mtu 1500 && ip route replace 10.0.0.2 dev cg-in mtu 1400");
    let (fits, large) = (down.clone().length(1_400), down.length(1_401).bytes());
    lab.server_sends().send(&fits.bytes());
    assert_eq!(lab.at_client.wait(1), [fits.beyond(&call(1)).bytes()]);
    lab.server_sends().send(&large);
    assert_eq!(lab.at_gateway.wait(1), [large]);
    assert_eq!(counters(&fast), [("fast_left_too_big", 2)]);
}

#[test]
fn a_frame_counts_with_what_is_behind_its_packet() {
    if !root() {
        return;
    }
    let (lab, mut fast, _) = Lab::with_call(Mode::Auto);
    sh("ip link set cg-out mtu 1300");
    fast.refresh();
    fast.work(NOW);
    let up = Gre::up(&call(1)).length(100);
    let followed = |packet: &Gre, length: usize| [packet.bytes(), vec![0; length - 100]].concat();
    lab.client_sends().send(&followed(&up, 1_300));
    assert_eq!(lab.at_server.wait(1), [followed(&up.beyond(&call(1)), 1_300)]);
    // The link would drop it, and nobody would hear of it.
    let large = followed(&up, 1_301);
    lab.client_sends().send(&large);
    assert_eq!(lab.at_gateway.wait(1), [large]);
    assert_eq!(counters(&fast), [("fast_left_too_big", 1)]);
}

#[test]
fn a_packet_by_another_link_than_its_calls_is_left_to_the_alg() {
    if !root() {
        return;
    }
    let (lab, fast, _) = Lab::with_call(Mode::Auto);
    let (up, down) = (Gre::up(&call(1)).seq(1), Gre::down(&call(1)).seq(1));
    lab.client_sends().send(&up.bytes());
    lab.server_sends().send(&down.bytes());
    lab.at_client.wait(1);
    let before = fast.passed(&call(1));
    // The client's packets from the server's side, and the other way round: anybody may have sent them, and nothing is counted.
    let (up, down) = (up.seq(900).bytes(), down.seq(900).bytes());
    lab.server_sends().send(&up);
    lab.client_sends().send(&down);
    assert_eq!(lab.at_gateway.wait(2), [up, down]);
    assert_eq!((counters(&fast), fast.passed(&call(1))), (vec![("fast_left_link", 2)], before));
}

#[test]
fn losses_are_counted_over_what_passes_and_what_is_left_together() {
    if !root() {
        return;
    }
    let (lab, fast, _) = Lab::with_call(Mode::Auto);
    let client = lab.client_sends();
    let packet = |seq| Gre::up(&call(1)).seq(seq);
    client.send(&packet(1).bytes());
    client.send(&changed(packet(2).bytes(), |bytes| bytes[6] = 0x20));
    client.send(&Gre { ttl: 1, ..packet(3) }.bytes());
    client.send(&packet(4).bytes());
    client.send(&packet(6).bytes());
    lab.at_server.wait(3);
    let traffic = fast.passed(&call(1)).unwrap().up.traffic;
    assert_eq!((traffic.packets, traffic.lost), (3, 1));
}

#[test]
fn other_traffic_is_not_touched() {
    if !root() {
        return;
    }
    let (lab, fast, _) = Lab::with_call(Mode::Auto);
    // ARP, ICMP both ways, with the gateway's own stack.
    lab.client.sh("nft flush ruleset && ip addr add 10.0.0.2/24 dev eth0 && ping -c 3 -i 0.01 -W 5 -s 1200 10.0.0.1");
    lab.server.sh("nft flush ruleset && ip addr add 192.0.2.10/24 dev eth0 && ping -c 3 -i 0.01 -W 5 192.0.2.1");
    assert_eq!(counters(&fast), []);
}
