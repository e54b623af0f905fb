//! Thousands of rules and sources: one transaction, and one element for one source.

use callgate_agent::kernel::Applied;
use callgate_proto::model::{Action, NodeConfig};

use super::configs::{Config, POD_A, pptp, tcp, udp};
use super::lab::{Lab, root, sh};
use super::probes::{NODE, POD, Servers, tcp as ask};

/// `rules` rules of two services with their own destinations, all for each of `sources` sources, the last of them pod A.
fn big(rules: usize, sources: usize) -> NodeConfig {
    let others: Vec<String> =
        (1..sources).map(|n| format!("100.{}.{}.{}/32", 64 + (n >> 16), (n >> 8) & 255, n & 255)).collect();
    let mut from: Vec<&str> = others.iter().map(String::as_str).collect();
    from.push(POD_A);
    let mut config = Config::new();
    for n in 0..rules - 1 {
        let to = format!("203.{}.{}.0/24", n >> 8, n & 255);
        let services = [pptp(), tcp("http", "80"), udp("dns", "53")];
        config = config.rule(&format!("rule-{n}"), Action::Nat, &from, &[&to], &services);
    }
    config.rule("last", Action::Nat, &from, &["198.51.100.0/24"], &[tcp("http", "80")]).build()
}

#[test]
fn a_thousand_rules_for_a_thousand_sources_are_one_transaction_and_one_source_is_one_element() {
    if !root() {
        return;
    }
    let lab = Lab::new();
    let _servers = Servers::start(lab.server.clone(), &[80], &[]);
    let mut kernel = lab.start();
    let mut config = big(1000, 1000);
    let begun = std::time::Instant::now();
    let applied = kernel.apply(&config, &[]).unwrap();
    println!("1,000 x 1,000: {applied:?} in {:?}", begun.elapsed());
    let listed = sh("nft list map ip callgate src_hosts");
    assert_eq!((applied.structure_replaced, listed.matches("goto s_").count()), (true, 1000));
    // The last of a thousand rules decides.
    assert_eq!((ask(&lab.a, "198.51.100.10:80"), ask(&lab.a, "192.0.2.10:80")), (NODE, POD));

    assert_eq!(kernel.apply(&config, &[]).unwrap(), Applied::default());
    let gone = config.sources.pop().unwrap();
    let begun = std::time::Instant::now();
    let one = kernel.apply(&config, &[]).unwrap();
    println!("one source: {one:?} in {:?}", begun.elapsed());
    let expected = Applied { elements_removed: 1, messages_sent: 3, bytes: one.bytes, ..Applied::default() };
    assert_eq!(one, expected);
    config.sources.push(gone);
    let back = kernel.apply(&config, &[]).unwrap();
    assert_eq!(back, Applied { elements_added: 1, messages_sent: 3, bytes: back.bytes, ..Applied::default() });
    assert!(one.bytes < 300 && back.bytes < 300, "{} and {} bytes", one.bytes, back.bytes);

    // One rule more at the front: its own chains, and the list of rules every source obeys.
    let mut more = config.clone();
    let mut first = more.rules[0].clone();
    first.key.name = "first".into();
    first.destinations = vec!["203.255.0.0/16".parse().unwrap()];
    more.rules.insert(0, first);
    more.chains[0].push(1000);
    let begun = std::time::Instant::now();
    let applied = kernel.apply(&more, &[]).unwrap();
    println!("one rule: {applied:?} in {:?}", begun.elapsed());
    let begun = std::time::Instant::now();
    kernel.stop().unwrap();
    println!("stop: {:?}", begun.elapsed());
}
