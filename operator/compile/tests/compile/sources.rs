//! Who is selected: networks, pods, overlaps, conflicts.

use callgate_crds::Kind;
use callgate_proto::model::Source;

use super::support::{compiled, config, rule, status, told};

fn sources(text: &str) -> (Vec<Vec<u32>>, Vec<(String, u32)>) {
    let compiled = compiled(text);
    let config = config(&compiled);
    let sources = config.sources.iter().map(|Source { net, chain }| (net.to_string(), *chain)).collect();
    (config.chains.clone(), sources)
}

const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: till-1, namespace: pos, labels: {app: till}}
spec: {containers: []}
status: {podIP: 10.1.0.5}
---
apiVersion: v1
kind: Pod
metadata: {name: till-2, namespace: pos, labels: {app: till}}
spec: {hostNetwork: true, containers: []}
status: {podIP: 192.0.2.9}
---
apiVersion: v1
kind: Pod
metadata: {name: till-3, namespace: pos, labels: {app: till}}
spec: {containers: []}
status: {podIP: 10.1.0.6, phase: Succeeded}
---
apiVersion: v1
kind: Pod
metadata: {name: till-4, namespace: other, labels: {app: till}}
spec: {containers: []}
status: {podIP: 10.1.0.7}
";

#[test]
fn a_rule_selects_running_pods_of_its_own_namespace_with_an_address_of_their_own() {
    let spec = "{order: 1, action: NAT, source: {podSelector: {matchLabels: {app: till}}}, services: [{name: http}]}";
    let text = format!("{POD}{}", rule("tills", spec));
    assert_eq!(sources(&text), (vec![vec![0]], vec![("10.1.0.5/32".to_owned(), 0)]));
    let compiled = compiled(&text);
    let status = status(&compiled, Kind::IpRule, "pos", "tills");
    assert_eq!(told(status), ["Accepted=True(SourcesExcluded)", "ResolvedRefs=True(ResolvedRefs)"]);
    assert!(status.conditions[0].message.contains("1 of the selected pods use the node's network"), "{status:?}");
    assert_eq!(status.clients, 1);
}

#[test]
fn overlapping_networks_are_cut_into_blocks_with_the_rules_of_each() {
    let spec = |order: u32, cidr: &str, action: &str| {
        format!("{{order: {order}, action: {action}, source: {{cidrs: [{cidr}]}}, services: [{{name: http}}]}}")
    };
    let text = [
        rule("wide", &spec(2, "10.0.0.0/8", "NAT")),
        rule("narrow", &spec(1, "10.128.0.0/9", "Allow")),
        rule("host", &spec(3, "10.0.0.7/32", "Drop")),
    ]
    .concat();
    let (chains, blocks) = sources(&text);
    assert_eq!(chains, [vec![0, 1], vec![1], vec![1, 2]]);
    assert!(blocks.contains(&("10.0.0.7/32".to_owned(), 2)));
    assert!(blocks.contains(&("10.128.0.0/9".to_owned(), 0)));
    assert!(blocks.contains(&("10.64.0.0/10".to_owned(), 1)));
}

#[test]
fn of_two_equal_rules_the_loser_says_who_won() {
    let spec = "{order: 5, action: NAT, source: {cidrs: [10.0.0.0/8]}, services: [{name: http}]}";
    let drop = "{order: 5, action: Drop, source: {cidrs: [10.0.0.0/8]}, services: [{name: http}]}";
    let compiled = compiled(&[rule("b", drop), rule("a", spec)].concat());
    assert_eq!(config(&compiled).rules.len(), 1);
    let loser = status(&compiled, Kind::IpRule, "pos", "b");
    assert_eq!(told(loser)[0], "Accepted=False(Conflicted)");
    assert!(loser.conditions[0].message.contains("IpRule pos/a has the same order 5"), "{loser:?}");
}

#[test]
fn a_shadowed_rule_says_who_comes_first() {
    let wide = "{order: 1, action: NAT, source: {cidrs: [10.0.0.0/8]}, services: [{name: all}]}";
    let narrow = "{order: 2, action: Drop, source: {cidrs: [10.1.0.0/16]}, services: [{name: http}]}";
    let compiled = compiled(&[rule("wide", wide), rule("narrow", narrow)].concat());
    let narrow = status(&compiled, Kind::IpRule, "pos", "narrow");
    assert_eq!(told(narrow)[0], "Accepted=True(Shadowed)");
    assert!(narrow.conditions[0].message.contains("IpRule pos/wide (order 1)"), "{narrow:?}");
}

#[test]
fn destinations_are_what_is_wanted_without_the_exceptions() {
    let spec = "{order: 1, action: NAT, source: {cidrs: [10.0.0.0/8]}, destination: {cidrs: [203.0.113.0/24], except: [203.0.113.128/25]}, services: [{name: http}]}";
    let compiled = compiled(&rule("r", spec));
    assert_eq!(config(&compiled).rules[0].destinations, ["203.0.113.0/25".parse().unwrap()]);
}
