//! Rules are edited while a call is up: neither the node's own TCP ends its control connection, nor does its GRE take another way.

use std::net::Ipv4Addr;

use callgate_agent::kernel::{Kernel, Peers};
use callgate_proto::model::{Action, NodeConfig, Service};

use super::configs::{ANYWHERE, Config, POD_A, POD_B, pptp, tcp as tcp_to, udp as udp_to};
use super::lab::{Lab, root, sh};
use super::probes::{Capture, Connection, NODE, POD, Seen, Servers, raw, send_ip, tcp};
use super::steering::{Inside, PPTP_GRE, config, segment};

const OWN: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const A: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 2);
const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);

/// What would give packets that no rule takes the node's address.
fn cni_masquerades() {
    sh("nft add table ip cni && nft 'add chain ip cni post { type nat hook postrouting priority 100; }' && \
        nft 'add rule ip cni post oifname cg-out masquerade'");
}

/// What the ALG says before rules change while it has a connection to the server.
fn one() -> Peers {
    Peers { clients: [A].into(), servers: [SERVER].into(), ports: [1723].into() }
}

/// What may become of the rule of a live connection, or of what leads to it.
fn edits() -> Vec<(&'static str, NodeConfig)> {
    let other_port = Service { alg: Some(0), ..tcp_to("pptp-ctl", "1724") };
    let others = || {
        let service = std::slice::from_ref(&other_port);
        Config::new().rule("others", Action::Nat, &[POD_B], &["198.51.100.0/24"], service)
    };
    let with = |action, from: &[&str], to: &[&str], service: Service| {
        others().rule("tills", action, from, to, &[service]).build()
    };
    vec![
        ("another port", with(Action::Nat, &[POD_A], ANYWHERE, other_port.clone())),
        ("another server", with(Action::Nat, &[POD_A], &["198.51.100.0/24"], pptp())),
        ("another source", with(Action::Nat, &["10.244.1.99/32"], ANYWHERE, pptp())),
        ("no ALG", with(Action::Nat, &[POD_A], ANYWHERE, tcp_to("pptp-ctl", "1723"))),
        ("another service", with(Action::Nat, &[POD_A], ANYWHERE, udp_to("dns", "53"))),
        ("Allow", with(Action::Allow, &[POD_A], ANYWHERE, pptp())),
        ("Drop", with(Action::Drop, &[POD_A], ANYWHERE, pptp())),
        ("Reject", with(Action::Reject, &[POD_A], ANYWHERE, pptp())),
        ("no rule, others stay", others().build()),
        ("no rule at all", Config::new().build()),
    ]
}

/// What the node's kernel says to the next segment of the server: nothing, or there is a capture of it.
fn said_to_the_server(lab: &Lab) -> String {
    let answers = Capture::start(&lab.server, "(tcp[tcpflags] & tcp-rst != 0) or icmp");
    send_ip(&lab.server, OWN, 6, &segment(SERVER, OWN, 1723, 10000, 0x18));
    // To a port of nobody the kernel does answer: its last word.
    assert_eq!(tcp(&lab.server, "192.0.2.1:9"), Seen::Refused);
    let said = answers.stop();
    assert!(said.contains("192.0.2.1.9 > "), "{said}");
    said.lines().filter(|line| !line.contains("192.0.2.1.9 > ")).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_kernel_resets_no_control_connection_whatever_becomes_of_its_rule_nor_after_a_restart() {
    if !root() {
        return;
    }
    for (edit, edited) in edits() {
        let lab = Lab::new();
        let mut kernel = lab.start();
        kernel.apply(&config(), &[OWN]).unwrap();
        kernel.set_own_addresses(&[OWN], &one()).unwrap();
        kernel.apply(&edited, &[OWN]).unwrap();
        assert_eq!(said_to_the_server(&lab), "", "{edit}");
        drop(kernel);
        let mut kernel = lab.start();
        kernel.apply(&edited, &[]).unwrap();
        assert_eq!(said_to_the_server(&lab), "", "{edit}, by an agent whose ALG has not spoken yet");
        kernel.set_own_addresses(&[OWN], &one()).unwrap();
        assert_eq!(said_to_the_server(&lab), "", "{edit}, by an agent that goes on with it");
        kernel.set_own_addresses(&[], &Peers::default()).unwrap();
        assert_ne!(said_to_the_server(&lab), "", "{edit}, and nothing lives any more");
        kernel.stop().unwrap();
    }
}

#[test]
fn a_control_connection_keeps_its_way_after_conntrack_forgets_whatever_has_become_of_its_rule() {
    if !root() {
        return;
    }
    for (edit, edited) in edits() {
        let lab = Lab::new();
        cni_masquerades();
        let mut kernel = lab.start();
        kernel.apply(&config(), &[OWN]).unwrap();
        kernel.set_own_addresses(&[OWN], &one()).unwrap();
        kernel.apply(&edited, &[OWN]).unwrap();
        let mut inside = Inside::open();
        // With and without loose pick-up, the second even without any connection; then by what conntrack knows again.
        for loose in [0, 1] {
            sh(&format!("sysctl -qw net.netfilter.nf_conntrack_tcp_loose={loose} && conntrack -F 2>/dev/null"));
            let said = segment(A, SERVER, 40_000, 1723, 0x18);
            for _ in 0..2 {
                send_ip(&lab.a, SERVER, 6, &said);
                let came = inside.next();
                assert_eq!((came.ends(), came.payload()), ((A, SERVER, 6), &said[..]), "{edit}, loose {loose}");
            }
        }
        kernel.stop().unwrap();
    }
}

#[test]
fn what_a_client_of_a_live_connection_opens_beside_it_is_judged_by_the_rules() {
    if !root() {
        return;
    }
    let lab = Lab::new();
    let _servers = Servers::start(lab.server.clone(), &[1723], &[]);
    let mut kernel = lab.start();
    kernel.apply(&config(), &[OWN]).unwrap();
    kernel.set_own_addresses(&[OWN], &one()).unwrap();
    let direct = Config::new().rule("tills", Action::Nat, &[POD_A], ANYWHERE, &[tcp_to("pptp-ctl", "1723")]).build();
    for (rules, seen) in [(direct, NODE), (Config::new().build(), POD)] {
        kernel.apply(&rules, &[OWN]).unwrap();
        let mut other = Connection::open(&lab.a, "192.0.2.10:1723", None).unwrap_or_else(|seen| panic!("{seen:?}"));
        assert_eq!((other.still(), other.still()), (seen, seen));
    }
    kernel.stop().unwrap();
}

#[test]
fn what_a_client_answers_to_the_goodbye_of_the_alg_arrives_before_its_flows_are_deleted_too() {
    if !root() {
        return;
    }
    let lab = Lab::new();
    let mut kernel = lab.start();
    kernel.apply(&config(), &[OWN]).unwrap();
    kernel.set_own_addresses(&[OWN], &one()).unwrap();
    let mut inside = Inside::open();
    let said = segment(A, SERVER, 40_000, 1723, 0x18);
    let mut steered = |when| {
        send_ip(&lab.a, SERVER, 6, &said);
        assert_eq!(inside.next().ends(), (A, SERVER, 6), "{when}");
    };
    steered("by its rule");
    kernel.commit(&Config::new().build(), &[OWN]).unwrap();
    steered("its rule has gone, and its flow has not");
    kernel.settle(&[OWN]).unwrap();
    steered("its flow has gone too");
    kernel.stop().unwrap();
}

#[test]
fn gre_of_a_call_keeps_its_way_whatever_becomes_of_its_rule_and_is_forgotten_with_the_algs_way() {
    if !root() {
        return;
    }
    for (edit, edited) in edits() {
        let lab = Lab::new();
        cni_masquerades();
        let mut kernel = lab.start();
        let mut inside = Inside::open();
        let gre = |kernel: &mut Kernel, inside: &mut Inside, peers: &Peers| {
            kernel.set_own_addresses(&[OWN], peers).unwrap();
            assert_eq!(raw(&lab.a, &lab.server, "192.0.2.10", 47, PPTP_GRE), Seen::Nothing, "{edit}");
            assert_eq!(inside.next().ends(), (A, SERVER, 47), "{edit}");
        };
        kernel.apply(&config(), &[OWN]).unwrap();
        gre(&mut kernel, &mut inside, &Peers::default());
        kernel.apply(&edited, &[OWN]).unwrap();
        // By its tag alone; by its ends alone, when it was silent for longer than conntrack remembers.
        gre(&mut kernel, &mut inside, &Peers::default());
        sh("conntrack -D -p gre >/dev/null 2>&1");
        gre(&mut kernel, &mut inside, &one());
        kernel.apply(&Config::new().build(), &[OWN]).unwrap();
        gre(&mut kernel, &mut inside, &one());
        kernel.set_own_addresses(&[], &Peers::default()).unwrap();
        assert_eq!(raw(&lab.a, &lab.server, "192.0.2.10", 47, PPTP_GRE), NODE, "{edit}: as the CNI has it");
        kernel.stop().unwrap();
    }
}
