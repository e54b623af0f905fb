//! Whatever is indexed and numbered: the result is that of comparing each rule with every one before it.
use callgate_proto::model::{Action, Match, PortRange};
use ipnet::Ipv4Net;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::resolve::{Leaf, PodScope, Version};
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
        (Some(wide), Some(narrow)) => wide.covers(narrow),
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn the_result_is_that_of_comparing_each_with_every_one_before_it(rules in proptest::collection::vec(rule(), 1..12)) {
        let named = rules.into_iter().enumerate().map(|(at, rule)| Candidate {
            key: ObjectKey::new("pos", format!("rule-{at:02}")),
            created: None,
            rule: rule.into(),
            note: None,
        });
        let mut sorted: Vec<Candidate> = named.collect();
        sorted.sort_by(|a, b| (a.rule.order, &a.key).cmp(&(b.rule.order, &b.key)));
        let expected = one_by_one(&sorted);
        let all: Vec<ObjectKey> = sorted.iter().map(|candidate| candidate.key.clone()).collect();
        let found = contest(&mut sorted).into_iter().map(|(key, issue)| {
            let winner = issue.finding.message.split(' ').nth(1).and_then(|name| name.split_once('/'));
            let (namespace, name) = winner.unwrap_or_default();
            (key, issue.reason, ObjectKey::new(namespace, name))
        });
        let found: Vec<_> = found.collect();
        let lost = |key: &&ObjectKey| !found.iter().any(|(of, reason, _)| of == *key && *reason == Reason::Conflicted);
        let stay: Vec<&ObjectKey> = all.iter().filter(lost).collect();
        prop_assert_eq!(sorted.iter().map(|candidate| &candidate.key).collect::<Vec<_>>(), stay);
        prop_assert_eq!(found, expected);
    }
}
