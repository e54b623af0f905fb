//! Established flows: they keep their verdict while their rule lives, and lose it with their rule; sessions are counted.

use std::net::Ipv4Addr;

use callgate_proto::model::{Action, External, Timeouts};

use super::configs::{ANYWHERE, Config, POD_A, anything, tcp as tcp_to, udp as udp_to};
use super::lab::{Lab, root, sh};
use super::probes::{Connection, NODE, POD, Seen, Servers, error_reaches, tcp, udp};

fn lab() -> (Lab, Servers) {
    let lab = Lab::new();
    let servers = Servers::start(lab.server.clone(), &[80, 443], &[53]);
    (lab, servers)
}

fn open(lab: &Lab, to: &str) -> Connection {
    Connection::open(&lab.a, to, None).unwrap_or_else(|seen| panic!("{to}: {seen:?}"))
}

#[test]
fn an_established_flow_keeps_its_verdict_when_its_rule_is_edited() {
    if !root() {
        return;
    }
    let (lab, _servers) = lab();
    let mut kernel = lab.start();
    let with = |action, external| {
        Config::new().full("web", action, external, false, &[POD_A], ANYWHERE, &[tcp_to("http", "80")]).build()
    };
    let pool = External::Address(Ipv4Addr::new(192, 0, 2, 2));
    kernel.apply(&with(Action::Nat, External::NodeAddress), &[]).unwrap();
    let mut old = open(&lab, "192.0.2.10:80");
    assert_eq!(old.still(), NODE);
    let edits = [
        (with(Action::Nat, pool), Seen::From(Ipv4Addr::new(192, 0, 2, 2))),
        (with(Action::Allow, External::NodeAddress), POD),
        (with(Action::Reject, External::NodeAddress), Seen::Refused),
        (with(Action::Drop, External::NodeAddress), Seen::Nothing),
    ];
    for (config, new) in edits {
        kernel.apply(&config, &[]).unwrap();
        let action = config.rules[0].action;
        assert_eq!((old.still(), tcp(&lab.a, "192.0.2.10:80")), (NODE, new), "{action:?}");
    }
    kernel.stop().unwrap();
}

#[test]
fn an_established_flow_keeps_its_verdict_when_a_rule_comes_before_its_own() {
    if !root() {
        return;
    }
    let (lab, _servers) = lab();
    let mut kernel = lab.start();
    let web = || [tcp_to("http", "80")];
    let alone = Config::new().rule("web", Action::Nat, &[POD_A], ANYWHERE, &web()).build();
    let behind = Config::new()
        .rule("first", Action::Reject, &[POD_A], ANYWHERE, &web())
        .rule("web", Action::Nat, &[POD_A], ANYWHERE, &web())
        .build();
    kernel.apply(&alone, &[]).unwrap();
    let mut old = open(&lab, "192.0.2.10:80");
    kernel.apply(&behind, &[]).unwrap();
    assert_eq!((old.still(), tcp(&lab.a, "192.0.2.10:80")), (NODE, Seen::Refused));
    kernel.stop().unwrap();
}

#[test]
fn a_flow_that_no_rule_matched_is_left_alone_to_its_end() {
    if !root() {
        return;
    }
    let (lab, _servers) = lab();
    let mut kernel = lab.start();
    kernel
        .apply(&Config::new().rule("web", Action::Nat, &[POD_A], ANYWHERE, &[tcp_to("https", "443")]).build(), &[])
        .unwrap();
    let mut old = open(&lab, "192.0.2.10:80");
    assert_eq!(old.still(), POD);
    kernel.apply(&Config::new().rule("all", Action::Nat, &[POD_A], ANYWHERE, &[anything("any")]).build(), &[]).unwrap();
    assert_eq!((old.still(), tcp(&lab.a, "192.0.2.10:80")), (POD, NODE));
    kernel.stop().unwrap();
}

#[test]
fn a_removed_rule_takes_its_flows_along_and_nobody_elses() {
    if !root() {
        return;
    }
    let (lab, _servers) = lab();
    let mut kernel = lab.start();
    let drop_all = |config: Config| config.rule("rest", Action::Drop, &[POD_A], ANYWHERE, &[anything("any")]).build();
    let both = Config::new().rule("http", Action::Nat, &[POD_A], ANYWHERE, &[tcp_to("http", "80")]).rule(
        "https",
        Action::Nat,
        &[POD_A],
        ANYWHERE,
        &[tcp_to("https", "443")],
    );
    kernel.apply(&drop_all(both), &[]).unwrap();
    let (mut http, mut https) = (open(&lab, "192.0.2.10:80"), open(&lab, "192.0.2.10:443"));
    assert_eq!((http.still(), https.still()), (NODE, NODE));
    let one = Config::new().rule("https", Action::Nat, &[POD_A], ANYWHERE, &[tcp_to("https", "443")]);
    kernel.apply(&drop_all(one), &[]).unwrap();
    let flows = sh("conntrack -L -p tcp --orig-src 10.244.1.2 2>/dev/null | grep -c . || true");
    assert_eq!((flows.trim(), https.still(), http.ask_briefly()), ("1", NODE, Seen::Nothing));
    assert_eq!(kernel.record().tags.retired().count(), 0);
    kernel.stop().unwrap();
}

#[test]
fn a_freed_tag_is_given_again_and_obeys_its_new_rule() {
    if !root() {
        return;
    }
    let (lab, _servers) = lab();
    let mut kernel = lab.start();
    let web =
        |name: &str, action| Config::new().rule(name, action, &[POD_A], ANYWHERE, &[tcp_to("http", "80")]).build();
    let tags =
        |kernel: &callgate_agent::kernel::Kernel| -> Vec<u16> { kernel.record().tags.live().map(|(_, t)| t).collect() };
    kernel.apply(&web("old", Action::Nat), &[]).unwrap();
    let mut old = open(&lab, "192.0.2.10:80");
    assert_eq!((old.still(), tags(&kernel)), (NODE, vec![1]));
    // In one step the number is still taken; in the next it is free.
    kernel.apply(&web("new", Action::Reject), &[]).unwrap();
    assert_eq!((old.ask_briefly(), tags(&kernel)), (Seen::Refused, vec![2]));
    kernel.apply(&web("newer", Action::Allow), &[]).unwrap();
    assert_eq!((tcp(&lab.a, "192.0.2.10:80"), tags(&kernel)), (POD, vec![1]));
    kernel.stop().unwrap();
}

#[test]
fn sessions_are_limited_over_all_rules_of_a_service_and_remembered_when_other_rules_change() {
    if !root() {
        return;
    }
    let (lab, _servers) = lab();
    let mut kernel = lab.start();
    let mut web = tcp_to("web", "80,443");
    web.max_sessions = 2;
    let config = |extra: bool| {
        let config = Config::new().rule("one", Action::Nat, &[POD_A], &["192.0.2.0/24"], &[web.clone()]).rule(
            "two",
            Action::Nat,
            &[POD_A],
            &["198.51.100.0/24"],
            &[web.clone()],
        );
        if extra { config.rule("three", Action::Drop, &[POD_A], ANYWHERE, &[udp_to("dns", "53")]) } else { config }
            .build()
    };
    kernel.apply(&config(false), &[]).unwrap();
    let (mut first, second) = (open(&lab, "192.0.2.10:80"), open(&lab, "198.51.100.10:443"));
    assert_eq!(tcp(&lab.a, "198.51.100.10:80"), Seen::Nothing);
    kernel.apply(&config(true), &[]).unwrap();
    assert_eq!(
        (tcp(&lab.a, "192.0.2.10:443"), first.still(), udp(&lab.a, "192.0.2.10:53")),
        (Seen::Nothing, NODE, Seen::Nothing)
    );
    let counters = kernel.counters().unwrap();
    assert!(counters.refused.iter().any(|(service, packets)| service.name == "web" && *packets >= 2), "{counters:?}");
    drop(second);
    // The kernel forgets a closed session when its entry in conntrack goes.
    sh("conntrack -D -p tcp --orig-dst 198.51.100.10 >/dev/null 2>&1");
    assert_eq!(tcp(&lab.a, "198.51.100.10:80"), NODE);
    kernel.stop().unwrap();
}

#[test]
fn a_service_sets_the_time_outs_of_its_flows() {
    if !root() {
        return;
    }
    let (lab, _servers) = lab();
    let mut kernel = lab.start();
    let mut web = tcp_to("web", "80");
    web.timeouts = Some(Timeouts { initial: 0, established: 77, closing: 0 });
    let mut dns = udp_to("dns", "53");
    dns.timeouts = Some(Timeouts { initial: 33, established: 44, closing: 0 });
    kernel.apply(&Config::new().rule("all", Action::Nat, &[POD_A], ANYWHERE, &[web, dns]).build(), &[]).unwrap();
    let mut held = open(&lab, "192.0.2.10:80");
    assert_eq!((held.still(), udp(&lab.a, "192.0.2.10:53")), (NODE, NODE));
    let left = |protocol: &str| -> u32 {
        let line = sh(&format!("conntrack -L -p {protocol} --orig-src 10.244.1.2 2>/dev/null"));
        line.split_whitespace().nth(2).unwrap().parse().unwrap()
    };
    let (tcp_left, udp_left) = (left("tcp"), left("udp"));
    // Never above what was set; the kernel's own would be 432000 and 120 or 30.
    assert!((34..=77).contains(&tcp_left) && (1..=44).contains(&udp_left), "{tcp_left} {udp_left}");
    kernel.stop().unwrap();
}

#[test]
fn a_quiet_service_keeps_icmp_errors_from_the_client_but_not_fragmentation_needed() {
    if !root() {
        return;
    }
    let (lab, _servers) = lab();
    let mut kernel = lab.start();
    let mut quiet = udp_to("quiet", "6000-6999");
    quiet.forward_icmp_errors = false;
    let rules =
        Config::new().rule("all", Action::Nat, &[POD_A], ANYWHERE, &[quiet, udp_to("loud", "7000-7999")]).build();
    kernel.apply(&rules, &[]).unwrap();
    // Nobody listens there: the server says port-unreachable.
    assert_eq!((udp(&lab.a, "192.0.2.10:7000"), udp(&lab.a, "192.0.2.10:6000")), (Seen::Refused, Seen::Nothing));
    assert!(error_reaches(&lab.a, &lab.server, "192.0.2.10:6001", 3, 4));
    assert!(!error_reaches(&lab.a, &lab.server, "192.0.2.10:6002", 3, 1));
    kernel.stop().unwrap();
}

#[test]
fn a_nat_flow_that_conntrack_cannot_follow_does_not_leave_untranslated() {
    if !root() {
        return;
    }
    let (lab, _servers) = lab();
    let mut kernel = lab.start();
    sh("sysctl -qw net.netfilter.nf_conntrack_tcp_loose=0");
    kernel
        .apply(&Config::new().rule("web", Action::Nat, &[POD_A], ANYWHERE, &[tcp_to("http", "80")]).build(), &[])
        .unwrap();
    let mut held = open(&lab, "192.0.2.10:80");
    assert_eq!(held.still(), NODE);
    let capture = super::probes::Capture::start(&lab.server, "tcp and src host 10.244.1.2");
    sh("conntrack -F 2>/dev/null");
    assert_eq!(held.ask_briefly(), Seen::Nothing);
    assert_eq!(capture.stop(), "");
    kernel.stop().unwrap();
}

#[test]
fn more_rules_than_there_are_numbers_for_both_are_renamed_in_one_step_and_everything_is_in_force_then() {
    if !root() {
        return;
    }
    let (lab, _servers) = lab();
    let mut kernel = lab.start();
    let web = [tcp_to("http", "80")];
    let named = |prefix: &str| {
        let others = (0..1100).fold(Config::new(), |config, n| {
            config.rule(&format!("{prefix}-{n}"), Action::Nat, &["10.244.1.99/32"], ANYWHERE, &web)
        });
        others.rule(&format!("{prefix}-web"), Action::Nat, &[POD_A], ANYWHERE, &web).build()
    };
    kernel.apply(&named("old"), &[]).unwrap();
    let mut old = open(&lab, "192.0.2.10:80");
    assert_eq!(old.still(), NODE);
    kernel.apply(&named("new"), &[]).unwrap();
    assert_eq!((tcp(&lab.a, "192.0.2.10:80"), kernel.record().tags.retired().count()), (NODE, 0));
    assert_eq!(kernel.record().tags.live().count(), 1101);
    let flows = sh("conntrack -L -p tcp --orig-src 10.244.1.2 2>/dev/null | grep -c . || true");
    assert_eq!(flows.trim(), "1", "that of the old rule has ended");
    kernel.stop().unwrap();
}
