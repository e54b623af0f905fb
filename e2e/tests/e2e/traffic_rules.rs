//! Ordinary traffic through manifests: what each action does, which rule decides, what changes of the manifests do to flows.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use callgate_e2e::gateway::callgate::Callgate;
use callgate_e2e::lab::capture::Capture;
use callgate_e2e::lab::node::Node;
use callgate_e2e::lab::packet::{Body, Packet};
use callgate_e2e::lab::topology::{EXTERNAL, LAN, Lab, OUT_IF, client_address, server_address};
use callgate_e2e::traffic::manifests::{self, document, put, remove, rule};
use callgate_e2e::traffic::probe::{self, Flow, Seen};
use callgate_e2e::traffic::servers::Servers;
use callgate_e2e::wait;

use super::support::can_run;

/// The outside knows the way to the clients, as a company's own network would: else Allow and "left alone" show nothing.
fn lab(clients: usize, servers: usize) -> Lab {
    let lab = Lab::new(clients, servers).unwrap();
    lab.inet.ip(&format!("route add 10.10.0.0/16 via {EXTERNAL}")).unwrap();
    lab
}

fn at(server: usize, port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(server_address(server), port)
}

fn only(client: usize) -> String {
    format!("{}/32", client_address(client))
}

/// What `explain` says about a client's packet: verdict and rule.
fn explained(callgate: &Callgate, gw: &Node, client: usize, to: &str) -> (String, String) {
    let from = client_address(client).to_string();
    let text = callgate.kubectl(gw, &["explain", "--from", &from, "--to", to, "-o", "json"]).unwrap();
    let told: serde_json::Value = serde_json::from_str(&text).unwrap();
    let text = |field: &str| told[field].as_str().unwrap_or("").to_owned();
    (text("verdict"), text("rule"))
}

/// Whether ping gets an answer.
fn pinged(from: &Node, to: Ipv4Addr) -> bool {
    from.command("ping").args(["-n", "-q", "-c1", "-W1", &to.to_string()]).output().unwrap().status.success()
}

/// The answers of the gateway itself in a capture: TCP flags, or ICMP type, code and the protocol that it is about.
fn answers(packets: &[Packet], to: Ipv4Addr) -> Vec<String> {
    let to_client = packets.iter().filter(|packet| packet.destination == to);
    let told = to_client.filter_map(|packet| match &packet.body {
        Body::Tcp(segment) => Some(format!("TCP flags {:#04x}", segment.flags)),
        Body::Icmp { kind: 3, code, inner: Some(inner), .. } => {
            Some(format!("ICMP 3/{code} from {} about protocol {}", packet.source, inner.bytes[9]))
        }
        Body::Icmp { .. } | Body::Gre(_) | Body::Fragment { .. } | Body::Other(_) => None,
    });
    told.collect()
}

#[test]
fn every_action_does_its_own_with_every_protocol() {
    if !can_run("every_action_does_its_own_with_every_protocol") {
        return;
    }
    let lab = lab(5, 1);
    let _servers = Servers::start(&lab.servers[0], &[80], &[53]).unwrap();
    let anywhere = "cidrs: [0.0.0.0/0]";
    let actions = ["NAT", "Allow", "Drop", "Reject"];
    let rules: Vec<String> = actions
        .iter()
        .enumerate()
        .map(|(client, action)| rule(&action.to_lowercase(), 100, action, &only(client), anywhere, &["all"]))
        .collect();
    let mut callgate = Callgate::start(&lab.gw, &rules.concat()).unwrap();
    let own = |client| Seen::From(client_address(client));
    let node = Seen::From(EXTERNAL);
    // ESP (50) has no ports and no answer: what counts is how it comes out.
    let expected = [
        (node, node, true, Some(EXTERNAL)),
        (own(1), own(1), true, Some(client_address(1))),
        (Seen::Nothing, Seen::Nothing, false, None),
        (Seen::Refused, Seen::Refused, false, None),
        // No rule selects the fifth client: it is not touched.
        (own(4), own(4), true, Some(client_address(4))),
    ];
    // At the client: a RST leaves the gateway by the port of the bridge, where the bridge hands its packets to netfilter.
    let [silent, answered] = [2, 3].map(|client| Capture::start(&lab.clients[client], "eth0").unwrap());
    for (client, expected) in expected.into_iter().enumerate() {
        let node = &lab.clients[client];
        let outside = Capture::start(&lab.gw, OUT_IF).unwrap();
        probe::raw(node, server_address(0), 50, b"an encapsulated security payload").unwrap();
        let tcp = probe::tcp(node, at(0, 80)).unwrap();
        let udp = probe::udp(node, at(0, 53)).unwrap();
        let ping = pinged(node, server_address(0));
        let packets = outside.stop().unwrap();
        let esp = packets.iter().find(|packet| packet.body == Body::Other(50)).map(|packet| packet.source);
        assert_eq!((tcp, udp, ping, esp), expected, "client {client}");
    }
    // RST with ACK; port-unreachable for UDP; communication administratively prohibited (RFC 1812) for the rest.
    let reject = [
        format!("ICMP 3/13 from {LAN} about protocol 50"),
        "TCP flags 0x14".to_owned(),
        format!("ICMP 3/3 from {LAN} about protocol 17"),
        format!("ICMP 3/13 from {LAN} about protocol 1"),
    ];
    assert_eq!(answers(&answered.stop().unwrap(), client_address(3)), reject);
    assert_eq!(answers(&silent.stop().unwrap(), client_address(2)), Vec::<String>::new(), "Drop is silent");
    for (client, action) in actions.iter().enumerate() {
        for to in ["203.0.113.11:80/tcp", "203.0.113.11:53/udp", "203.0.113.11/icmp", "203.0.113.11/50"] {
            let told = explained(&callgate, &lab.gw, client, to);
            assert_eq!(told, ((*action).to_owned(), format!("pos/{}", action.to_lowercase())), "{client} {to}");
        }
    }
    callgate.stop().unwrap();
}

#[test]
fn the_first_rule_that_matches_source_destination_and_service_decides() {
    if !can_run("the_first_rule_that_matches_source_destination_and_service_decides") {
        return;
    }
    let lab = lab(2, 3);
    let _servers: Vec<Servers> =
        lab.servers.iter().map(|node| Servers::start(node, &[80, 443, 8080, 8081], &[53, 54]).unwrap()).collect();
    let text = [
        document("Service", "admin", "protocol: TCP, destinationPorts: \"8080-8081\""),
        document("Service", "office", "members: [{name: web}, {name: admin}]"),
        rule("no-web", 10, "Reject", &only(0), "cidrs: [203.0.113.11/32]", &["web"]),
        rule("most", 20, "NAT", &only(0), "cidrs: [203.0.113.0/24], except: [203.0.113.12/32]", &["office"]),
        rule("names", 30, "Allow", "10.10.0.0/16", "cidrs: [203.0.113.12/31]", &["dns-udp"]),
        rule("rest", 40, "Drop", &only(0), "cidrs: [203.0.113.12/32]", &["all"]),
    ];
    let mut callgate = Callgate::start(&lab.gw, &text.concat()).unwrap();
    let (own, node) = (Seen::From(client_address(0)), Seen::From(EXTERNAL));
    let other = Seen::From(client_address(1));
    // Client, server, port, protocol: what is seen, which rule says so.
    let table = [
        (0, 0, 80, "tcp", Seen::Refused, "no-web"),
        (0, 0, 443, "tcp", Seen::Refused, "no-web"),
        (0, 0, 8080, "tcp", node, "most"),
        (0, 0, 8081, "tcp", node, "most"),
        (0, 2, 80, "tcp", node, "most"),
        (0, 0, 53, "udp", own, ""),
        (0, 1, 53, "udp", own, "names"),
        (0, 2, 53, "udp", own, "names"),
        (0, 1, 54, "udp", Seen::Nothing, "rest"),
        (0, 1, 80, "tcp", Seen::Nothing, "rest"),
        (0, 2, 54, "udp", own, ""),
        (1, 0, 80, "tcp", other, ""),
        (1, 1, 53, "udp", other, "names"),
        (1, 1, 80, "tcp", other, ""),
    ];
    let mut verdicts = BTreeMap::new();
    for (client, server, port, protocol, seen, name) in table {
        let (node, to) = (&lab.clients[client], at(server, port));
        let got = if protocol == "tcp" { probe::tcp(node, to) } else { probe::udp(node, to) }.unwrap();
        let (verdict, told) = explained(&callgate, &lab.gw, client, &format!("{to}/{protocol}"));
        let rule = told.strip_prefix("pos/").unwrap_or(&told);
        assert_eq!((got, rule), (seen, name), "client {client} to {to}/{protocol}: {verdict}");
        verdicts.insert(name, verdict);
    }
    let told: Vec<_> = verdicts.iter().filter(|(rule, _)| !rule.is_empty()).map(|(r, v)| (*r, v.as_str())).collect();
    assert_eq!(told, [("most", "NAT"), ("names", "Allow"), ("no-web", "Reject"), ("rest", "Drop")]);
    callgate.stop().unwrap();
}

#[test]
fn a_flow_keeps_its_verdict_until_its_rule_is_removed() {
    if !can_run("a_flow_keeps_its_verdict_until_its_rule_is_removed") {
        return;
    }
    let lab = lab(1, 1);
    let _servers = Servers::start(&lab.servers[0], &[80], &[]).unwrap();
    let anywhere = "cidrs: [0.0.0.0/0]";
    let web = |action: &str| rule("web", 100, action, &only(0), anywhere, &["http"]);
    let rest = rule("rest", 900, "Drop", &only(0), anywhere, &["all"]);
    let mut callgate = Callgate::start(&lab.gw, &rest).unwrap();
    let (client, gw) = (&lab.clients[0], &lab.gw);
    put(&callgate, gw, "web.yaml", &web("NAT")).unwrap();
    let mut flow = Flow::open(client, at(0, 80)).unwrap().unwrap();
    let nat = Seen::From(EXTERNAL);
    assert_eq!(flow.still(), nat);
    for (action, new) in [("Allow", Seen::From(client_address(0))), ("Reject", Seen::Refused), ("Drop", Seen::Nothing)]
    {
        put(&callgate, gw, "web.yaml", &web(action)).unwrap();
        assert_eq!((flow.still(), probe::tcp(client, at(0, 80)).unwrap()), (nat, new), "the rule says {action} now");
    }
    put(&callgate, gw, "first.yaml", &rule("first", 1, "Reject", &only(0), anywhere, &["all"])).unwrap();
    assert_eq!((flow.still(), probe::tcp(client, at(0, 80)).unwrap()), (nat, Seen::Refused), "a rule before it");
    remove(&callgate, gw, "first.yaml").unwrap();
    assert_eq!(flow.still(), nat, "the rule before it is gone again");
    remove(&callgate, gw, "web.yaml").unwrap();
    assert_eq!(flow.briefly(), Seen::Nothing, "its own rule is gone, the last one drops");
    callgate.stop().unwrap();
}

#[test]
fn a_service_that_is_deleted_under_live_traffic_goes_on_as_it_was_and_says_so() {
    if !can_run("a_service_that_is_deleted_under_live_traffic_goes_on_as_it_was_and_says_so") {
        return;
    }
    let lab = lab(1, 1);
    let _servers = Servers::start(&lab.servers[0], &[8080, 8081], &[]).unwrap();
    let service = document("Service", "till", "protocol: TCP, destinationPorts: \"8080\"");
    let tills = rule("tills", 100, "NAT", &only(0), "cidrs: [0.0.0.0/0]", &["till"]);
    let mut callgate = Callgate::start(&lab.gw, &tills).unwrap();
    let (client, gw) = (&lab.clients[0], &lab.gw);
    let object = ("IpRule", "pos", "tills");
    let refs = |status: &manifests::Status| status.reason(object, "ResolvedRefs").unwrap();
    let status = manifests::Status::of(&callgate, gw).unwrap();
    assert_eq!(refs(&status), "ServiceNotFound");
    assert_eq!(probe::tcp(client, at(0, 8080)).unwrap(), Seen::From(client_address(0)), "no rule yet");

    let status = put(&callgate, gw, "service.yaml", &service).unwrap();
    assert_eq!(
        (refs(&status), status.reason(object, "Programmed").unwrap()),
        ("ResolvedRefs".into(), "Programmed".into())
    );
    let mut flow = Flow::open(client, at(0, 8080)).unwrap().unwrap();
    let nat = Seen::From(EXTERNAL);
    assert_eq!(flow.still(), nat);

    let status = remove(&callgate, gw, "service.yaml").unwrap();
    assert_eq!(refs(&status), "LastGoodKept");
    assert_eq!((flow.still(), probe::tcp(client, at(0, 8080)).unwrap()), (nat, nat));

    let status = put(&callgate, gw, "service.yaml", &service.replace("8080", "8080-8081")).unwrap();
    assert_eq!(refs(&status), "ResolvedRefs");
    assert_eq!((flow.still(), probe::tcp(client, at(0, 8081)).unwrap()), (nat, nat));
    callgate.stop().unwrap();
}

#[test]
fn sessions_are_limited_and_time_outs_set_as_the_service_says() {
    if !can_run("sessions_are_limited_and_time_outs_set_as_the_service_says") {
        return;
    }
    let lab = lab(1, 1);
    let _servers = Servers::start(&lab.servers[0], &[80], &[53]).unwrap();
    let text = [
        document(
            "Service",
            "few",
            "protocol: TCP, destinationPorts: \"80\", maxSessions: 3, timeouts: {established: 77s}",
        ),
        document(
            "Service",
            "names",
            "protocol: UDP, destinationPorts: \"53\", timeouts: {initial: 5s, established: 66s}",
        ),
        rule("limited", 100, "NAT", &only(0), "cidrs: [0.0.0.0/0]", &["few", "names"]),
    ];
    let mut callgate = Callgate::start(&lab.gw, &text.concat()).unwrap();
    let client = &lab.clients[0];
    let mut flows: Vec<Flow> = (0..3).map(|_| Flow::open(client, at(0, 80)).unwrap().unwrap()).collect();
    let seen: Vec<Seen> = flows.iter_mut().map(Flow::still).collect();
    assert_eq!(seen, [Seen::From(EXTERNAL); 3]);
    assert_eq!(Flow::open(client, at(0, 80)).unwrap().map(|_| ()), Err(Seen::Nothing), "a fourth session");
    flows.pop();
    // The kernel counts a connection until both ends have closed it.
    wait::until_true("a session is free again", Duration::from_secs(10), || Ok(Flow::open(client, at(0, 80))?.is_ok()))
        .unwrap();
    assert_eq!(probe::udp(client, at(0, 53)).unwrap(), Seen::From(EXTERNAL));

    // `tcp 6 77 ESTABLISHED ...`, `udp 17 66 ...`.
    let entries = lab.gw.run("conntrack", &["-L"]).unwrap();
    let left = |protocol: &str, state: &str| -> Vec<u32> {
        let lines = entries.lines().filter(|line| line.starts_with(protocol) && line.contains(state));
        lines.map(|line| line.split_whitespace().nth(2).unwrap().parse().unwrap()).collect()
    };
    let (tcp, udp) = (left("tcp", "ESTABLISHED"), left("udp", "dport=53"));
    assert!(tcp.len() >= 2 && tcp.iter().all(|seconds| (60..=77).contains(seconds)), "{entries}");
    assert!(udp.len() == 1 && udp.iter().all(|seconds| (1..=66).contains(seconds)), "{entries}");
    callgate.stop().unwrap();
}

#[test]
fn a_table_that_somebody_removes_is_put_back() {
    if !can_run("a_table_that_somebody_removes_is_put_back") {
        return;
    }
    let lab = lab(1, 1);
    let _servers = Servers::start(&lab.servers[0], &[80], &[]).unwrap();
    let mut callgate =
        Callgate::start(&lab.gw, &rule("web", 100, "NAT", &only(0), "cidrs: [0.0.0.0/0]", &["http"])).unwrap();
    let (client, gw) = (&lab.clients[0], &lab.gw);
    let before = gw.run("nft", &["-s", "list", "ruleset"]).unwrap();
    for damage in ["flush ruleset", "flush chain ip callgate prerouting", "flush map ip callgate src_hosts"] {
        gw.nft(damage).unwrap();
        wait::until_true(damage, Duration::from_secs(10), || Ok(gw.run("nft", &["-s", "list", "ruleset"])? == before))
            .unwrap();
        assert_eq!(probe::tcp(client, at(0, 80)).unwrap(), Seen::From(EXTERNAL), "{damage}");
    }
    // Others' tables are no business of ours.
    let applies = manifests::Status::of(&callgate, gw).unwrap().counter("applies").unwrap();
    gw.nft("table ip foreign { chain c { type filter hook forward priority 0; }; }").unwrap();
    put(&callgate, gw, "beside.yaml", "").unwrap();
    assert_eq!(
        manifests::Status::of(&callgate, gw).unwrap().counter("applies").unwrap(),
        applies + 1,
        "{}",
        callgate.log()
    );
    callgate.stop().unwrap();
}
