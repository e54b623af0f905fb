//! Whom a difference between two configurations concerns.

use callgate_proto::model::{Action, ControlConnection, External, Match, Source, Validation};

use super::*;

fn rule(name: &str, services: Vec<u32>) -> Rule {
    Rule {
        key: ObjectKey::new("pos", name),
        action: Action::Nat,
        destinations: vec!["0.0.0.0/0".parse().unwrap()],
        services,
        external: External::NodeAddress,
        log: false,
    }
}

fn service(name: &str, alg: Option<u32>) -> Service {
    Service {
        key: ObjectKey::new("pos", name),
        matches: vec![Match { protocol: Some(6), source_ports: vec![], destination_ports: vec![] }],
        alg,
        max_sessions: 0,
        forward_icmp_errors: false,
        timeouts: None,
    }
}

/// Rules a, b, c in this order: a and b are of one pod, c of another; b is of the service with the ALG, c of the one without.
fn config() -> NodeConfig {
    let alg = PptpAlg {
        key: ObjectKey::new("pos", "pptp"),
        echo_timeout_ms: 0,
        idle_timeout_ms: 0,
        max_calls: 0,
        control_connection: ControlConnection::PerClient,
        validation: Validation::Strict,
    };
    NodeConfig {
        rules: vec![rule("a", vec![]), rule("b", vec![0]), rule("c", vec![1])],
        services: vec![service("pptp", Some(0)), service("web", None)],
        algs: vec![alg],
        chains: vec![vec![0, 1], vec![2]],
        sources: sources(&[("10.0.0.1/32", 0), ("10.0.1.0/24", 1)]),
        ..NodeConfig::default()
    }
}

fn sources(sources: &[(&str, u32)]) -> Vec<Source> {
    sources.iter().map(|(net, chain)| Source { net: net.parse().unwrap(), chain: *chain }).collect()
}

/// Which objects wait for a node that runs `before` when it is to run `after`.
fn concerned(before: &NodeConfig, after: &NodeConfig) -> Vec<String> {
    let (before, after) = (Stamp::of(before), Stamp::of(after));
    let objects: std::collections::BTreeSet<&ObjectRef> = before.carried().chain(after.carried()).collect();
    let concerned = objects.into_iter().filter(|object| !before.fulfils(&after, object));
    concerned.map(ToString::to_string).collect()
}

/// The same after an edit.
fn edit(edit: impl FnOnce(&mut NodeConfig)) -> Vec<String> {
    let mut after = config();
    edit(&mut after);
    concerned(&config(), &after)
}

#[test]
fn networks_of_the_cluster_concern_no_object() {
    assert_eq!(edit(|config| config.cluster_nets = vec!["10.9.0.0/16".parse().unwrap()]), [""; 0]);
}

#[test]
fn what_a_rule_does_concerns_that_rule_only() {
    assert_eq!(edit(|config| config.rules[0].log = true), ["IpRule pos/a"]);
    assert_eq!(edit(|config| config.rules[0].action = Action::Drop), ["IpRule pos/a"]);
    assert_eq!(edit(|config| config.rules[2].external = External::Address([1, 2, 3, 4].into())), ["IpRule pos/c"]);
}

#[test]
fn which_packets_a_rule_takes_concerns_also_the_rules_that_get_the_rest() {
    let narrower = |config: &mut NodeConfig| config.rules[0].destinations = vec!["192.0.2.0/24".parse().unwrap()];
    assert_eq!(edit(narrower), ["IpRule pos/a", "IpRule pos/b"]);
    assert_eq!(edit(|config| config.rules[0].services = vec![1]), ["IpRule pos/a", "IpRule pos/b"]);
}

#[test]
fn a_service_concerns_the_rules_that_use_it_and_an_alg_its_services_and_their_rules() {
    assert_eq!(edit(|config| config.services[1].max_sessions = 1), ["Service pos/web", "IpRule pos/c"]);
    assert_eq!(edit(|config| config.algs[0].max_calls = 1), ["PptpAlg pos/pptp", "Service pos/pptp", "IpRule pos/b"]);
}

#[test]
fn an_order_concerns_the_rules_that_pass_each_other_and_come_to_the_same_sources() {
    let swapped = |first: usize, second: usize| move |config: &mut NodeConfig| config.rules.swap(first, second);
    // The chain has ascending indices: a and b change places by changing their names.
    assert_eq!(edit(swapped(0, 1)), ["IpRule pos/a", "IpRule pos/b"]);
    // Those two have no source in common.
    let moved = |config: &mut NodeConfig| {
        config.rules.swap(1, 2);
        config.chains = vec![vec![0, 2], vec![1]];
    };
    assert_eq!(edit(moved), [""; 0]);
}

#[test]
fn rules_that_change_places_before_another_do_not_concern_it() {
    let all = |order: [&str; 3]| NodeConfig {
        rules: order.map(|name| rule(name, vec![])).into(),
        chains: vec![vec![0, 1, 2]],
        sources: sources(&[("10.0.0.1/32", 0)]),
        ..NodeConfig::default()
    };
    assert_eq!(concerned(&all(["a", "b", "c"]), &all(["b", "a", "c"])), ["IpRule pos/a", "IpRule pos/b"]);
}

#[test]
fn a_rule_that_comes_or_goes_concerns_the_rules_behind_it() {
    let mut shorter = config();
    shorter.chains = vec![vec![1], vec![2]];
    assert_eq!(concerned(&config(), &shorter), ["IpRule pos/a", "IpRule pos/b"]);
    assert_eq!(concerned(&shorter, &config()), ["IpRule pos/a", "IpRule pos/b"]);
    shorter.chains = vec![vec![0], vec![2]];
    assert_eq!(concerned(&config(), &shorter), ["IpRule pos/b"]);
}

#[test]
fn a_pod_concerns_only_the_rules_that_select_it() {
    let two = sources(&[("10.0.0.1/32", 0), ("10.0.0.9/32", 0), ("10.0.1.0/24", 1)]);
    assert_eq!(edit(|config| config.sources = two), ["IpRule pos/a", "IpRule pos/b"]);
    let gone = sources(&[("10.0.0.1/32", 0)]);
    assert_eq!(edit(|config| config.sources = gone), ["IpRule pos/c"]);
}

#[test]
fn a_block_that_is_cut_for_another_rule_behind_it_concerns_only_that_one() {
    let cut = |config: &mut NodeConfig| {
        config.rules.push(rule("d", vec![]));
        config.chains = vec![vec![0, 1], vec![2], vec![2, 3]];
        config.sources = sources(&[("10.0.0.1/32", 0), ("10.0.1.0/25", 1), ("10.0.1.128/25", 2)]);
    };
    assert_eq!(edit(cut), ["IpRule pos/d"]);
    let mut after = config();
    cut(&mut after);
    let rule = object(Kind::IpRule, &ObjectKey::new("pos", "c"));
    assert_eq!([Stamp::of(&config()).clients(&rule), Stamp::of(&after).clients(&rule)], [(0, 1), (0, 2)]);
}

#[test]
fn places_in_lists_concern_nobody() {
    let moved = |config: &mut NodeConfig| {
        config.services.swap(0, 1);
        (config.rules[1].services, config.rules[2].services) = (vec![1], vec![0]);
        config.algs.insert(0, PptpAlg { key: ObjectKey::new("pos", "new"), ..config.algs[0].clone() });
        config.services[1].alg = Some(1);
    };
    assert_eq!(edit(moved), ["PptpAlg pos/new"]);
}

#[test]
fn what_no_configuration_has_by_its_name_is_concerned_by_whatever_rules_say_and_by_nothing_else() {
    let group = object(Kind::Service, &ObjectKey::new("pos", "group"));
    let waits = |edit: fn(&mut NodeConfig)| {
        let mut after = config();
        edit(&mut after);
        !Stamp::of(&config()).fulfils(&Stamp::of(&after), &group)
    };
    let edits: [fn(&mut NodeConfig); 6] = [
        |config| config.rules[2].services.push(0),
        |config| config.services[1].max_sessions = 1,
        |config| config.algs[0].max_calls = 1,
        |config| config.rules.swap(0, 1),
        |config| config.sources = sources(&[("10.0.0.1/32", 0)]),
        |config| config.cluster_nets = vec!["10.9.0.0/16".parse().unwrap()],
    ];
    assert_eq!(edits.map(waits), [true, true, true, false, false, false]);
}

#[test]
fn a_configuration_that_is_known_by_names_only_has_these_in_force_and_does_what_is_wanted_for_none() {
    let names = ["IpRule pos/a", "Service pos/web", "Router pos/b", "IpRule pos", ""].map(str::to_owned);
    let (named, wanted) = (Stamp::named(&names), Stamp::of(&config()));
    let carried: Vec<String> = named.carried().map(ToString::to_string).collect();
    assert_eq!(carried, ["Service pos/web", "IpRule pos/a"]);
    let group = object(Kind::Service, &ObjectKey::new("pos", "group"));
    let objects = wanted.carried().chain([&group]);
    assert_eq!(objects.filter(|object| named.fulfils(&wanted, object)).count(), 0);
}
