//! Rules that are missed stand where they would be taken, however many there are.
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::*;

/// Each looked for and put in by itself.
fn one_by_one(reply: &mut pb::ExplainReply, meant: &[Meant]) {
    for (rank, Meant { rule, action, missing }) in meant.iter().enumerate() {
        let Some(reason) = missing.clone() else { continue };
        let rule = rule.to_string();
        match reply.considered.iter_mut().find(|considered| considered.rule == rule) {
            Some(considered) if considered.reason == Why::Source.to_string() => considered.reason = reason,
            Some(_) => {}
            None => {
                let later = |other: &pb::Considered| {
                    meant.iter().position(|one| one.rule.to_string() == other.rule).is_some_and(|other| other > rank)
                };
                let at = reply.considered.iter().position(later).unwrap_or(reply.considered.len());
                let action = (*action).into();
                reply.considered.insert(at, pb::Considered { rule, action, matched: false, reason });
            }
        }
    }
}

fn meant(number: usize, missing: Option<&str>) -> Meant {
    let rule = ObjectKey::new("pos", format!("r-{number:04}"));
    Meant { rule, action: pb::Action::Drop, missing: missing.map(str::to_owned) }
}

fn considered(number: usize, reason: String) -> pb::Considered {
    let rule = ObjectKey::new("pos", format!("r-{number:04}")).to_string();
    pb::Considered { rule, action: pb::Action::Drop.into(), matched: false, reason }
}

/// Some of a dozen rules in any order.
fn some() -> impl Strategy<Value = Vec<usize>> {
    subsequence((0..12usize).collect::<Vec<_>>(), 0..=12).prop_shuffle()
}

fn reasons() -> impl Strategy<Value = Vec<String>> {
    let source = Why::Source.to_string();
    proptest::collection::vec(select(vec![source, Why::Later.to_string()]), 12)
}

proptest! {
    #[test]
    fn each_stands_before_the_first_that_comes_after_it(
        there in some(), asked in some(), reasons in reasons(),
        missing in proptest::collection::vec(select(vec![None, Some("labels")]), 12),
    ) {
        let considered = there.into_iter().map(|rule| considered(rule, reasons[rule].clone()));
        let mut reply = pb::ExplainReply { considered: considered.collect(), ..pb::ExplainReply::default() };
        let asked: Vec<Meant> = asked.into_iter().map(|rule| meant(rule, missing[rule])).collect();
        let mut expected = reply.clone();
        one_by_one(&mut expected, &asked);
        tell_missing(&mut reply, asked);
        prop_assert_eq!(reply, expected);
    }
}

#[test]
fn of_fifty_thousand_rules_that_do_not_select_the_pod_each_is_told_in_order() {
    let rules = 0..50_000;
    // Every hundredth selects another pod of the node.
    let there = rules.clone().step_by(100).map(|rule| considered(rule, Why::Source.to_string()));
    let mut reply = pb::ExplainReply { considered: there.collect(), ..pb::ExplainReply::default() };
    tell_missing(&mut reply, rules.clone().map(|rule| meant(rule, Some("labels"))).collect());
    assert_eq!(reply.considered, rules.map(|rule| considered(rule, "labels".to_owned())).collect::<Vec<_>>());
}
