//! What goes on running follows what can still be followed, and one object has one version on a node.

use callgate_compile::status::{Kind, ObjectRef};
use callgate_compile::world::World;
use callgate_compile::{Compiled, LastGood, compile};
use callgate_crds::Action;
use callgate_crds::conditions::Reason;
use callgate_proto::model::{NodeConfig, ObjectKey};

use super::worlds::{from_nets, object, rule, tcp};

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("pos", name)
}

/// Rule `a` names services `kept` and `lost`, rule `b` names `kept`.
fn world() -> World {
    World {
        services: [(key("kept"), object(tcp("80"))), (key("lost"), object(tcp("25")))].into(),
        rules: [
            (key("a"), object(rule(1, Action::Nat, from_nets(&["10.0.0.0/9"]), &["kept", "lost"]))),
            (key("b"), object(rule(2, Action::Nat, from_nets(&["10.128.0.0/9"]), &["kept"]))),
        ]
        .into(),
        ..World::standalone()
    }
}

fn config(compiled: &Compiled) -> &NodeConfig {
    let config: &NodeConfig = &compiled.nodes["standalone"];
    assert_eq!(NodeConfig::decode(&config.encode()).as_ref(), Ok(config));
    config
}

#[test]
fn a_kept_rule_takes_up_changes_of_services_that_are_still_there() {
    let before = compile(&world(), None);
    let mut now = world();
    now.services.remove(&key("lost"));
    now.services.insert(key("kept"), object(tcp("8080")));
    let after = compile(&now, Some(&before.last_good));
    let mut expected = config(&before).clone();
    expected.services[0].matches[0].destination_ports =
        vec![callgate_proto::model::PortRange { first: 8080, last: 8080 }];
    assert_eq!(config(&after), &expected);
    let status = &after.statuses[&ObjectRef { kind: Kind::IpRule, key: key("a") }];
    assert_eq!(
        status.conditions.iter().map(|c| c.reason).collect::<Vec<_>>(),
        [Reason::Accepted, Reason::LastGoodKept]
    );
    assert!(status.last_good && status.conditions[1].message.ends_with("What ran before goes on running."));
}

#[test]
fn a_rule_that_became_unusable_itself_goes_on_and_says_so() {
    let before = compile(&world(), None);
    let mut now = world();
    if let Some(a) = now.rules.get_mut(&key("a")) {
        a.spec.destination.except = a.spec.destination.cidrs.clone();
    }
    let after = compile(&now, Some(&before.last_good));
    assert_eq!(config(&after), config(&before));
    let status = &after.statuses[&ObjectRef { kind: Kind::IpRule, key: key("a") }];
    assert_eq!(status.conditions[0].reason, Reason::NoDestination);
    assert!(status.last_good && status.conditions[0].message.ends_with("What ran before goes on running."));
}

#[test]
fn a_rule_that_was_deleted_and_made_anew_does_not_go_on_as_the_one_before() {
    let mut then = world();
    let made = |world: &mut World, uid: &str| {
        if let Some(a) = world.rules.get_mut(&key("a")) {
            a.meta.uid = uid.to_owned();
        }
    };
    made(&mut then, "first");
    let before = compile(&then, None);
    let mut now = then.clone();
    now.services.remove(&key("lost"));
    let runs = |now: &World, last_good: &LastGood| {
        let compiled = compile(now, Some(last_good));
        let rules = config(&compiled).rules.iter().map(|rule| rule.key.name.clone()).collect::<Vec<_>>().join(" ");
        let status = &compiled.statuses[&ObjectRef { kind: Kind::IpRule, key: key("a") }];
        (rules, status.conditions.iter().map(|condition| condition.reason).collect::<Vec<_>>())
    };
    let kept = ("a b".to_owned(), vec![Reason::Accepted, Reason::LastGoodKept]);
    assert_eq!(runs(&now, &before.last_good), kept);
    made(&mut now, "second");
    let anew = ("b".to_owned(), vec![Reason::UnresolvedRefs, Reason::ServiceNotFound]);
    assert_eq!(runs(&now, &before.last_good), anew);
    // What was saved without knowing of uids is taken for the same.
    let text = serde_json::to_string(&before.last_good).unwrap();
    let older = text.replace(r#""uid":"first","#, "");
    assert_ne!(text, older);
    assert_eq!(runs(&now, &serde_json::from_str(&older).unwrap()), kept);
}

#[test]
fn which_generation_of_a_rule_and_of_what_it_names_goes_on_running_is_told() {
    let mut world = world();
    let made = |world: &mut World, uid: &str, generation: i64, alg: Option<&str>| {
        let lost = world.services.get_mut(&key("lost")).unwrap();
        (lost.meta.uid, lost.meta.generation) = (uid.to_owned(), generation);
        lost.spec.alg_ref =
            alg.map(|name| serde_json::from_value(serde_json::json!({"kind": "PptpAlg", "name": name})).unwrap());
    };
    let mut last_good = None;
    let mut runs = |world: &World| {
        let Compiled { statuses, last_good: next, .. } = compile(world, last_good.as_ref());
        last_good = Some(next);
        let of = |kind, name: &str| {
            let status = &statuses[&ObjectRef { kind, key: key(name) }];
            (status.last_good, status.last_good_generation)
        };
        [of(Kind::IpRule, "a"), of(Kind::Service, "lost"), of(Kind::Service, "kept")]
    };
    world.rules.get_mut(&key("a")).unwrap().meta.generation = 4;
    made(&mut world, "first", 7, None);
    assert_eq!(runs(&world), [(false, None); 3]);
    made(&mut world, "first", 8, Some("none"));
    assert_eq!(runs(&world), [(true, Some(4)), (true, Some(7)), (false, None)]);
    world.rules.get_mut(&key("a")).unwrap().meta.generation = 5;
    made(&mut world, "second", 7, Some("none"));
    assert_eq!(runs(&world), [(true, Some(4)), (true, None), (false, None)], "that one is another");
    made(&mut world, "second", 8, None);
    assert_eq!(runs(&world), [(false, None); 3]);
}

#[test]
fn what_is_kept_can_be_saved_and_read_again() {
    let last_good = compile(&world(), None).last_good;
    let text = serde_json::to_string(&last_good).unwrap();
    assert_eq!(serde_json::from_str::<LastGood>(&text).unwrap(), last_good);
}

#[test]
fn a_kept_rule_that_does_not_translate_stays_with_a_service_as_it_was_before_it_had_an_alg() {
    let mut then = world();
    then.algs.insert(key("pptp"), object(serde_json::from_value(serde_json::json!({})).unwrap()));
    for (rule, action) in [("a", Action::Allow), ("b", Action::Nat)] {
        then.rules.get_mut(&key(rule)).unwrap().spec.action = action;
    }
    let generation = |world: &mut World, generation: i64| {
        world.services.get_mut(&key("kept")).unwrap().meta.generation = generation;
    };
    generation(&mut then, 1);
    let before = compile(&then, None);
    let mut now = then.clone();
    generation(&mut now, 2);
    now.services.get_mut(&key("kept")).unwrap().spec.alg_ref =
        Some(serde_json::from_value(serde_json::json!({"kind": "PptpAlg", "name": "pptp"})).unwrap());
    // Alone it goes on as it was: with the limit that an ALG would take from it.
    now.rules.remove(&key("b"));
    let after = compile(&now, Some(&before.last_good));
    let (was, is) = (config(&before), config(&after));
    assert_eq!((&is.rules[0], &is.services, &is.algs), (&was.rules[0], &was.services, &vec![]));
    let told = |compiled: &Compiled, kind, name: &str| {
        let status = &compiled.statuses[&ObjectRef { kind, key: key(name) }];
        let reasons = status.conditions.iter().map(|condition| condition.reason).collect::<Vec<_>>();
        (reasons, status.last_good_generation)
    };
    assert_eq!(told(&after, Kind::IpRule, "a"), (vec![Reason::AlgNotAllowed, Reason::ResolvedRefs], Some(0)));
    assert_eq!(told(&after, Kind::Service, "kept"), (vec![Reason::Accepted, Reason::ResolvedRefs], Some(1)));
    // A service is one to a node: beside a rule that translates it is the one with the ALG.
    now.rules = then.rules.clone();
    let after = compile(&now, Some(&before.last_good));
    assert_eq!(config(&after).services[0].alg, Some(0));
    // And without the ALG both follow it again.
    now.services.get_mut(&key("kept")).unwrap().spec = tcp("8080");
    let last = compile(&now, Some(&after.last_good));
    assert_eq!(last, compile(&now, None));
}
