//! Start, apply, change, stop: what the kernel has in between and afterwards.

use callgate_agent::kernel::{Kernel, Options, Record};
use callgate_proto::model::{
    Action, ControlConnection, External, Match, NodeConfig, ObjectKey, PortRange, PptpAlg, Rule, Service, Source,
    Timeouts, Validation,
};

use super::space::{everything, in_namespace, run};

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("pos", name)
}

fn ports(first: u16, last: u16) -> Vec<PortRange> {
    vec![PortRange { first, last }]
}

fn service(name: &str, protocol: Option<u8>, destination: Vec<PortRange>) -> Service {
    Service {
        key: key(name),
        matches: vec![Match { protocol, source_ports: vec![], destination_ports: destination }],
        alg: None,
        max_sessions: 0,
        forward_icmp_errors: true,
        timeouts: None,
    }
}

fn rule(name: &str, action: Action, services: &[u32]) -> Rule {
    Rule {
        key: key(name),
        action,
        destinations: vec!["0.0.0.0/0".parse().unwrap()],
        services: services.to_vec(),
        external: External::NodeAddress,
        log: false,
    }
}

fn config() -> NodeConfig {
    let mut pptp = service("pptp", Some(6), ports(1723, 1723));
    pptp.alg = Some(0);
    let mut web =
        service("web", Some(6), vec![PortRange { first: 80, last: 80 }, PortRange { first: 8000, last: 8100 }]);
    web.max_sessions = 200;
    web.forward_icmp_errors = false;
    web.timeouts = Some(Timeouts { initial: 60, established: 3600, closing: 0 });
    let mut narrow = rule("narrow", Action::Reject, &[3]);
    narrow.destinations = vec!["203.0.113.0/24".parse().unwrap(), "198.51.100.7/32".parse().unwrap()];
    narrow.log = true;
    NodeConfig {
        node: "standalone".into(),
        cluster_nets: vec!["10.96.0.0/12".parse().unwrap()],
        rules: vec![
            rule("tills", Action::Nat, &[0]),
            narrow,
            rule("web", Action::Nat, &[1, 2]),
            rule("rest", Action::Drop, &[3]),
        ],
        services: vec![pptp, web, service("dns", Some(17), ports(53, 53)), service("all", None, vec![])],
        algs: vec![PptpAlg {
            key: key("alg"),
            echo_timeout_ms: 180_000,
            idle_timeout_ms: 0,
            max_calls: 0,
            control_connection: ControlConnection::PerClient,
            validation: Validation::Strict,
        }],
        chains: vec![vec![0, 1], vec![0, 1, 2, 3]],
        sources: vec![
            Source { net: "10.0.0.2/32".parse().unwrap(), chain: 0 },
            Source { net: "10.0.1.0/24".parse().unwrap(), chain: 1 },
            Source { net: "192.168.0.0/16".parse().unwrap(), chain: 0 },
        ],
    }
}

fn start() -> Kernel {
    Kernel::start(Options::default(), None, Box::new(|_: &Record| Ok(()))).unwrap()
}

#[test]
fn a_stop_leaves_everything_as_it_was() {
    in_namespace("a_stop_leaves_everything_as_it_was", || {
        let before = everything();
        let mut kernel = start();
        let applied = kernel.apply(&config(), &["192.0.2.1".parse().unwrap()]).unwrap();
        assert!(applied.structure_replaced);
        let listed = run("nft", &["list", "ruleset"]);
        assert!(listed.contains("10.0.0.2 : goto s_0"), "{listed}");
        assert!(run("ip", &["rule"]).contains("fwmark 0x200000/0x200000 lookup 7411"));
        assert_ne!(everything(), before);
        kernel.stop().unwrap();
        assert_eq!(everything(), before);
    });
}

#[test]
fn an_equal_configuration_sends_nothing_and_one_source_is_one_element() {
    in_namespace("one_source_is_one_element", || {
        let mut kernel = start();
        kernel.apply(&config(), &[]).unwrap();
        let again = kernel.apply(&config(), &[]).unwrap();
        assert_eq!((again.messages_sent, again.elements_added, again.structure_replaced), (0, 0, false));
        let mut more = config();
        more.sources.insert(1, Source { net: "10.0.0.3/32".parse().unwrap(), chain: 0 });
        let one = kernel.apply(&more, &[]).unwrap();
        // Begin, the element, end.
        assert_eq!((one.messages_sent, one.elements_added, one.elements_removed), (3, 1, 0));
        assert!(run("nft", &["list", "map", "ip", "callgate", "src_hosts"]).contains("10.0.0.3 : goto s_0"));
        let fewer = kernel.apply(&config(), &[]).unwrap();
        assert_eq!((fewer.messages_sent, fewer.elements_added, fewer.elements_removed), (3, 0, 1));
        kernel.stop().unwrap();
    });
}

#[test]
fn a_thousand_rules_for_a_thousand_sources_are_one_transaction() {
    in_namespace("a_thousand_rules", || {
        let mut big = config();
        big.rules = (0..1000)
            .map(|n| {
                let mut rule = rule(&format!("rule-{n}"), Action::Nat, &[1, 2]);
                rule.destinations = vec![format!("100.{}.{}.0/24", n / 256, n % 256).parse().unwrap()];
                rule
            })
            .collect();
        big.chains = vec![(0..1000).collect()];
        big.sources = (0u32..1000)
            .map(|n| Source { net: format!("10.1.{}.{}/32", n / 256, n % 256).parse().unwrap(), chain: 0 })
            .collect();
        let mut kernel = start();
        let applied = kernel.apply(&big, &[]).unwrap();
        assert!(applied.structure_replaced && applied.elements_added > 2000);
        let listed = run("nft", &["list", "map", "ip", "callgate", "src_hosts"]);
        assert_eq!(listed.matches("goto s_0").count(), 1000);
        big.sources.pop();
        let one = kernel.apply(&big, &[]).unwrap();
        assert_eq!((one.messages_sent, one.elements_removed), (3, 1));
        kernel.stop().unwrap();
    });
}

#[test]
fn a_second_start_adopts_what_the_first_left() {
    in_namespace("adopts", || {
        let before = everything();
        let mut first = start();
        first.apply(&config(), &[]).unwrap();
        let record = first.record().clone();
        let links = run("ip", &["-o", "link"]);
        drop(first);
        let mut second = Kernel::start(Options::default(), Some(record), Box::new(|_: &Record| Ok(()))).unwrap();
        assert_eq!(run("ip", &["-o", "link"]), links);
        second.apply(&config(), &[]).unwrap();
        second.stop().unwrap();
        assert_eq!(everything(), before);
    });
}
