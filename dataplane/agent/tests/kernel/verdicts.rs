//! What becomes of packets: every action with every protocol, first match, exceptions, sources, ports, addresses.

use std::net::Ipv4Addr;

use callgate_proto::model::{Action, External, PortRange, Service};

use super::configs::{ANYWHERE, Config, POD_A, POD_B, anything, ports, service, tcp as tcp_to, udp as udp_to};
use super::lab::{Lab, root};
use super::probes::{Connection, NODE, POD, Seen, Servers, ping, raw, tcp, udp, udp_from};

fn lab() -> (Lab, Servers) {
    let lab = Lab::new();
    let servers = Servers::start(lab.server.clone(), &[80, 443, 8080], &[53, 80, 5000]);
    (lab, servers)
}

fn icmp() -> Service {
    service("icmp", &[ports(1, "")])
}

#[test]
fn every_action_does_its_own_with_every_protocol() {
    if !root() {
        return;
    }
    let (lab, _servers) = lab();
    let mut kernel = lab.start();
    let table = [
        (Action::Nat, (NODE, NODE, "answered", NODE)),
        (Action::Allow, (POD, POD, "answered", POD)),
        (Action::Drop, (Seen::Nothing, Seen::Nothing, "nothing", Seen::Nothing)),
        (Action::Reject, (Seen::Refused, Seen::Refused, "Packet filtered", Seen::Nothing)),
    ];
    for (action, expected) in table {
        // One name an action: another rule, so nothing is left of the one before.
        let config = Config::new().rule(&format!("{action:?}"), action, &[POD_A], ANYWHERE, &[anything("any")]).build();
        kernel.apply(&config, &[]).unwrap();
        let pinged = ping(&lab.a, "192.0.2.10");
        let esp = raw(&lab.a, &lab.server, "192.0.2.10", 50, b"some esp");
        let seen = (tcp(&lab.a, "192.0.2.10:80"), udp(&lab.a, "192.0.2.10:53"), pinged.as_str(), esp);
        assert_eq!(seen, expected, "{action:?}");
    }
    kernel.stop().unwrap();
}

#[test]
fn only_selected_sources_are_touched() {
    if !root() {
        return;
    }
    let (lab, _servers) = lab();
    let mut kernel = lab.start();
    let config = Config::new().rule("b", Action::Nat, &["10.244.2.0/24"], ANYWHERE, &[anything("any")]).build();
    kernel.apply(&config, &[]).unwrap();
    assert_eq!((tcp(&lab.a, "192.0.2.10:80"), tcp(&lab.b, "192.0.2.10:80")), (POD, NODE));
    kernel.stop().unwrap();
}

#[test]
fn the_first_rule_that_matches_wins_and_no_match_is_left_alone() {
    if !root() {
        return;
    }
    let (lab, _servers) = lab();
    let mut kernel = lab.start();
    let config = Config::new()
        .rule("no-web", Action::Reject, &[POD_A], &["198.51.100.10/32"], &[tcp_to("http", "80")])
        .rule("web", Action::Nat, &[POD_A], ANYWHERE, &[tcp_to("http", "80"), tcp_to("https", "443")])
        .rule("never", Action::Drop, &[POD_A], ANYWHERE, &[tcp_to("http", "80")])
        .build();
    kernel.apply(&config, &[]).unwrap();
    let seen = ["198.51.100.10:80", "198.51.100.11:80", "198.51.100.10:443", "198.51.100.10:8080"];
    assert_eq!(seen.map(|to| tcp(&lab.a, to)), [Seen::Refused, NODE, NODE, POD]);
    assert_eq!(udp(&lab.a, "198.51.100.10:80"), POD);
    kernel.stop().unwrap();
}

#[test]
fn destinations_and_their_exceptions_hold_at_their_edges() {
    if !root() {
        return;
    }
    let (lab, _servers) = lab();
    let mut kernel = lab.start();
    // 198.51.100.0/24 except .10, as compile cuts it.
    let cut = [
        "198.51.100.0/29",
        "198.51.100.8/31",
        "198.51.100.11/32",
        "198.51.100.12/30",
        "198.51.100.16/28",
        "198.51.100.32/27",
        "198.51.100.64/26",
        "198.51.100.128/25",
    ];
    kernel.apply(&Config::new().rule("cut", Action::Nat, &[POD_A], &cut, &[anything("any")]).build(), &[]).unwrap();
    let to = ["198.51.100.10:80", "198.51.100.11:80", "192.0.2.10:80"];
    assert_eq!(to.map(|to| tcp(&lab.a, to)), [POD, NODE, POD]);
    kernel.stop().unwrap();
}

#[test]
fn ports_are_compared_at_both_ends_of_their_ranges() {
    if !root() {
        return;
    }
    let (lab, _servers) = lab();
    let mut kernel = lab.start();
    let mut from = udp_to("from", "");
    from.matches[0].source_ports = vec![PortRange { first: 4000, last: 4001 }];
    let mut list = udp_to("list", "53,5000-5001");
    list.matches[0].source_ports = vec![PortRange { first: 1, last: 3999 }, PortRange { first: 6000, last: 6000 }];
    let config = Config::new().rule("ports", Action::Nat, &[POD_A], ANYWHERE, &[from, list]).build();
    kernel.apply(&config, &[]).unwrap();
    let cases = [
        (("53", 4000), NODE),
        (("53", 4001), NODE),
        (("53", 4002), POD),
        (("53", 3999), NODE),
        (("5000", 6000), NODE),
        (("80", 6000), POD),
        (("80", 3999), POD),
    ];
    for ((to, from), expected) in cases {
        assert_eq!(udp_from(&lab.a, &format!("192.0.2.10:{to}"), from), expected, "from {from} to {to}");
    }
    kernel.stop().unwrap();
}

#[test]
fn a_group_is_any_of_its_members() {
    if !root() {
        return;
    }
    let (lab, _servers) = lab();
    let mut kernel = lab.start();
    let group = [tcp_to("http", "80"), udp_to("dns", "53"), icmp()];
    kernel.apply(&Config::new().rule("group", Action::Drop, &[POD_A], ANYWHERE, &group).build(), &[]).unwrap();
    let seen = (tcp(&lab.a, "192.0.2.10:80"), tcp(&lab.a, "192.0.2.10:443"), udp(&lab.a, "192.0.2.10:53"));
    assert_eq!(seen, (Seen::Nothing, POD, Seen::Nothing));
    assert_eq!((udp(&lab.a, "192.0.2.10:5000"), ping(&lab.a, "192.0.2.10")), (POD, "nothing".to_owned()));
    kernel.stop().unwrap();
}

#[test]
fn nat_gives_the_address_of_the_rule() {
    if !root() {
        return;
    }
    let (lab, _servers) = lab();
    let mut kernel = lab.start();
    let fixed = External::Address(Ipv4Addr::new(192, 0, 2, 2));
    let config = Config::new()
        .full("fixed", Action::Nat, fixed, false, &[POD_A], ANYWHERE, &[tcp_to("http", "80"), udp_to("dns", "53")])
        .rule("node", Action::Nat, &[POD_A], ANYWHERE, &[tcp_to("https", "443")])
        .build();
    kernel.apply(&config, &[]).unwrap();
    let other = Seen::From(Ipv4Addr::new(192, 0, 2, 2));
    let seen = (tcp(&lab.a, "192.0.2.10:80"), udp(&lab.a, "192.0.2.10:53"), tcp(&lab.a, "192.0.2.10:443"));
    assert_eq!(seen, (other, other, NODE));
    kernel.stop().unwrap();
}

#[test]
fn the_cluster_and_the_node_itself_are_not_outside() {
    if !root() {
        return;
    }
    let (lab, _servers) = lab();
    let _in_b = Servers::start(lab.b.clone(), &[80], &[]);
    let mut kernel = lab.start();
    let config = Config::new().rule("all", Action::Reject, &[POD_A], ANYWHERE, &[anything("any")]).build();
    kernel.apply(&config, &[]).unwrap();
    assert_eq!(tcp(&lab.a, "10.244.2.2:80"), POD);
    assert_eq!((ping(&lab.a, "192.0.2.1"), ping(&lab.a, "192.0.2.10")), ("answered".into(), "Packet filtered".into()));
    kernel.stop().unwrap();
}

#[test]
fn connections_into_a_selected_pod_are_answered() {
    if !root() {
        return;
    }
    let (lab, _servers) = lab();
    let _in_a = Servers::start(lab.a.clone(), &[80], &[]);
    let mut kernel = lab.start();
    let config = Config::new().rule("all", Action::Drop, &[POD_A, POD_B], ANYWHERE, &[anything("any")]).build();
    kernel.apply(&config, &[]).unwrap();
    let mut inward = Connection::open(&lab.server, "10.244.1.2:80", None).unwrap_or_else(|seen| panic!("{seen:?}"));
    assert_eq!(inward.still(), Seen::From(Ipv4Addr::new(192, 0, 2, 10)));
    kernel.stop().unwrap();
}
