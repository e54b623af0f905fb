//! What reaches the tap behind the veth pair, and what never takes another way.

use std::collections::VecDeque;
use std::net::Ipv4Addr;

use callgate_agent::kernel::Kernel;
use callgate_agent::sockets::{Reader, Tap, filter};
use callgate_proto::model::{Action, NodeConfig};

use super::configs::{ANYWHERE, Config, POD_A, POD_B, anything, pptp};
use super::lab::{Lab, Namespace, index, root, root_and_br_netfilter, sh};
use super::probes::{Capture, Connection, NODE, Seen, Servers, checksum, icmp_error, raw, send_ip, tcp};

/// Enhanced GRE, version 1, with key and sequence number: one PPP octet.
pub(crate) const PPTP_GRE: &[u8] = &[0x30, 0x01, 0x88, 0x0b, 0, 1, 0, 7, 0, 0, 0, 0, 0xff];

pub(crate) fn config() -> NodeConfig {
    Config::new().rule("tills", Action::Nat, &[POD_A], ANYWHERE, &[pptp()]).build()
}

/// One packet as the tap got it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tapped(pub(crate) Vec<u8>);

impl Tapped {
    /// Source, destination, protocol.
    pub(crate) fn ends(&self) -> (Ipv4Addr, Ipv4Addr, u8) {
        let at = |i: usize| Ipv4Addr::new(self.0[i], self.0[i + 1], self.0[i + 2], self.0[i + 3]);
        (at(12), at(16), self.0[9])
    }

    /// From behind the IPv4 header on.
    pub(crate) fn payload(&self) -> &[u8] {
        &self.0[usize::from(self.0[0] & 15) * 4..]
    }
}

/// The tap on callgate1.
pub(crate) struct Inside(Tap, Reader, VecDeque<Tapped>);

impl Inside {
    pub(crate) fn open() -> Self {
        Self::on("callgate1", &filter::pod_side())
    }

    /// A tap on another link.
    pub(crate) fn on(link: &str, filter: &[filter::Instruction]) -> Self {
        Self(Tap::open(index(link), filter).unwrap(), Reader::default(), VecDeque::new())
    }

    /// Everything that came until now. Veth delivers before `send` returns or shortly after, so ask after an answer.
    pub(crate) fn now(&mut self) -> Vec<Tapped> {
        let mut all: Vec<Tapped> = self.2.drain(..).collect();
        let mut kept: Vec<(callgate_agent::sockets::Place, ())> = Vec::new();
        while self
            .1
            .read(&self.0, &mut kept, |packet, _| {
                all.push(Tapped(packet.to_vec()));
                None
            })
            .unwrap()
            > 0
        {}
        all
    }

    /// Waits for the next packet.
    pub(crate) fn next(&mut self) -> Tapped {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        use std::os::fd::AsFd;
        loop {
            self.2 = self.now().into();
            if let Some(first) = self.2.pop_front() {
                return first;
            }
            let ready =
                poll(&mut [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)], PollTimeout::from(10_000u16)).unwrap();
            assert_eq!(ready, 1, "nothing came to the tap");
        }
    }
}

fn started(lab: &Lab) -> (Kernel, Inside) {
    let mut kernel = lab.start();
    kernel.apply(&config(), &[Ipv4Addr::new(192, 0, 2, 1)]).unwrap();
    (kernel, Inside::open())
}

const A: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 2);
const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);

#[test]
fn a_control_connection_is_steered_with_its_own_addresses_and_a_whole_checksum() {
    if !root() {
        return;
    }
    let lab = Lab::new();
    let (kernel, mut inside) = started(&lab);
    assert_eq!(Connection::open(&lab.a, "192.0.2.10:1723", None).err(), Some(Seen::Nothing));
    let syn = inside.next();
    assert_eq!((syn.ends(), syn.payload()[13] & 0x3f), ((A, SERVER, 6), 2));
    let mut pseudo = [A.octets(), SERVER.octets()].concat();
    pseudo.extend([0, 6, 0, syn.payload().len() as u8]);
    assert_eq!(checksum(&[&pseudo, syn.payload()].concat()), [0, 0]);
    let others = Capture::start(&lab.server, "host 10.244.1.2 or port 1723");
    assert_eq!(Connection::open(&lab.a, "192.0.2.10:1723", None).err(), Some(Seen::Nothing));
    assert_eq!(others.stop(), "");
    kernel.stop().unwrap();
}

#[test]
fn gre_is_steered_by_version_and_protocol_with_and_without_a_call() {
    if !root() {
        return;
    }
    let lab = Lab::new();
    let (kernel, mut inside) = started(&lab);
    for _ in 0..3 {
        assert_eq!(raw(&lab.a, &lab.server, "192.0.2.10", 47, PPTP_GRE), Seen::Nothing);
        let gre = inside.next();
        assert_eq!((gre.ends(), gre.payload()), ((A, SERVER, 47), PPTP_GRE));
        // Conntrack's memory of the first packet changes nothing, and neither does its loss.
        sh("conntrack -F 2>/dev/null");
    }
    // Plain GRE (version 0) is no concern of the ALG.
    assert_eq!(raw(&lab.a, &lab.server, "192.0.2.10", 47, &[0, 0, 8, 0, 1, 2, 3, 4]), super::probes::POD);
    // And neither is GRE of a source without such a rule.
    assert_eq!(raw(&lab.b, &lab.server, "192.0.2.10", 47, PPTP_GRE), Seen::From(Ipv4Addr::new(10, 244, 2, 2)));
    assert_eq!(inside.now(), []);
    kernel.stop().unwrap();
}

#[test]
fn icmp_errors_about_gre_and_control_connections_are_steered_and_no_others() {
    if !root() {
        return;
    }
    let lab = Lab::new();
    let (kernel, mut inside) = started(&lab);
    let outside = Capture::start(&lab.server, "icmp[icmptype] == icmp-unreach and src host 10.244.1.2");
    let quoted = |protocol: u8, body: &[u8]| {
        let mut packet = vec![0x45, 0, 0, (20 + body.len()) as u8, 0, 0, 0x40, 0, 64, protocol, 0, 0];
        packet.extend(SERVER.octets());
        packet.extend(A.octets());
        let sum = checksum(&packet);
        packet[10..12].copy_from_slice(&sum);
        [packet, body.to_vec()].concat()
    };
    let tcp_from_server = [6, 187, 0x88, 0xb8, 0, 0, 0, 1];
    let steered = [(3, 2, quoted(47, PPTP_GRE)), (3, 4, quoted(47, PPTP_GRE)), (11, 0, quoted(6, &tcp_from_server))];
    for (kind, code, quote) in steered {
        let error = icmp_error(kind, code, &quote);
        assert_eq!(raw_to(&lab.a, &error), ());
        let came = inside.next();
        assert_eq!((came.ends(), came.payload()), ((A, SERVER, 1), &error[..]), "type {kind} code {code}");
    }
    let other = icmp_error(3, 3, &quoted(17, &[0, 53, 0x88, 0xb8, 0, 8, 0, 0]));
    raw_to(&lab.a, &other);
    // The ping behind it has been answered, so it has had its time.
    assert_eq!(super::probes::ping(&lab.a, "192.0.2.10"), "answered");
    assert_eq!(inside.now(), []);
    let seen = outside.stop();
    assert!(seen.contains("udp port 35000 unreachable") && seen.lines().count() == 1, "{seen}");
    kernel.stop().unwrap();
}

fn raw_to(from: &Namespace, icmp: &[u8]) {
    send_ip(from, SERVER, 1, icmp);
}

#[test]
fn a_control_connection_in_mid_stream_is_steered_again_after_conntrack_forgets() {
    if !root() {
        return;
    }
    let lab = Lab::new();
    let (kernel, mut inside) = started(&lab);
    // An acknowledgement, a reset: with and without loose pick-up, the second even without any connection.
    for loose in [1, 0] {
        sh(&format!("sysctl -qw net.netfilter.nf_conntrack_tcp_loose={loose}"));
        for flags in [0x10u8, 0x18, 0x04] {
            sh("conntrack -F 2>/dev/null");
            let segment = segment(A, SERVER, 40000, 1723, flags);
            send_ip(&lab.a, SERVER, 6, &segment);
            let came = inside.next();
            assert_eq!((came.ends(), came.payload()), ((A, SERVER, 6), &segment[..]), "loose {loose} flags {flags:#x}");
        }
    }
    kernel.stop().unwrap();
}

pub(crate) fn segment(source: Ipv4Addr, destination: Ipv4Addr, from: u16, to: u16, flags: u8) -> Vec<u8> {
    let mut tcp = [from.to_be_bytes(), to.to_be_bytes()].concat();
    tcp.extend([0, 0, 0, 9, 0, 0, 0, 9, 0x50, flags, 0x20, 0, 0, 0, 0, 0]);
    let mut pseudo = [source.octets(), destination.octets()].concat();
    pseudo.extend([0, 6, 0, 20]);
    let sum = checksum(&[pseudo, tcp.clone()].concat());
    tcp[16..18].copy_from_slice(&sum);
    tcp
}

#[test]
fn what_the_server_says_first_after_conntrack_forgets_does_not_turn_the_connection_round() {
    if !root() {
        return;
    }
    let lab = Lab::new();
    let (kernel, mut inside) = started(&lab);
    // The gateway speaks to the pod as the server, as the ALG does: raw socket, our mark.
    let to_pod = segment(SERVER, A, 1723, 40000, 0x18);
    let mark = kernel.options().sent.value;
    let arrived = Capture::start(&lab.a, "tcp and dst port 40000");
    super::probes::send_as(SERVER, A, 6, &to_pod, mark);
    let answer = segment(A, SERVER, 40000, 1723, 0x10);
    send_ip(&lab.a, SERVER, 6, &answer);
    let came = inside.next();
    // The pod's kernel answers the unexpected segment with a reset of its own; both come, both from the pod.
    assert_eq!(came.ends(), (A, SERVER, 6));
    let text = arrived.stop();
    assert!(text.contains("192.0.2.10.1723 > 10.244.1.2.40000"), "{text}");
    kernel.stop().unwrap();
}

#[test]
fn what_servers_send_to_the_algs_address_is_not_answered_by_the_kernel() {
    if !root() {
        return;
    }
    let lab = Lab::new();
    let mut kernel = lab.start();
    // One address is the host's own, the other one is routed here and ends in a blackhole.
    lab.server.sh("ip route add 203.0.113.5/32 via 192.0.2.1");
    sh("ip route add blackhole 203.0.113.5");
    kernel.apply(&config(), &[Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(203, 0, 113, 5)]).unwrap();
    let before = kernel.counters().unwrap().copies;
    let answers = Capture::start(&lab.server, "(tcp[tcpflags] & tcp-rst != 0) or icmp");
    for address in [Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(203, 0, 113, 5)] {
        send_ip(&lab.server, address, 6, &segment(SERVER, address, 1723, 10000, 0x10));
        send_ip(&lab.server, address, 47, PPTP_GRE);
    }
    // To another port the kernel does answer: the last word of the capture.
    assert_eq!(tcp(&lab.server, "192.0.2.1:9"), Seen::Refused);
    let text = answers.stop();
    assert!(text.lines().all(|line| line.contains(" > 192.0.2.10.") && line.contains("192.0.2.1.9 ")), "{text}");
    // TCP that is not the host's has died in the blackhole.
    assert_eq!((text.is_empty(), kernel.counters().unwrap().copies - before), (false, 3));
    assert_eq!(sh("conntrack -L -p gre 2>/dev/null"), "");
    kernel.stop().unwrap();
}

#[test]
fn gre_reaches_the_tap_before_its_copy_ends_on_a_link_and_on_a_bridge_that_calls_the_hooks_first() {
    if !root_and_br_netfilter() {
        return;
    }
    let own = Ipv4Addr::new(192, 0, 2, 1);
    for link in ["cg-out", "cg-br"] {
        let lab = Lab::new();
        if link == "cg-br" {
            sh("ip link add cg-br type bridge && ip addr flush dev cg-out && ip link set cg-out master cg-br");
            sh("ip addr add 192.0.2.1/24 dev cg-br && ip link set cg-br up && ip route add default via 192.0.2.10");
            sh("sysctl -qw net.bridge.bridge-nf-call-iptables=1");
        }
        let mut kernel = lab.start();
        kernel.apply(&config(), &[own]).unwrap();
        let outside = filter::Outside { addresses: vec![own], ..filter::Outside::default() };
        let mut tap = Inside::on(link, &outside.program());
        send_ip(&lab.server, own, 47, PPTP_GRE);
        assert_eq!(tap.next().ends(), (SERVER, own, 47), "{link}");
        // Asked of the kernel until it has gone all its way.
        while kernel.counters().unwrap().copies == 0 {
            std::thread::yield_now();
        }
        assert_eq!(
            (kernel.counters().unwrap().copies, sh("conntrack -L -p gre 2>/dev/null").as_str()),
            (1, ""),
            "{link}"
        );
        kernel.stop().unwrap();
    }
}

#[test]
fn nobody_else_sends_pptp_under_the_algs_address() {
    if !root() {
        return;
    }
    let lab = Lab::new();
    let _servers = Servers::start(lab.server.clone(), &[80, 1723], &[]);
    let mut kernel = lab.start();
    // B has everything translated to the address under which A has its calls.
    let config = Config::new()
        .rule("tills", Action::Nat, &[POD_A], ANYWHERE, &[pptp()])
        .rule("rest", Action::Nat, &[POD_B], ANYWHERE, &[anything("any")])
        .build();
    kernel.apply(&config, &[Ipv4Addr::new(192, 0, 2, 1)]).unwrap();
    assert_eq!(raw(&lab.b, &lab.server, "192.0.2.10", 47, PPTP_GRE), Seen::Nothing);
    assert_eq!(kernel.counters().unwrap().guarded, 1);
    // Its TCP to such a server is its own affair, but from none of the ALG's ports.
    let mut own = Connection::open(&lab.b, "192.0.2.10:1723", Some(15000)).unwrap_or_else(|seen| panic!("{seen:?}"));
    assert_eq!(own.still(), NODE);
    let port = sh("conntrack -L -p tcp --orig-port-src 15000 2>/dev/null");
    let port: u16 = port.rsplit("dport=").next().unwrap().split_whitespace().next().unwrap().parse().unwrap();
    assert!((30000..=60999).contains(&port), "{port}");
    kernel.stop().unwrap();
}
