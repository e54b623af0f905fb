//! Where the last good version runs: whether that is this generation.

use super::*;

/// What ran on both nodes, and was told of; then all services go.
fn kept() -> Case {
    let mut case = Case::new();
    for node in ["a", "b"] {
        case.attach(node);
        case.applied(node);
    }
    case.told();
    case.world.services.clear();
    case.compile();
    case
}

#[test]
fn what_it_names_goes_and_the_generation_that_ran_is_still_programmed() {
    let mut case = kept();
    assert_eq!(case.told(), "True(Programmed) 2/2");
    assert_eq!(case.before.reason.as_deref(), Some("LastGoodKept"));
    assert_eq!(case.told(), "True(Programmed) 2/2");
    // A generation that came after never ran.
    case.world.rules.get_mut(&key("tills")).unwrap().meta.generation = 2;
    case.compile();
    assert_eq!(case.told(), "False(LastGoodRuns) 0/2");
    assert_eq!(case.told(), "False(LastGoodRuns) 0/2");
}

#[test]
fn a_generation_that_runs_is_programmed_also_when_its_pods_were_away_after_what_it_names_had_gone() {
    let mut case = kept();
    assert_eq!(case.told(), "True(Programmed) 2/2");
    let pods = std::mem::take(&mut case.world.pods);
    for (pods, expected) in [(BTreeMap::new(), "True(NothingToProgram) 0/0"), (pods, "True(Programmed) 2/2")] {
        case.world.pods = pods;
        case.compile();
        case.applied("a");
        case.applied("b");
        assert_eq!(case.told(), expected);
    }
}

#[test]
fn a_generation_that_never_ran_is_not_programmed_because_it_was_unusable_in_itself_meanwhile() {
    let mut case = Case::new();
    let web = |alg: Option<&str>| {
        let mut spec = json!({"protocol": "TCP", "destinationPorts": "1723"});
        spec["algRef"] = alg.map_or(serde_json::Value::Null, |name| json!({"kind": "PptpAlg", "name": name}));
        object::<ServiceSpec>(1, spec)
    };
    let rule = |generation| {
        let services = json!([{"name": "web"}, {"name": "rest"}]);
        let source = json!({"podSelector": {"matchLabels": {"app": "till"}}});
        let spec = json!({"order": 100 + generation, "action": "Allow", "services": services, "source": source});
        object::<IpRuleSpec>(generation, spec)
    };
    case.world.services = [(key("web"), web(None)), (key("rest"), web(None))].into();
    case.world.rules.insert(key("tills"), rule(1));
    let mut told = |change: &dyn Fn(&mut World)| {
        change(&mut case.world);
        case.compile();
        for node in ["a", "b"] {
            case.attach(node);
            case.applied(node);
        }
        case.told()
    };
    let told = [
        told(&|_| {}),
        told(&|world| drop(world.services.remove(&key("rest")))),
        told(&|world| drop(world.rules.insert(key("tills"), rule(2)))),
        told(&|world| drop(world.services.insert(key("web"), web(Some("pptp"))))),
        told(&|world| drop(world.services.insert(key("web"), web(None)))),
        told(&|world| drop(world.services.insert(key("rest"), web(None)))),
    ];
    let expected = [
        "True(Programmed) 2/2",
        "True(Programmed) 2/2",
        "False(LastGoodRuns) 0/2",
        "False(NotAccepted) 0/2",
        "False(LastGoodRuns) 0/2",
        "True(Programmed) 2/2",
    ];
    assert_eq!(told, expected);
}

#[test]
fn a_service_of_which_a_rule_keeps_the_version_before_is_not_programmed_on_any_node() {
    let mut case = Case::new();
    let web = |generation, alg: serde_json::Value| {
        object::<ServiceSpec>(generation, json!({"protocol": "TCP", "destinationPorts": "1723", "algRef": alg}))
    };
    let spec = json!({"order": 100, "action": "Allow", "services": [{"name": "web"}],
        "source": {"podSelector": {"matchLabels": {"app": "till"}}}});
    case.world.rules.insert(key("tills"), object::<IpRuleSpec>(1, spec));
    let mut told = |web| {
        case.world.services = [(key("web"), web)].into();
        case.compile();
        for node in ["a", "b"] {
            case.attach(node);
            case.applied(node);
        }
        let status = case.status_of(ObjectRef { kind: Kind::Service, key: key("web") });
        let message =
            status.conditions.iter().find(|condition| condition.type_ == "Programmed").unwrap().message.clone();
        (super::told(&status), message)
    };
    let well = ("True(Programmed) 2/2".to_owned(), "In force on every node that must run it.".to_owned());
    let message = "Its version before runs, for a rule that goes on as it was: see the rules that name it.".to_owned();
    assert_eq!(told(web(1, json!(null))), well);
    let alg = json!({"kind": "PptpAlg", "name": "pptp"});
    assert_eq!(told(web(2, alg)), ("False(LastGoodRuns) 0/2".to_owned(), message));
    assert_eq!(told(web(3, json!(null))), well);
}

/// As a version saved it that did not know of generations.
fn without_generations(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(fields) => {
            fields.remove("generation");
            fields.values_mut().for_each(without_generations);
        }
        serde_json::Value::Array(values) => values.iter_mut().for_each(without_generations),
        serde_json::Value::Null
        | serde_json::Value::Bool(_)
        | serde_json::Value::Number(_)
        | serde_json::Value::String(_) => {}
    }
}

#[test]
fn an_upgrade_leaves_what_stands_there_of_a_generation_that_runs_and_of_one_that_never_ran() {
    for (edited, expected) in [(false, "True(Programmed) 2/2"), (true, "False(LastGoodRuns) 0/2")] {
        let mut case = kept();
        if edited {
            case.world.rules.get_mut(&key("tills")).unwrap().meta.generation = 2;
            case.compile();
        }
        assert_eq!(case.told(), expected);
        let mut saved = serde_json::to_value(&case.last_good).unwrap();
        without_generations(&mut saved);
        case.last_good = serde_json::from_value(saved).unwrap();
        case.compile();
        assert_eq!(case.told(), expected, "after the upgrade");
    }
}
