//! What others take away of ours: nothing leaves by another way meanwhile, and it is put back.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use callgate_agent::kernel::{Kernel, Options, Peers, Record};
use callgate_proto::model::Action;

use super::configs::{ANYWHERE, Config, POD_A, POD_B, tcp};
use super::lab::{Lab, empty, root, sh, surface};
use super::probes::{Capture, Connection, NODE, Seen, Servers};
use super::steering::{Inside, config};
use super::structure::everything;

const OWN: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// What somebody may do to the way into the veth pair.
pub(crate) const DAMAGES: [&str; 5] = [
    "ip rule del priority 95",
    "ip rule del priority 94",
    "ip route flush table 7411",
    "ip link set callgate0 down",
    "ip link del callgate0",
];

#[test]
fn without_its_way_to_the_alg_a_steered_packet_goes_nowhere() {
    if !root() {
        return;
    }
    for damage in DAMAGES {
        let lab = Lab::new();
        let mut kernel = lab.start();
        kernel.apply(&config(), &[OWN]).unwrap();
        sh(damage);
        let outside = Capture::start(&lab.server, "host 10.244.1.2 or port 1723");
        assert_eq!(Connection::open(&lab.a, "192.0.2.10:1723", None).err(), Some(Seen::Nothing), "{damage}");
        assert_eq!(outside.stop(), "", "{damage}");
        kernel.stop().unwrap();
    }
}

#[test]
fn the_way_to_the_alg_is_put_back_whatever_was_taken_of_it_and_then_there_is_nothing_to_do() {
    if !root() {
        return;
    }
    let lab = Lab::new();
    let mut kernel = lab.start();
    kernel.apply(&config(), &[OWN]).unwrap();
    for damage in DAMAGES {
        assert!(!kernel.mend().unwrap(), "before {damage}");
        sh(damage);
        assert!(kernel.mend().unwrap(), "{damage}");
        let mut inside = Inside::open();
        assert_eq!(Connection::open(&lab.a, "192.0.2.10:1723", None).err(), Some(Seen::Nothing), "{damage}");
        assert_eq!(inside.next().ends().0, Ipv4Addr::new(10, 244, 1, 2), "{damage}");
    }
    kernel.stop().unwrap();
}

#[test]
fn a_kernel_that_has_everything_says_so_and_nothing_of_the_question_is_left() {
    if !root() {
        return;
    }
    let lab = Lab::new();
    let mut kernel = lab.start();
    kernel.apply(&everything(), &[OWN]).unwrap();
    let before = surface();
    let features = kernel.features(&BTreeSet::new());
    let missing: Vec<_> = features.iter().filter(|feature| !feature.available).collect();
    assert!(missing.is_empty(), "{missing:?}");
    let names: Vec<&str> = features.iter().map(|feature| feature.name.as_str()).collect();
    let all = [
        "AF_PACKET",
        "conntrack over netlink",
        "nftables: NAT",
        "nftables: connection limits",
        "nftables: conntrack time-outs",
        "nftables: logging",
        "nftables: notrack",
        "nftables: reject",
        "nftables: route types",
        "nftables: transparent sockets",
    ];
    assert_eq!(names, all);
    assert_eq!(surface(), before);
    kernel.stop().unwrap();
}

#[test]
fn only_flows_of_ours_that_the_source_began_are_forgotten() {
    if !root() {
        return;
    }
    let lab = Lab::new();
    let _servers = Servers::start(lab.server.clone(), &[80, 443], &[]);
    let web = Config::new().rule("web", Action::Nat, &[POD_A, POD_B], ANYWHERE, &[tcp("http", "80")]).build();
    let mut kernel = lab.start();
    kernel.apply(&web, &[]).unwrap();
    let pods = [&lab.a, &lab.b];
    let asked = pods.map(|pod| ["192.0.2.10:80", "192.0.2.10:443"].map(|to| super::probes::tcp(pod, to) == NODE));
    assert_eq!(asked, [[true, false], [true, false]]);
    let left = || {
        let list = sh("conntrack -L -p tcp 2>/dev/null");
        let count = |from: &str, port: &str| {
            list.lines()
                .filter(|line| line.contains(&format!("src={from} dst=192.0.2.10 ")) && line.contains(port))
                .count()
        };
        ["10.244.1.2", "10.244.2.2"].map(|from| ["dport=80 ", "dport=443 "].map(|port| count(from, port)))
    };
    assert_eq!(left(), [[1, 1], [1, 1]]);
    kernel.forget_sources(&[Ipv4Addr::new(10, 244, 1, 2)].into()).unwrap();
    assert_eq!(left(), [[0, 1], [1, 1]]);
    kernel.stop().unwrap();
}

#[test]
fn addresses_claimed_while_the_table_is_broken_are_in_force_when_the_claim_returns() {
    if !root() {
        return;
    }
    let lab = Lab::new();
    let mut kernel = lab.start();
    kernel.apply(&everything(), &[]).unwrap();
    sh("nft flush ruleset");
    assert!(!kernel.intact().unwrap());
    kernel.set_own_addresses(&[OWN], &Peers::default()).unwrap();
    let set = sh("nft list set ip callgate own_addresses");
    assert!(set.contains("elements = { 192.0.2.1 }"), "{set}");
    kernel.stop().unwrap();
}

#[test]
fn a_first_start_that_fails_leaves_the_host_as_it_was() {
    if !root() {
        return;
    }
    empty();
    sh("ip link add cg-out type veth peer name cg-in && ip link set cg-out up && sysctl -qw net.ipv4.ip_forward=0");
    let before = surface();
    // The second record is that of ip_forward: by then links, route and rules are there.
    let mut records = 0;
    let keep = move |_: &Record| {
        records += 1;
        if records == 2 { Err(std::io::Error::from_raw_os_error(28)) } else { Ok(()) }
    };
    let error = Kernel::start(Options::default(), None, Box::new(keep)).err().map(|error| error.to_string());
    assert_eq!(
        error.as_deref(),
        Some("saving the record of kernel changes: No space left on device (os error 28); nothing was changed since")
    );
    assert_eq!(surface(), before);
}

#[test]
fn a_later_start_that_fails_leaves_what_carries_tunnels() {
    if !root() {
        return;
    }
    let lab = Lab::new();
    let mut killed = lab.start();
    killed.apply(&config(), &[OWN]).unwrap();
    drop(killed);
    sh("ip rule del priority 95 && ip route replace 192.0.2.64/26 dev cg-out table 7411");
    let before = surface();
    let error = Kernel::start(Options::default(), lab.record(), Box::new(|_| Ok(()))).err().map(|e| e.to_string());
    assert_eq!(
        error.as_deref(),
        Some("routing table 7411 holds routes that are not ours: choose another with --route-table")
    );
    assert_eq!(surface(), before);
    drop(Inside::open());
}
