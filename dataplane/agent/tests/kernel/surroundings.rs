//! Other people's rules, bridges and switches: nothing of them lets a packet take another way, and their policy decides first.

use std::net::Ipv4Addr;

use callgate_proto::model::{Action, NodeConfig};
use callgate_proto::pb::agent_message::Kind as Ours;
use nix::sys::signal::Signal;

use super::agent::{Place, acknowledged, here, snapshot, until};
use super::configs::{ANYWHERE, Config, POD_A, POD_B, pptp, tcp, udp};
use super::lab::{Lab, root, root_and_br_netfilter, sh};
use super::probes::{
    Capture, Connection, NODE, POD, Seen, Servers, header_socket, raw, send_as, send_ip, tcp as ask, udp as ask_udp,
};
use super::steering::{Inside, PPTP_GRE};

const A: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 2);
const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);

fn config() -> NodeConfig {
    let both = [POD_A, "10.244.1.3/32"];
    Config::new()
        .rule("tills", Action::Nat, &both, ANYWHERE, &[pptp(), tcp("http", "80")])
        .rule("plain", Action::Allow, &both, ANYWHERE, &[tcp("https", "443")])
        .rule("no", Action::Reject, &both, ANYWHERE, &[udp("dns", "53")])
        .build()
}

/// Both pods on one bridge with bridge-nf-call-iptables, and a CNI that masquerades pods, masquerades what comes to them from
/// elsewhere, forwards nothing by default, forbids pod B everything and throws INVALID away.
fn crowded() -> Lab {
    let lab = Lab::new();
    sh("ip link add cni0 type bridge && ip link set cni0 up && ip addr flush dev cg-a && ip addr flush dev cg-b");
    sh("ip addr add 10.244.1.1/24 dev cni0 && ip link set cg-a master cni0 && ip link set cg-b master cni0");
    lab.b.sh("ip addr flush dev eth0 && ip addr add 10.244.1.3/24 dev eth0 && ip route add default via 10.244.1.1");
    sh("sysctl -qw net.bridge.bridge-nf-call-iptables=1 net.ipv4.ip_forward=1");
    sh("nft -f - <<'END'
        table ip cni {
            chain forward {
                type filter hook forward priority 0; policy drop;
                ct state invalid drop
                ip saddr 10.244.1.3 drop
                ct state established,related accept
                ip saddr 10.244.0.0/16 accept
            }
            chain postrouting {
                type nat hook postrouting priority 100;
                ip saddr 10.244.0.0/16 ip daddr != 10.244.0.0/16 masquerade
                ip saddr != 10.244.0.0/16 ip daddr 10.244.0.0/16 masquerade
            }
        }\nEND");
    lab
}

#[test]
fn beside_a_bridge_a_masquerade_and_a_forward_policy_every_verdict_holds() {
    if !root_and_br_netfilter() {
        return;
    }
    let lab = crowded();
    let _servers = Servers::start(lab.server.clone(), &[80, 443, 8080], &[53]);
    let mut kernel = lab.start();
    kernel.apply(&config(), &[Ipv4Addr::new(192, 0, 2, 1)]).unwrap();
    let to = ["192.0.2.10:80", "192.0.2.10:443", "192.0.2.10:8080"];
    // NAT by the rule, as it is by the rule, and what no rule matches by the CNI.
    assert_eq!(to.map(|to| ask(&lab.a, to)), [NODE, POD, NODE]);
    assert_eq!(ask_udp(&lab.a, "192.0.2.10:53"), Seen::Refused);
    assert_eq!(to.map(|to| ask(&lab.b, to)), [Seen::Nothing; 3]);
    kernel.stop().unwrap();
}

#[test]
fn beside_them_pptp_is_steered_as_it_is_and_a_forbidden_pod_stays_forbidden() {
    if !root_and_br_netfilter() {
        return;
    }
    let lab = crowded();
    let mut kernel = lab.start();
    kernel.apply(&config(), &[Ipv4Addr::new(192, 0, 2, 1)]).unwrap();
    let mut inside = Inside::open();
    let outside = Capture::start(&lab.server, "tcp port 1723 or proto gre");
    assert_eq!(Connection::open(&lab.b, "192.0.2.10:1723", None).err(), Some(Seen::Nothing));
    assert_eq!(raw(&lab.b, &lab.server, "192.0.2.10", 47, PPTP_GRE), Seen::Nothing);
    assert_eq!(inside.now(), []);
    assert_eq!(Connection::open(&lab.a, "192.0.2.10:1723", None).err(), Some(Seen::Nothing));
    assert_eq!(inside.next().ends(), (A, SERVER, 6));
    send_ip(&lab.a, SERVER, 47, PPTP_GRE);
    let gre = inside.now().into_iter().chain(std::iter::from_fn(|| Some(inside.next()))).find(|p| p.ends().2 == 47);
    assert_eq!(gre.unwrap().ends(), (A, SERVER, 47));
    assert_eq!(outside.stop(), "");
    kernel.stop().unwrap();
}

#[test]
fn beside_them_what_the_alg_sends_to_a_pod_keeps_the_servers_address() {
    if !root_and_br_netfilter() {
        return;
    }
    let lab = crowded();
    let mut kernel = lab.start();
    kernel.apply(&config(), &[Ipv4Addr::new(192, 0, 2, 1)]).unwrap();
    let mark = kernel.options().sent.value;
    let arrived = Capture::start(&lab.a, "host 192.0.2.10");
    // The answer to a connection the pod opened, one that conntrack has forgotten, and GRE.
    assert_eq!(Connection::open(&lab.a, "192.0.2.10:1723", Some(40001)).err(), Some(Seen::Nothing));
    send_as(SERVER, A, 6, &super::steering::segment(SERVER, A, 1723, 40001, 0x12), mark);
    send_as(SERVER, A, 6, &super::steering::segment(SERVER, A, 1723, 40002, 0x18), mark);
    send_as(SERVER, A, 47, PPTP_GRE, mark);
    assert_eq!(super::probes::ping(&lab.a, "192.0.2.10"), "answered");
    let text = arrived.stop();
    for wanted in
        ["192.0.2.10.1723 > 10.244.1.2.40001", "192.0.2.10.1723 > 10.244.1.2.40002", "192.0.2.10 > 10.244.1.2: GREv1"]
    {
        assert!(text.contains(wanted), "{wanted} in\n{text}");
    }
    kernel.stop().unwrap();
}

#[test]
fn a_strict_reverse_path_check_with_marks_still_finds_the_pod() {
    if !root() {
        return;
    }
    let lab = Lab::new();
    for name in ["all", "cg-a", "cg-out"] {
        sh(&format!("sysctl -qw net.ipv4.conf.{name}.rp_filter=1 net.ipv4.conf.{name}.src_valid_mark=1"));
    }
    let mut kernel = lab.start();
    kernel.apply(&super::steering::config(), &[]).unwrap();
    let mut inside = Inside::open();
    send_ip(&lab.a, SERVER, 47, PPTP_GRE);
    assert_eq!(inside.next().ends(), (A, SERVER, 47));
    kernel.stop().unwrap();
}

#[test]
fn beside_routing_rules_that_give_a_pod_a_route_of_its_own_pptp_is_steered_and_the_rest_takes_that_route() {
    if !root() {
        return;
    }
    let lab = Lab::new();
    // As the AWS VPC CNI has them for a pod on a second network card, and tailscale for what is not its own.
    sh("ip route add default via 192.0.2.10 dev cg-out table 2");
    for rule in [
        "to 10.244.1.2 lookup main priority 512",
        "fwmark 0x80/0x80 lookup main priority 1024",
        "from 10.244.1.2 lookup 2 priority 1536",
        "fwmark 0x80000/0xff0000 lookup main priority 5210",
        "lookup 52 priority 5270",
    ] {
        sh(&format!("ip rule add {rule}"));
    }
    let foreign = sh("ip rule");
    let _servers = Servers::start(lab.server.clone(), &[80], &[]);
    let mut kernel = lab.start();
    kernel.apply(&config(), &[]).unwrap();
    let mut inside = Inside::open();
    let outside = Capture::start(&lab.server, "tcp port 1723 or proto gre");
    assert_eq!(Connection::open(&lab.a, "192.0.2.10:1723", None).err(), Some(Seen::Nothing));
    assert_eq!(inside.next().ends(), (A, SERVER, 6));
    send_ip(&lab.a, SERVER, 47, PPTP_GRE);
    let gre = inside.now().into_iter().chain(std::iter::from_fn(|| Some(inside.next()))).find(|p| p.ends().2 == 47);
    assert_eq!(gre.unwrap().ends(), (A, SERVER, 47));
    assert_eq!((ask(&lab.a, "192.0.2.10:80"), outside.stop()), (NODE, String::new()));
    kernel.stop().unwrap();
    assert_eq!(sh("ip rule"), foreign);
}

#[test]
fn what_a_routing_rule_before_ours_takes_away_from_the_alg_is_dropped_counted_and_told_with_the_remedy() {
    if !root() {
        return;
    }
    let lab = Lab::new();
    sh("sysctl -qw net.ipv4.ip_forward=1 && ip rule add from 10.244.1.2 lookup main priority 50");
    let wanted = NodeConfig { node: "node-a".into(), ..super::steering::config() };
    here(async {
        let mut place = Place::new().await;
        let (mut agent, log) = place.start_logging();
        let (mut stream, _) = place.attached().await;
        stream.tell(snapshot(&wanted, "u1")).await;
        acknowledged(&mut stream, &wanted).await;
        let outside = Capture::start(&lab.server, "tcp port 1723");
        let told = "a routing rule of somebody else comes before ours, which are 91 to 95 (`ip rule`): choose a --rule-priority \
                    before that one's";
        until("people are told", || {
            assert_eq!(Connection::open(&lab.a, "192.0.2.10:1723", None).err(), Some(Seen::Nothing));
            log().contains(told)
        });
        assert_eq!(outside.stop(), "");
        loop {
            let Some(Ours::Report(report)) = stream.next().await else { panic!("no report") };
            if report.counters.iter().any(|counter| counter.name == "kernel_steered_dropped" && counter.value > 0) {
                break;
            }
        }
        assert_eq!(log().matches(told).count(), 1);
        agent.end(Signal::SIGTERM);
        place.cleanup().unwrap();
    });
}

#[test]
fn fragments_of_gre_come_to_the_tap_no_larger_than_they_were() {
    if !root() {
        return;
    }
    let lab = Lab::new();
    let mut kernel = lab.start();
    kernel.apply(&super::steering::config(), &[]).unwrap();
    let mut inside = Inside::open();
    let whole: Vec<u8> = PPTP_GRE.iter().copied().chain((0..2500u32).map(|n| n as u8)).collect();
    send_fragments(&lab, &whole, 1400);
    let (mut joined, mut largest) = (vec![0; whole.len()], 0);
    let mut missing = whole.len();
    while missing > 0 {
        let fragment = inside.next();
        assert_eq!(fragment.ends(), (A, SERVER, 47));
        let at = usize::from(u16::from_be_bytes([fragment.0[6], fragment.0[7]]) & 0x1fff) * 8;
        joined[at..at + fragment.payload().len()].copy_from_slice(fragment.payload());
        missing -= fragment.payload().len();
        largest = largest.max(fragment.0.len());
    }
    assert_eq!((joined, largest <= 1420), (whole, true));
    kernel.stop().unwrap();
}

/// Two or more fragments of one GRE packet from pod A, each with at most `size` octets of payload.
fn send_fragments(lab: &Lab, whole: &[u8], size: usize) {
    let whole = whole.to_vec();
    lab.a.run(move || {
        let socket = header_socket();
        for (n, part) in whole.chunks(size / 8 * 8).enumerate() {
            let at = n * (size / 8);
            let more = if (at * 8 + part.len()) < whole.len() { 0x2000 } else { 0 };
            let flags = (at as u16 | more).to_be_bytes();
            let mut packet = vec![0x45, 0, 0, 0, 0x12, 0x34, flags[0], flags[1], 64, 47, 0, 0];
            packet.extend(A.octets());
            packet.extend(SERVER.octets());
            packet.extend(part);
            socket.send_to(&packet, &std::net::SocketAddr::from((SERVER, 0)).into()).unwrap();
        }
    });
}

#[test]
fn a_pod_with_large_packets_is_not_told_to_send_smaller_ones_by_the_pair() {
    if !root() {
        return;
    }
    let lab = Lab::new();
    sh("ip link set cg-a mtu 9000");
    lab.a.sh("ip link set eth0 mtu 9000");
    let mut kernel = lab.start();
    kernel.apply(&super::steering::config(), &[]).unwrap();
    let mut inside = Inside::open();
    let large: Vec<u8> = PPTP_GRE.iter().copied().chain((0..8900u32).map(|n| n as u8)).collect();
    send_ip(&lab.a, SERVER, 47, &large);
    assert_eq!(inside.next().payload(), large);
    kernel.stop().unwrap();
}

#[test]
fn a_policy_for_one_pod_does_not_reach_another() {
    if !root() {
        return;
    }
    let lab = Lab::new();
    let mut kernel = lab.start();
    let config = Config::new()
        .rule("tills", Action::Nat, &[POD_A], ANYWHERE, &[pptp()])
        .rule("none", Action::Drop, &[POD_B], ANYWHERE, &[pptp_without_alg()])
        .build();
    kernel.apply(&config, &[]).unwrap();
    let mut inside = Inside::open();
    assert_eq!(Connection::open(&lab.b, "192.0.2.10:1723", None).err(), Some(Seen::Nothing));
    assert_eq!(inside.now(), []);
    assert_eq!(Connection::open(&lab.a, "192.0.2.10:1723", None).err(), Some(Seen::Nothing));
    assert_eq!(inside.next().ends(), (A, SERVER, 6));
    kernel.stop().unwrap();
}

fn pptp_without_alg() -> callgate_proto::model::Service {
    tcp("pptp-plain", "1723")
}
