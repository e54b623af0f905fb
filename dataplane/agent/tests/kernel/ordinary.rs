//! A node without PPTP: no hook and no routing rule is there for it, until a rule wants it.

use std::net::Ipv4Addr;

use callgate_agent::kernel::{Peers, SENT_TAG};
use callgate_proto::model::{Action, ControlConnection, NodeConfig};

use super::configs::{ANYWHERE, Config, POD_A, pptp, tcp as tcp_to};
use super::lab::{Lab, root, sh};
use super::probes::{Connection, NODE, Seen, Servers};
use super::steering::Inside;

const OWN: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

fn ordinary() -> NodeConfig {
    Config::new().rule("web", Action::Nat, &[POD_A], ANYWHERE, &[tcp_to("http", "80")]).build()
}

fn with_pptp() -> NodeConfig {
    let web = tcp_to("http", "80");
    Config::new()
        .rule("web", Action::Nat, &[POD_A], ANYWHERE, &[web])
        .rule("tills", Action::Nat, &[POD_A], ANYWHERE, &[pptp()])
        .build()
}

/// Priorities of our routing rules, and names of our base chains, sorted.
fn passed_by_every_packet() -> [Vec<String>; 2] {
    let (rules, table) = (sh("ip rule"), sh("nft list table ip callgate"));
    let rules = rules.lines().filter_map(|line| line.split_once(':')).map(|(priority, _)| priority.to_owned());
    let mut chains: Vec<String> = Vec::new();
    let mut name = "";
    for line in table.lines().map(str::trim) {
        if let Some(chain) = line.strip_prefix("chain ") {
            name = chain.trim_end_matches(" {");
        } else if line.contains(" hook ") {
            chains.push(name.to_owned());
        }
    }
    chains.sort();
    [rules.collect(), chains]
}

fn words<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(str::to_owned).to_vec()
}

/// The rules every host has.
const EVERYBODYS: [&str; 3] = ["0", "32766", "32767"];

fn without() -> [Vec<String>; 2] {
    [words(EVERYBODYS), words(["postrouting", "prerouting"])]
}

fn with() -> [Vec<String>; 2] {
    let chains = ["forward", "guard", "input", "output", "output_raw", "postrouting", "prerouting", "prerouting_raw"];
    [words(["0", "94", "95", "32766", "32767"]), words(chains)]
}

#[test]
fn pptp_costs_no_other_packet_anything_before_a_rule_wants_it_and_flows_do_not_notice_when_one_does() {
    if !root() {
        return;
    }
    let lab = Lab::new();
    let _servers = Servers::start(lab.server.clone(), &[80], &[]);
    let mut kernel = lab.start();
    kernel.apply(&ordinary(), &[]).unwrap();
    assert_eq!(passed_by_every_packet(), without());
    assert!(!kernel.mend().unwrap(), "nothing is missing");
    let mut flow = Connection::open(&lab.a, "192.0.2.10:80", None).unwrap();
    assert_eq!(flow.still(), NODE);
    kernel.apply(&with_pptp(), &[]).unwrap();
    assert_eq!((passed_by_every_packet(), flow.still()), (with(), NODE));
    let mut inside = Inside::open();
    assert_eq!(Connection::open(&lab.a, "192.0.2.10:1723", None).err(), Some(Seen::Nothing));
    assert_eq!(inside.next().ends().0, Ipv4Addr::new(10, 244, 1, 2));
    // Connections of the ALG may outlive their rule: its way stays until the ALG has none.
    kernel.set_own_addresses(&[OWN], &Peers::default()).unwrap();
    kernel.apply(&ordinary(), &[OWN]).unwrap();
    assert_eq!((passed_by_every_packet(), flow.still()), (with(), NODE));
    kernel.set_own_addresses(&[], &Peers::default()).unwrap();
    assert_eq!((passed_by_every_packet(), flow.still()), (without(), NODE));
    assert!(!kernel.mend().unwrap(), "nothing is missing");
    assert!(kernel.intact().unwrap());
    kernel.stop().unwrap();
}

#[test]
fn an_alg_that_has_nothing_left_before_its_last_rule_goes_costs_nothing_from_that_moment_on() {
    if !root() {
        return;
    }
    let lab = Lab::new();
    let mut kernel = lab.start();
    kernel.apply(&with_pptp(), &[]).unwrap();
    kernel.set_own_addresses(&[OWN], &Peers::default()).unwrap();
    // The ALG hears of a change of rules first.
    kernel.set_own_addresses(&[], &Peers::default()).unwrap();
    assert_eq!(passed_by_every_packet(), with());
    kernel.apply(&ordinary(), &[]).unwrap();
    assert_eq!(passed_by_every_packet(), without());
    kernel.apply(&with_pptp(), &[]).unwrap();
    assert_eq!(passed_by_every_packet(), with());
    kernel.stop().unwrap();
}

#[test]
fn an_edit_that_takes_the_alg_from_a_rule_takes_its_way_from_the_node_once_the_last_connection_is_over() {
    if !root() {
        return;
    }
    let lab = Lab::new();
    let _servers = Servers::start(lab.server.clone(), &[80], &[]);
    let mut with_alg = with_pptp();
    with_alg.algs.iter_mut().for_each(|alg| alg.control_connection = ControlConnection::Shared);
    let mut without_alg = with_alg.clone();
    without_alg.services.iter_mut().for_each(|service| service.alg = None);
    let mut kernel = lab.start();
    kernel.apply(&with_alg, &[]).unwrap();
    let mut flow = Connection::open(&lab.a, "192.0.2.10:80", None).unwrap();
    assert_eq!(flow.still(), NODE);
    kernel.set_own_addresses(&[OWN], &Peers::default()).unwrap();
    without_alg.algs.clear();
    kernel.apply(&without_alg, &[OWN]).unwrap();
    assert_ne!(passed_by_every_packet(), without());
    kernel.set_own_addresses(&[], &Peers::default()).unwrap();
    assert_eq!((passed_by_every_packet(), flow.still()), (without(), NODE));
    assert_eq!(sh("ip route show table 7412 2>/dev/null || true"), "");
    drop(kernel);
    // The next one finds nothing to keep it for.
    let mut kernel = lab.start();
    kernel.apply(&without_alg, &[]).unwrap();
    assert_eq!((passed_by_every_packet(), flow.still()), (without(), NODE));
    kernel.stop().unwrap();
}

#[test]
fn what_a_pod_says_on_a_connection_that_the_alg_began_is_forgotten_with_the_algs_way() {
    if !root() {
        return;
    }
    let lab = Lab::new();
    let mut kernel = lab.start();
    let options = kernel.options().clone();
    let flows = || {
        sh(&format!("conntrack -L -p udp --mark {:#x}/{:#x} 2>/dev/null", options.tag_mark(SENT_TAG), options.tag_mask))
            .lines()
            .count()
    };
    kernel.apply(&with_pptp(), &[OWN]).unwrap();
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::Mark, &options.sent.value).unwrap();
    socket.send_to(b"from the ALG", "10.244.1.2:9").unwrap();
    assert_eq!(flows(), 1);
    kernel.apply(&ordinary(), &[OWN]).unwrap();
    assert_eq!(flows(), 1);
    kernel.set_own_addresses(&[], &Peers::default()).unwrap();
    assert_eq!(flows(), 0);
    kernel.stop().unwrap();
}

#[test]
fn an_agent_that_finds_connections_of_the_run_before_keeps_their_way_whatever_its_first_configuration_says() {
    if !root() {
        return;
    }
    let lab = Lab::new();
    let mut first = lab.start();
    first.apply(&with_pptp(), &[OWN]).unwrap();
    drop(first);
    let mut second = lab.start();
    second.apply(&ordinary(), &[]).unwrap();
    assert_eq!(passed_by_every_packet(), with());
    second.stop().unwrap();
}

#[test]
fn an_agent_without_pptp_takes_away_what_the_run_before_had_for_it() {
    if !root() {
        return;
    }
    let lab = Lab::new();
    let mut first = lab.start();
    let mut shared = with_pptp();
    shared.algs.iter_mut().for_each(|alg| alg.control_connection = ControlConnection::Auto);
    first.apply(&shared, &[]).unwrap();
    assert_eq!(sh("ip route show table 7412"), "local default dev lo proto static scope host \n");
    drop(first);
    let mut second = lab.start();
    second
        .apply(&NodeConfig { rules: Vec::new(), chains: Vec::new(), sources: Vec::new(), ..ordinary() }, &[])
        .unwrap();
    assert_eq!(passed_by_every_packet(), without());
    assert_eq!(sh("ip route show table 7412 2>/dev/null || true"), "");
    second.stop().unwrap();
}

#[test]
fn a_connection_that_comes_without_a_rule_brings_the_way_with_it() {
    if !root() {
        return;
    }
    let lab = Lab::new();
    let mut kernel = lab.start();
    kernel.apply(&ordinary(), &[]).unwrap();
    kernel.set_own_addresses(&[OWN], &Peers::default()).unwrap();
    assert_eq!(passed_by_every_packet(), with());
    kernel.stop().unwrap();
}
