//! What runs goes on running when something it names goes, and says so.

use callgate_compile::compile;
use callgate_crds::Kind;

use super::support::{CLASSIC, compiled, config, read, status, told};

#[test]
fn a_service_that_goes_keeps_its_rule_running() {
    let before = compiled(CLASSIC);
    let parts: Vec<&str> = CLASSIC.split("---").collect();
    let without = read(&[parts[0], parts[2]].join("---"));
    let after = compile(&without.world, Some(&before.last_good));
    assert_eq!(config(&after), config(&before));
    let rule = status(&after, Kind::IpRule, "pos", "tills-to-head-office");
    assert_eq!(told(rule), ["Accepted=True(Accepted)", "ResolvedRefs=False(LastGoodKept)"]);
    assert!(rule.conditions[1].message.contains("there is no Service pptp-service in namespace pos"), "{rule:?}");
    // And on, and on; and back.
    assert_eq!(config(&compile(&without.world, Some(&after.last_good))), config(&before));
    assert_eq!(compile(&read(CLASSIC).world, Some(&after.last_good)), before);
}

#[test]
fn without_a_past_the_same_rule_is_not_accepted() {
    let parts: Vec<&str> = CLASSIC.split("---").collect();
    let after = compile(&read(&[parts[0], parts[2]].join("---")).world, None);
    assert_eq!(config(&after).rules, []);
    let rule = status(&after, Kind::IpRule, "pos", "tills-to-head-office");
    assert_eq!(told(rule), ["Accepted=False(UnresolvedRefs)", "ResolvedRefs=False(ServiceNotFound)"]);
}

#[test]
fn a_rule_that_goes_is_gone() {
    let before = compiled(CLASSIC);
    let parts: Vec<&str> = CLASSIC.split("---").collect();
    let after = compile(&read(&[parts[0], parts[1]].join("---")).world, Some(&before.last_good));
    assert_eq!(config(&after).rules, []);
}

#[test]
fn an_object_that_is_refused_now_goes_on_as_it_was() {
    let before = read(CLASSIC);
    let mut now = read(&CLASSIC.replace("order: 100", "order: -1"));
    assert_eq!(now.world.rules.len(), 0);
    let kept = now.keep_refused(&before.world);
    assert_eq!(kept.len(), 1);
    assert_eq!(now.world, before.world);
}

#[test]
fn of_an_object_that_is_there_twice_the_well_formed_one_counts_wherever_it_stands() {
    let before = read(CLASSIC);
    let refused = CLASSIC.replace("order: 100", "order: -1");
    let good = CLASSIC.replace("order: 100", "order: 7");
    let rule = |text: &str| text.rsplit("---").next().unwrap_or_default().to_owned();
    for twice in [[&refused, "---", &rule(&good)].concat(), [&good, "---", &rule(&refused)].concat()] {
        let mut now = read(&twice);
        assert_eq!(now.keep_refused(&before.world), std::collections::BTreeSet::new());
        assert_eq!(now.world.rules.values().map(|rule| rule.spec.order).collect::<Vec<_>>(), [7]);
    }
}
