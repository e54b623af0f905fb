//! Servers whose answers come by several uplinks: what comes by each is counted, and nothing of what comes by other links.

use std::net::Ipv4Addr;

use callgate_agent::fast::{Fast, Hook, Mode, Pins, Status};
use callgate_pptp::CallPath;

use super::lab::{Lab, NOW, SERVER, Sender, call, index, mac, root, settle, sh};
use super::left::counters;
use super::packets::Gre;
use super::passes::has_tcx;

const MODES: [Mode; 2] = [Mode::Auto, Mode::Clsact];

/// A server with one uplink.
const OTHER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 10);

/// A second uplink, `cg-two`, which leads to the same place: to every server but `OTHER`.
fn lab() -> Lab {
    let lab = Lab::new();
    sh(&format!("ip link add cg-two type veth peer name eth1 netns {}", lab.server.path()));
    lab.server.sh("ip link set eth1 up");
    sh("ip addr add 192.0.3.1/24 dev cg-two && ip link set cg-two up");
    sh("ip route replace default nexthop via 192.0.2.10 dev cg-out nexthop via 192.0.3.10 dev cg-two");
    sh(&format!("ip route add {OTHER} via 192.0.2.10 dev cg-out"));
    lab
}

/// The link that the route to `SERVER` leads to, its router, and the other link.
fn own() -> (&'static str, &'static str, &'static str) {
    let first = sh(&format!("ip route get {SERVER}")).contains("cg-out");
    if first { ("cg-out", "192.0.2.10", "cg-two") } else { ("cg-two", "192.0.3.10", "cg-out") }
}

/// From the servers' side: by the link that routes lead to `SERVER` by, and by the other one.
fn senders(lab: &Lab) -> (Sender, Sender) {
    let (own, _, other) = own();
    (from_servers(lab, own), from_servers(lab, other))
}

fn from_servers(lab: &Lab, link: &str) -> Sender {
    let (end, to) = (if link == "cg-out" { "eth0" } else { "eth1" }, mac(link));
    lab.server.run(move || Sender::here(end, &to))
}

fn links(status: &Status) -> Vec<String> {
    status.get().unwrap_or_default().links.into_iter().collect()
}

/// A packet of the call's server, by a link that it does not pass by; whether anything of the call has changed.
fn counts(lab: &Lab, fast: &Fast, path: &CallPath, by: &Sender, seq: u32) -> bool {
    let (before, packet) = (fast.passed(path), Gre::down(path).seq(seq).bytes());
    by.send(&packet);
    assert_eq!(lab.at_gateway.wait(1), [packet]);
    fast.passed(path) != before
}

#[test]
fn of_several_uplinks_each_counts_what_comes_by_it_and_only_the_calls_own_passes_it_on() {
    if !root() {
        return;
    }
    for mode in MODES {
        let lab = lab();
        let (mut fast, status) = lab.start(mode, &[call(1)]);
        assert_eq!(links(&status), ["cg-in", "cg-out", "cg-two"], "{mode:?}");
        let (own, other) = senders(&lab);
        let packet = |seq| Gre::down(&call(1)).seq(seq);
        // Answers change over to the other link, and back; 14 is lost.
        own.send(&packet(1).bytes());
        let by_other: Vec<Vec<u8>> = (2..12).map(|seq| packet(seq).bytes()).collect();
        by_other.iter().for_each(|packet| other.send(packet));
        [12, 13, 15].into_iter().for_each(|seq| own.send(&packet(seq).bytes()));
        let passed: Vec<Vec<u8>> = [1, 12, 13, 15].map(|seq| packet(seq).beyond(&call(1)).bytes()).into();
        assert_eq!((lab.at_client.wait(4), lab.at_gateway.wait(10)), (passed, by_other));
        let traffic = fast.passed(&call(1)).unwrap().down.traffic;
        assert_eq!((traffic.packets, traffic.lost), (4, 1), "{mode:?}");
        assert_eq!(counters(&fast), [("fast_left_link", 10)]);
        // It keeps the program as long as the call is there.
        fast.close(&call(1), NOW);
        fast.work(fast.deadline(NOW).unwrap());
        assert_eq!(status.get().unwrap_or_default().links.len(), 0);
    }
}

#[test]
fn what_comes_by_a_link_that_does_not_lead_to_the_server_counts_for_nothing() {
    if !root() {
        return;
    }
    for mode in MODES {
        let lab = lab();
        let single = CallPath { server: OTHER, ..call(2) };
        let (mut fast, _) = lab.start(mode, &[call(1), single]);
        let (_, other) = senders(&lab);
        let pod = lab.client_sends();
        let second = from_servers(&lab, "cg-two");
        let each = |fast: &Fast, seq| {
            // By numbers of its own: each would show losses too.
            let of = |path, by, after: u32| counts(&lab, fast, path, by, seq + after);
            [of(&call(1), &other, 0), of(&call(1), &pod, 10), of(&single, &second, 20), of(&single, &pod, 30)]
        };
        assert_eq!(each(&fast, 1), [true, false, false, false], "{mode:?}");
        // As long as a call to that server is up and its route has both.
        fast.open(call(3), NOW);
        settle(&mut fast);
        fast.close(&call(3), NOW);
        assert_eq!(each(&fast, 100), [true, false, false, false], "{mode:?}");
        let (link, router, _) = own();
        sh(&format!("ip route replace default via {router} dev {link}"));
        fast.refresh();
        settle(&mut fast);
        // The link keeps the program a while.
        assert_eq!(each(&fast, 200), [false, false, false, false], "{mode:?}");
    }
}

#[test]
fn a_further_uplink_that_has_refused_the_program_for_a_moment_gets_it_later() {
    if !root() {
        return;
    }
    for mode in MODES {
        let lab = lab();
        let (link, _, further) = own();
        sh(&format!("tc qdisc add dev {further} clsact"));
        let hook = if mode == Mode::Auto && has_tcx() { Hook::Tcx } else { Hook::Clsact(false) };
        let (mut fast, status) = lab.start(mode, &[]);
        // The name it is to have is taken.
        let name = Pins::of(&lab.root, "callgate").unwrap().link(index(further), hook);
        std::fs::create_dir(&name).unwrap();
        fast.open(call(1), NOW);
        settle(&mut fast);
        assert_eq!(
            (fast.placed().collect(), links(&status)),
            (vec![call(1)], vec!["cg-in".to_owned(), link.to_owned()])
        );
        std::fs::remove_dir(&name).unwrap();
        fast.work(fast.deadline(NOW).unwrap());
        settle(&mut fast);
        assert_eq!(links(&status), ["cg-in", "cg-out", "cg-two"], "{mode:?}");
    }
}
