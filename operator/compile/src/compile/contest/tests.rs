//! Whatever is indexed and numbered: the result is that of comparing each rule with every one before it.
use callgate_proto::model::{Action, Match, PortRange};
use ipnet::Ipv4Net;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::resolve::{GoodSource, Leaf, PodScope, Version};
use crate::selector::Selector;

/// Each compared with every one before it: who conflicts with whom, and who is shadowed by whom.
fn one_by_one(sorted: &[Candidate]) -> Vec<(ObjectKey, Reason, ObjectKey)> {
    let mut found = Vec::new();
    let mut winners: Vec<&Candidate> = Vec::new();
    for candidate in sorted {
        let (rule, key) = (&candidate.rule, &candidate.key);
        let same = |other: &&&Candidate| {
            (other.rule.order, &other.rule.source) == (rule.order, &rule.source)
                && Ranges::of(&other.rule.destinations) == Ranges::of(&rule.destinations)
                && matches_of(&other.rule) == matches_of(rule)
        };
        if let Some(winner) = winners.iter().find(same) {
            found.push((key.clone(), Reason::Conflicted, winner.key.clone()));
            continue;
        }
        if let Some(winner) = winners.iter().find(|winner| covers(&winner.rule, rule)) {
            found.push((key.clone(), Reason::Shadowed, winner.key.clone()));
        }
        winners.push(candidate);
    }
    found
}

fn matches_of(rule: &GoodRule) -> BTreeSet<&Match> {
    rule.services.iter().flat_map(|leaf| &leaf.matches).collect()
}

fn covers(wide: &GoodRule, narrow: &GoodRule) -> bool {
    let pods = match (&wide.source.pods, &narrow.source.pods) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(wide), Some(narrow)) => wide.covers(narrow, &mut Steps::endless()),
    };
    let within = |narrow: &[Ipv4Net], wide: &[Ipv4Net]| Ranges::of(narrow).is_subset(&Ranges::of(wide));
    let ports = |wide: &[PortRange], narrow: &[PortRange]| {
        wide.is_empty()
            || (!narrow.is_empty()
                && narrow.iter().all(|n| wide.iter().any(|w| w.first <= n.first && n.last <= w.last)))
    };
    let takes = |wide: &Match, narrow: &Match| {
        (wide.protocol.is_none() || wide.protocol == narrow.protocol)
            && ports(&wide.source_ports, &narrow.source_ports)
            && ports(&wide.destination_ports, &narrow.destination_ports)
    };
    pods && within(&narrow.source.cidrs, &wide.source.cidrs)
        && within(&narrow.destinations, &wide.destinations)
        && matches_of(narrow).iter().all(|narrow| matches_of(wide).iter().any(|wide| takes(wide, narrow)))
}

fn a_match() -> impl Strategy<Value = Match> {
    let ports = || {
        let some = ["", "80", "80,443", "1-100", "1-100,200-600", "443"];
        select(some.to_vec()).prop_map(|text| {
            let ranges = text.split(',').filter(|range| !range.is_empty()).map(|range| {
                let (first, last) = range.split_once('-').unwrap_or((range, range));
                PortRange { first: first.parse().unwrap(), last: last.parse().unwrap() }
            });
            ranges.collect::<Vec<_>>()
        })
    };
    (select(vec![Some(6), Some(17), None]), ports(), ports()).prop_map(|(protocol, source_ports, destination_ports)| {
        match protocol {
            None => Match { protocol, source_ports: vec![], destination_ports: vec![] },
            Some(_) => Match { protocol, source_ports, destination_ports },
        }
    })
}

fn selector(yaml: &str) -> Selector {
    let read: LabelSelector = serde_saphyr::from_str(yaml).unwrap();
    Selector::read(&read, "spec", &mut Vec::new())
}

fn source() -> impl Strategy<Value = GoodSource> {
    let labels = || {
        let some = [
            "{}",
            "matchLabels: {app: a}",
            "matchLabels: {app: a, tier: b}",
            "matchLabels: {tier: b}",
            "matchExpressions: [{key: app, operator: In, values: [a, b]}]",
            "matchExpressions: [{key: tier, operator: Exists}]",
        ];
        select(some.to_vec()).prop_map(selector)
    };
    let scope = prop_oneof![
        3 => Just(PodScope::Own("pos".to_owned())),
        1 => Just(PodScope::Own("other".to_owned())),
        2 => labels().prop_map(PodScope::Labelled),
    ];
    let pods = proptest::option::weighted(0.8, (scope, labels()).prop_map(|(scope, labels)| Pods { scope, labels }));
    let cidrs = proptest::collection::vec(select(vec!["10.0.0.0/8", "10.1.0.0/16"]), 0..2);
    (pods, cidrs).prop_map(|(pods, cidrs)| {
        let cidrs = if pods.is_none() && cidrs.is_empty() { vec!["10.0.0.0/8"] } else { cidrs };
        GoodSource { pods, cidrs: cidrs.iter().map(|net| net.parse().unwrap()).collect() }
    })
}

fn rule() -> impl Strategy<Value = GoodRule> {
    let destinations = select(vec!["0.0.0.0/0", "192.0.2.0/24", "192.0.2.128/25", "198.51.100.0/24"]);
    let services = proptest::collection::vec(proptest::collection::vec(a_match(), 1..3), 1..4);
    (0u32..3, source(), destinations, services).prop_map(|(order, source, destination, services)| GoodRule {
        version: Version::default(),
        order,
        action: Action::Allow,
        source,
        destinations: vec![destination.parse().unwrap()],
        services: services.into_iter().map(|matches| leaf(matches).into()).collect(),
        algs: vec![],
        log: false,
    })
}

fn leaf(matches: Vec<Match>) -> Leaf {
    let key = ObjectKey::new("pos", "web");
    let version = Version::default();
    Leaf { key, version, matches, alg: None, max_sessions: 0, forward_icmp_errors: true, timeouts: None }
}

/// Of each rule that conflicts or is shadowed, by name: that, and by whom.
fn told(sorted: &mut Vec<Candidate>, most: usize) -> Vec<(ObjectKey, Reason, ObjectKey)> {
    let conflicts = contest(sorted, most);
    let shadows = sorted.iter().filter_map(|candidate| {
        let shadow = candidate.shadow.as_ref()?;
        let winner = &sorted[shadow.by as usize].key;
        assert!(shadow.note.finding.message.starts_with(&format!("IpRule {winner} ")), "{shadow:?}");
        Some((candidate.key.clone(), shadow.note.clone()))
    });
    let mut found: Vec<_> = conflicts.into_iter().chain(shadows).collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    let found = found.into_iter().map(|(key, issue)| {
        let winner = issue.finding.message.split(' ').nth(1).and_then(|name| name.split_once('/'));
        let (namespace, name) = winner.unwrap_or_default();
        (key, issue.reason, ObjectKey::new(namespace, name))
    });
    found.collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn the_result_is_that_of_comparing_each_with_every_one_before_it(rules in proptest::collection::vec(rule(), 1..12)) {
        let named = rules.into_iter().enumerate().map(|(at, rule)| Candidate {
            key: ObjectKey::new("pos", format!("rule-{at:02}")),
            created: None,
            rule: rule.into(),
            note: None,
            shadow: None,
        });
        let mut sorted: Vec<Candidate> = named.collect();
        sorted.sort_by(|a, b| (a.rule.order, &a.key).cmp(&(b.rule.order, &b.key)));
        let mut expected = one_by_one(&sorted);
        expected.sort_by(|a, b| a.0.cmp(&b.0));
        let all: Vec<ObjectKey> = sorted.iter().map(|candidate| candidate.key.clone()).collect();
        let found = told(&mut sorted, usize::MAX);
        let lost = |key: &&ObjectKey| !found.iter().any(|(of, reason, _)| of == *key && *reason == Reason::Conflicted);
        let stay: Vec<&ObjectKey> = all.iter().filter(lost).collect();
        prop_assert_eq!(sorted.iter().map(|candidate| &candidate.key).collect::<Vec<_>>(), stay);
        prop_assert_eq!(found, expected);
    }
}

/// A rule of one namespace with an order of its own.
fn ordered(namespace: &str, order: u32, labels: &str, ports: &[u16]) -> Candidate {
    let ports = ports.iter().map(|&port| PortRange { first: port, last: port }).collect();
    let matches = vec![Match { protocol: Some(6), source_ports: vec![], destination_ports: ports }];
    let pods = Pods { scope: PodScope::Own(namespace.to_owned()), labels: selector(labels) };
    let rule = GoodRule {
        version: Version::default(),
        order,
        action: Action::Allow,
        source: GoodSource { pods: Some(pods), cidrs: vec![] },
        destinations: vec!["192.0.2.0/24".parse().unwrap()],
        services: vec![leaf(matches).into()],
        algs: vec![],
        log: false,
    };
    let key = ObjectKey::new(namespace, format!("rule-{order:04}"));
    Candidate { key, created: None, rule: rule.into(), note: None, shadow: None }
}

/// What is told of these and, after them, of two rules of another namespace of which the first covers the second.
fn beside_a_small_namespace(mut rules: Vec<Candidate>, most: usize) -> Vec<(ObjectKey, Reason, ObjectKey)> {
    rules.push(ordered("small", 9_000, "{}", &[80, 443]));
    rules.push(ordered("small", 9_001, "{}", &[80]));
    told(&mut rules, most)
}

fn shadowed(namespace: &str, narrow: u32, wide: u32) -> (ObjectKey, Reason, ObjectKey) {
    let key = |order: u32| ObjectKey::new(namespace, format!("rule-{order:04}"));
    (key(narrow), Reason::Shadowed, key(wide))
}

#[test]
fn a_namespace_of_selectors_that_take_long_to_compare_is_told_no_more_of_shadows_and_others_are() {
    // Of one label each asks the same but for the last value, so that all of it is looked at.
    let labels = |rule: u32| {
        let values: Vec<String> = (0..63).map(|value| format!("v{value}")).collect();
        let expression = |n| format!("{{key: a, operator: NotIn, values: [{}, x{rule}-{n}]}}", values.join(", "));
        format!("matchExpressions: [{}]", (0..16).map(expression).collect::<Vec<_>>().join(", "))
    };
    let mut rules: Vec<Candidate> = (0..30).map(|n| ordered("greedy", n, &labels(n), &[80])).collect();
    // These ask for the same as the first two.
    let twin = Candidate { key: ObjectKey::new("greedy", "twin"), ..rules[0].clone() };
    let conflict = (twin.key.clone(), Reason::Conflicted, rules[0].key.clone());
    rules.insert(1, twin);
    rules.push(ordered("greedy", 100, &labels(1), &[80]));
    let others = vec![shadowed("small", 9_001, 9_000)];
    // Two comparisons of two thousand steps and more each, and no third.
    let told = beside_a_small_namespace(rules.clone(), 4_000);
    assert_eq!(told, [vec![conflict.clone()], others.clone()].concat());
    // With steps enough the last is told too.
    let all = beside_a_small_namespace(rules, usize::MAX);
    assert_eq!(all, [vec![shadowed("greedy", 100, 1), conflict], others].concat());
}

#[test]
fn rules_for_the_same_pods_with_a_service_each_take_no_more_steps_than_there_are() {
    let rules =
        |count: u16| -> Vec<Candidate> { (0..count).map(|n| ordered("greedy", n.into(), "{}", &[1000 + n])).collect() };
    let last = |mut rules: Vec<Candidate>, most| {
        let order = rules.len() as u32;
        rules.push(ordered("greedy", order, "{}", &[1000]));
        beside_a_small_namespace(rules, most)
    };
    let others = vec![shadowed("small", 9_001, 9_000)];
    assert_eq!(last(rules(20), 4_000), [vec![shadowed("greedy", 20, 0)], others.clone()].concat());
    assert_eq!(last(rules(200), 4_000), others);
}
