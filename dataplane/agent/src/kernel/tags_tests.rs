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
    assert_eq!(Tags::default().assign(&config(&rules)), Err(TagsExhausted { needed: 2047, free: 2046 }));
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
