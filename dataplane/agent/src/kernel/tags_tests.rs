//! Tags stay with their rules, come back only when they are flushed, and end.

use callgate_proto::model::{Action, External, NodeConfig, ObjectKey, Rule, Service};

use super::*;

fn config(rules: &[(&str, Action)]) -> NodeConfig {
    let service = Service {
        key: ObjectKey::new("n", "s"),
        matches: vec![],
        alg: None,
        max_sessions: 0,
        forward_icmp_errors: true,
        timeouts: None,
    };
    let rule = |(name, action): &(&str, Action)| Rule {
        key: ObjectKey::new("n", *name),
        action: *action,
        destinations: vec![],
        services: vec![0],
        external: External::NodeAddress,
        log: false,
    };
    NodeConfig { services: vec![service], rules: rules.iter().map(rule).collect(), ..NodeConfig::default() }
}

/// The same configuration with another service: with an ALG, or without ICMP errors.
fn with(config: &NodeConfig, alg: Option<u32>, forward_icmp_errors: bool) -> NodeConfig {
    let mut other = config.clone();
    (other.services[0].alg, other.services[0].forward_icmp_errors) = (alg, forward_icmp_errors);
    other
}

/// So many rules with NAT, the names of which begin so.
fn many(number: usize, prefix: &str) -> NodeConfig {
    let names: Vec<String> = (0..number).map(|n| format!("{prefix}{n:04}")).collect();
    config(&names.iter().map(|name| (name.as_str(), Action::Nat)).collect::<Vec<_>>())
}

/// How many tags are live in each way, and how many are retired.
fn counts(tags: &Tags) -> ([usize; 3], usize) {
    let of = |via| tags.live().filter(|(key, _)| key.via == via).count();
    ([Via::Kernel, Via::KernelQuiet, Via::Alg].map(of), tags.retired().count())
}

fn live(tags: &Tags) -> Vec<(String, Via, u16)> {
    tags.live().map(|(key, tag)| (key.rule.name.clone(), key.via, tag)).collect()
}

#[test]
fn rules_keep_their_tags_in_any_order_and_drop_needs_none() {
    let first =
        Tags::default().assign(&config(&[("a", Action::Nat), ("d", Action::Drop), ("b", Action::Reject)])).unwrap();
    assert_eq!(live(&first), [("a".into(), Via::Kernel, 1), ("b".into(), Via::Reject, 2)]);
    let second = first.assign(&config(&[("c", Action::Allow), ("b", Action::Reject), ("a", Action::Nat)])).unwrap();
    let expected = [("a".into(), Via::Kernel, 1), ("b".into(), Via::Reject, 2), ("c".into(), Via::Kernel, 3)];
    assert_eq!(live(&second), expected);
}

#[test]
fn an_edited_rule_keeps_the_tag_of_its_old_way_too() {
    let tags = Tags::default().assign(&config(&[("a", Action::Nat)])).unwrap();
    let tags = tags.assign(&config(&[("a", Action::Reject)])).unwrap();
    assert_eq!(live(&tags), [("a".into(), Via::Kernel, 1), ("a".into(), Via::Reject, 2)]);
}

#[test]
fn an_alg_that_has_no_connection_needs_no_tag_that_no_rule_wants() {
    let plain = config(&[("a", Action::Nat), ("b", Action::Nat)]);
    let piped = with(&plain, Some(0), true);
    let both = Tags::default().assign(&piped).unwrap().assign(&plain).unwrap();
    assert_eq!((counts(&both), both.without_idle(&piped) == both), (([2, 0, 2], 0), true));
    let idle = both.without_idle(&plain);
    assert_eq!((counts(&idle), idle.retired().collect()), (([2, 0, 0], 2), vec![1, 2]));
}

#[test]
fn a_tag_is_given_again_only_after_its_flows_are_flushed() {
    let tags = Tags::default().assign(&config(&[("a", Action::Nat)])).unwrap();
    let tags = tags.assign(&config(&[("b", Action::Nat)])).unwrap();
    assert_eq!((live(&tags), tags.retired().collect()), (vec![("b".into(), Via::Kernel, 2)], vec![1]));
    let tags = tags.flushed().assign(&config(&[("b", Action::Nat), ("c", Action::Nat)])).unwrap();
    assert_eq!(live(&tags), [("b".into(), Via::Kernel, 2), ("c".into(), Via::Kernel, 1)]);
}

#[test]
fn more_rules_than_tags_are_refused_with_what_to_do() {
    let names: Vec<String> = (0..2047).map(|n| format!("r{n}")).collect();
    let rules: Vec<(&str, Action)> = names.iter().map(|name| (name.as_str(), Action::Nat)).collect();
    assert_eq!(Tags::default().assign(&config(&rules)), Err(TagsExhausted { needed: 2047 }));
    assert_eq!(Tags::default().assign(&config(&rules[1..])).map(|tags| tags.live().count()), Ok(2046));
}

#[test]
fn tags_survive_being_written_down() {
    let tags = Tags::default().assign(&config(&[("a", Action::Nat), ("b", Action::Reject)])).unwrap();
    let tags = tags.assign(&config(&[("b", Action::Reject)])).unwrap();
    let text = serde_json::to_string(&tags).unwrap();
    assert_eq!(text, r#"[{"tag":1},{"tag":2,"key":{"rule":{"namespace":"n","name":"b"},"via":"Reject"}}]"#);
    assert_eq!(serde_json::from_str::<Tags>(&text).unwrap(), tags);
}

#[test]
fn a_way_that_rejects_has_no_flow_to_keep_its_tag_for() {
    let tags = Tags::default().assign(&config(&[("a", Action::Reject)])).unwrap();
    let tags = tags.assign(&config(&[("a", Action::Nat)])).unwrap();
    assert_eq!((live(&tags), tags.retired().collect()), (vec![("a".into(), Via::Kernel, 2)], vec![1]));
}

#[test]
fn rules_renamed_all_at_once_get_the_numbers_that_are_free_and_the_rest_after_the_flush() {
    let old = Tags::default().assign(&many(1500, "old")).unwrap();
    let new = many(1500, "new");
    let tags = old.assign(&new).unwrap();
    assert_eq!(counts(&tags), ([546, 0, 0], 1500));
    let tags = tags.flushed().assign(&new).unwrap();
    assert_eq!(counts(&tags), ([1500, 0, 0], 0));
}

#[test]
fn where_numbers_run_short_flows_obey_what_their_rule_says_of_icmp_errors_now() {
    let loud = many(1500, "r");
    let first = Tags::default().assign(&loud).unwrap();
    let quiet = with(&loud, None, false);
    let tags = first.assign(&quiet).unwrap();
    assert_eq!(counts(&tags), ([546, 1500, 0], 0));
    let numbers: BTreeSet<u16> = tags.live().map(|(_, tag)| tag).collect();
    assert_eq!(numbers, (1..=LAST_TAG).collect());
    assert_eq!(tags.assign(&quiet).unwrap(), tags);
}

#[test]
fn where_numbers_run_short_as_many_old_ways_as_are_missing_end_and_calls_last() {
    let plain = many(1000, "r");
    let piped = with(&plain, Some(0), true);
    let both = Tags::default().assign(&piped).unwrap().assign(&plain).unwrap();
    assert_eq!(counts(&both), ([1000, 0, 1000], 0));
    // 46 are free; the kernel's 1,000 could not all be quiet in numbers of their own.
    let more = NodeConfig { rules: many(1100, "r").rules, ..plain };
    let tags = both.assign(&more).unwrap();
    assert_eq!(counts(&tags), ([1046, 0, 946], 54));
    assert_eq!(counts(&tags.flushed().assign(&more).unwrap()), ([1100, 0, 946], 0));
}
