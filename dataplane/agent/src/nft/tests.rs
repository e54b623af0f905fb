//! Rulesets as values: deterministic, named after objects, and different only where configurations differ.

use callgate_proto::model::{
    Action, ControlConnection, External, Match, NodeConfig, ObjectKey, PortRange, PptpAlg, Rule, Service, Source,
    Validation,
};

use super::diff::Difference;
use super::expr::{Expr, Verdict};
use super::layout::ruleset;
use super::live::Live;
use super::ruleset::{Key, Ruleset, Set};
use super::uses::Uses;
use crate::kernel::{Options, Tags, Via};

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("pos", name)
}

fn service(name: &str, port: u16, alg: bool) -> Service {
    let destination_ports = vec![PortRange { first: port, last: port }];
    Service {
        key: key(name),
        matches: vec![Match { protocol: Some(6), source_ports: vec![], destination_ports }],
        alg: alg.then_some(0),
        max_sessions: 200,
        forward_icmp_errors: true,
        timeouts: None,
    }
}

fn rule(name: &str, service: u32) -> Rule {
    Rule {
        key: key(name),
        action: Action::Nat,
        destinations: vec!["198.51.100.0/24".parse().unwrap()],
        services: vec![service],
        external: External::NodeAddress,
        log: false,
    }
}

fn config() -> NodeConfig {
    NodeConfig {
        node: "standalone".into(),
        cluster_nets: vec!["10.0.0.0/8".parse().unwrap()],
        rules: vec![rule("tills", 0), rule("web", 1)],
        services: vec![service("pptp", 1723, true), service("http", 80, false)],
        algs: vec![PptpAlg {
            key: key("alg"),
            echo_timeout_ms: 0,
            idle_timeout_ms: 0,
            max_calls: 0,
            control_connection: ControlConnection::PerClient,
            validation: Validation::Strict,
        }],
        chains: vec![vec![0], vec![0, 1]],
        sources: vec![
            Source { net: "10.1.0.1/32".parse().unwrap(), chain: 0 },
            Source { net: "10.2.0.0/16".parse().unwrap(), chain: 1 },
        ],
    }
}

/// The ALG has connections under one address.
fn live() -> Live {
    Live { own: [[192, 0, 2, 1].into()].into(), ..Live::default() }
}

fn none() -> Live {
    Live::default()
}

fn of(config: &NodeConfig) -> Ruleset {
    after(config, &Tags::default())
}

/// With the tags an earlier configuration has.
fn after(config: &NodeConfig, tags: &Tags) -> Ruleset {
    let tags = tags.assign(config).unwrap();
    ruleset(config, &live(), &tags, &Options::default(), Uses::Alg)
}

/// Names of chains that come, go and change, and the sets whose elements do.
fn summary(old: &NodeConfig, new: &NodeConfig) -> [Vec<String>; 4] {
    let (old, new) = (of(old), after(new, &Tags::default().assign(old).unwrap()));
    let difference = Difference::between(&old, &new).unwrap();
    let owned = |names: &[&str]| -> Vec<String> {
        // The digest of the structure always goes with it.
        names.iter().filter(|name| !name.starts_with("structure_")).map(|name| (*name).to_owned()).collect()
    };
    let mut sets: Vec<&str> =
        difference.elements_gone.iter().chain(&difference.elements_new).map(|(name, _, _)| *name).collect();
    sets.dedup();
    [
        owned(&difference.chains_new.iter().map(|(name, _)| *name).collect::<Vec<_>>()),
        owned(&difference.chains_gone),
        owned(&difference.chains_emptied),
        owned(&sets),
    ]
}

#[test]
fn equal_configurations_give_equal_rulesets() {
    assert_eq!(of(&config()), of(&config()));
    assert_eq!(summary(&config(), &config()), [const { Vec::<String>::new() }; 4]);
}

#[test]
fn a_changed_source_changes_one_element_and_no_chain() {
    let mut more = config();
    more.sources.insert(1, Source { net: "10.1.0.2/32".parse().unwrap(), chain: 1 });
    let (old, new) = (of(&config()), of(&more));
    let difference = Difference::between(&old, &new).unwrap();
    assert_eq!((difference.structural(), difference.elements()), (false, (0, 1)));
    assert_eq!(summary(&config(), &more), [vec![], vec![], vec![], vec!["src_hosts".to_owned()]]);
}

#[test]
fn a_changed_destination_changes_elements_and_no_chain() {
    let mut other = config();
    other.rules[1].destinations = vec!["203.0.113.0/24".parse().unwrap()];
    assert_eq!(summary(&config(), &other), [vec![], vec![], vec![], vec!["d/pos/web".to_owned()]]);
}

#[test]
fn a_rule_put_first_leaves_the_chains_of_the_others_alone() {
    let mut other = config();
    other.rules.insert(0, rule("first", 1));
    other.chains = vec![vec![0, 1, 2], vec![1]];
    other.sources[0].chain = 1;
    other.sources[1].chain = 0;
    let [new, gone, emptied, sets] = summary(&config(), &other);
    let both = super::names::source([&key("first"), &key("tills"), &key("web")].into_iter());
    assert_eq!(new, ["r/pos/first".to_owned(), both, "v/pos/first/pos/http".to_owned()]);
    assert_eq!(gone, [super::names::source([&key("tills"), &key("web")].into_iter())]);
    assert_eq!(emptied, Vec::<String>::new());
    // Its tag, its destinations, and the source that obeys it; gone and new are told apart only by set.
    assert_eq!(sets, ["src_nets", "by_tag", "d/pos/first", "nat_by_tag", "src_nets"]);
}

#[test]
fn the_digest_follows_the_structure_and_not_the_elements() {
    let digest =
        |config: &NodeConfig| of(config).chains.into_keys().find(|name| name.starts_with("structure_")).unwrap();
    let mut source = config();
    source.sources.pop();
    let mut port = config();
    port.services[1].matches[0].destination_ports[0].last = 81;
    assert_eq!(digest(&config()), digest(&source));
    assert_ne!(digest(&config()), digest(&port));
}

#[test]
fn rulesets_with_other_base_chains_are_replaced_whole() {
    let mut other = of(&config());
    other.chains.get_mut("prerouting").unwrap().base.as_mut().unwrap().priority = -140;
    assert!(Difference::between(&of(&config()), &other).is_none());
}

/// Base chains, which every packet of the host passes.
fn hooks(config: &NodeConfig) -> Vec<String> {
    let tags = Tags::default().assign(config).unwrap();
    let found = ruleset(config, &none(), &tags, &Options::default(), Uses::of(config, &tags, &none()));
    found.chains.into_iter().filter(|(_, chain)| chain.base.is_some()).map(|(name, _)| name).collect()
}

#[test]
fn a_packet_passes_no_hook_that_no_rule_of_the_node_needs() {
    let mut ordinary = config();
    ordinary.rules.remove(0);
    ordinary.services.remove(0);
    ordinary.rules[0].services = vec![0];
    (ordinary.chains, ordinary.algs) = (vec![vec![0]], vec![]);
    ordinary.sources.iter_mut().for_each(|source| source.chain = 0);
    assert_eq!(hooks(&ordinary), ["postrouting", "prerouting"]);
    let mut quiet = ordinary.clone();
    quiet.services[0].forward_icmp_errors = false;
    assert_eq!(hooks(&quiet), ["forward", "postrouting", "prerouting"]);
    let mut rejecting = ordinary;
    rejecting.rules[0].action = Action::Reject;
    assert_eq!(hooks(&rejecting), ["forward", "postrouting", "prerouting"]);
    let all = ["forward", "guard", "input", "output", "output_raw", "postrouting", "prerouting", "prerouting_raw"];
    assert_eq!(hooks(&config()), all);
}

#[test]
fn what_has_begun_passes_at_once_unless_it_may_have_to_be_steered_or_its_rule_has_gone() {
    let ordinary = NodeConfig { rules: vec![rule("web", 1)], algs: vec![], ..config() };
    let tags = Tags::default().assign(&ordinary).unwrap();
    let rules = |tags: &Tags, uses| {
        let found = ruleset(&ordinary, &none(), tags, &Options::default(), uses);
        found.chains["prerouting"].rules.clone()
    };
    let steering = rules(&tags, Uses::Alg);
    // The first two are for clients of the ALG.
    assert_eq!(rules(&tags, Uses::Ordinary)[1..], steering[2..]);
    let gone = tags.assign(&NodeConfig { rules: vec![], ..ordinary.clone() }).unwrap();
    assert_eq!(rules(&gone, Uses::Ordinary), steering[2..]);
    assert_eq!(rules(&gone.flushed(), Uses::Ordinary)[1..], steering[2..]);
}

#[test]
fn the_way_to_the_alg_is_needed_by_rules_flows_and_connections_of_it() {
    let with = config();
    let tags = Tags::default().assign(&with).unwrap();
    let without = NodeConfig { rules: vec![rule("web", 1)], algs: vec![], ..config() };
    let kept = NodeConfig { rules: vec![Rule { services: vec![1], ..rule("tills", 1) }], algs: vec![], ..config() };
    let nothing = Tags::default();
    assert_eq!(Uses::of(&without, &nothing, &none()), Uses::Ordinary);
    assert_eq!(Uses::of(&with, &nothing, &none()), Uses::Alg);
    assert_eq!(Uses::of(&kept, &tags.assign(&kept).unwrap(), &none()), Uses::Alg, "flows that are steered live on");
    assert_eq!(Uses::of(&without, &nothing, &live()), Uses::Alg, "connections of the run before");
    let mut shared = with;
    shared.algs[0].control_connection = ControlConnection::Auto;
    assert_eq!(Uses::of(&shared, &nothing, &none()), Uses::Sockets);
}

#[test]
fn what_brings_segments_to_sockets_is_there_only_where_a_pptp_alg_wants_it_and_then_before_all_else() {
    let (options, tags) = (Options::default(), Tags::default().assign(&config()).unwrap());
    let of = |uses| ruleset(&config(), &none(), &tags, &options, uses);
    let (without, with) = (of(Uses::Alg), of(Uses::Sockets));
    for (chain, more) in [("prerouting_raw", 1), ("output_raw", 1), ("prerouting", 3), ("input", 1), ("forward", 0)] {
        let (without, with) = (&without.chains[chain].rules, &with.chains[chain].rules);
        assert_eq!(with[more..], without[..], "{chain}");
    }
}

#[test]
fn where_servers_of_live_connections_are_is_known_beside_what_the_rules_say() {
    let live = Live {
        servers: vec!["203.0.113.7/32".parse().unwrap(), "198.51.100.7/32".parse().unwrap()],
        ports: [1723, 1724, 2000].map(|port| PortRange { first: port, last: port }).into(),
        ..live()
    };
    let tags = Tags::default().assign(&config()).unwrap();
    let sets = ruleset(&config(), &live, &tags, &Options::default(), Uses::Alg).sets;
    let (mut servers, mut ports) = (Set::ranges(Key::Address), Set::ranges(Key::Port));
    servers.block("198.51.100.0/24".parse().unwrap(), None);
    servers.block("203.0.113.7/32".parse().unwrap(), None);
    ports.ports(1723, 1724);
    ports.ports(2000, 2000);
    assert_eq!((&sets["alg_servers"], &sets["alg_server_ports"]), (&servers, &ports));
}

#[test]
fn an_opening_packet_that_is_under_way_while_its_rule_goes_or_is_closed_does_not_leave_as_it_is() {
    let tags = Tags::default().assign(&config()).unwrap();
    let web = tags.get(&key("web"), Via::Kernel).unwrap();
    let options = Options::default();
    let verdict = |config: &NodeConfig, tags: &Tags| {
        let sets = ruleset(config, &none(), tags, &options, Uses::Alg).sets;
        let mark = options.tag_mark(web).to_ne_bytes();
        sets["nat_by_tag"].elements.get(&mark[..]).and_then(|element| element.verdict.clone())
    };
    let with = |action| {
        let mut config = config();
        config.rules[1].action = action;
        let tags = tags.assign(&config).unwrap();
        verdict(&config, &tags)
    };
    assert_eq!(with(Action::Nat), Some(Verdict::Goto("masquerade_node".into())));
    assert_eq!(with(Action::Allow), Some(Verdict::Goto("keep_source".into())));
    assert_eq!([with(Action::Drop), with(Action::Reject)], [const { Some(Verdict::Drop) }; 2]);
    let mut gone = config();
    gone.rules.pop();
    gone.chains = vec![vec![0]; 2];
    assert_eq!(verdict(&gone, &tags.assign(&gone).unwrap()), Some(Verdict::Drop));
}

#[test]
fn a_rule_that_has_no_tag_yet_lets_nothing_pass() {
    let found = ruleset(&config(), &none(), &Tags::default(), &Options::default(), Uses::Alg);
    let dropped = vec![vec![Expr::Counter, Expr::Then(Verdict::Drop)]];
    assert_eq!([&found.chains["v/pos/tills/pos/pptp"].rules, &found.chains["v/pos/web/pos/http"].rules], [&dropped; 2]);
}
