//! What the schema module is built on, held to be true of the generated schemas.

use serde_json::{Value, json};

use super::*;
use crate::shape;

/// Calls `visit` with a schema and every schema in it.
fn every_schema(schema: &Value, visit: &mut impl FnMut(&Value)) {
    visit(schema);
    for inner in schema["properties"].as_object().into_iter().flat_map(|properties| properties.values()) {
        every_schema(inner, visit);
    }
    for inner in [&schema["items"], &schema["additionalProperties"]] {
        if inner.is_object() {
            every_schema(inner, visit);
        }
    }
}

#[test]
fn schemas_use_only_keywords_that_the_walk_knows() {
    let known = [
        "additionalProperties",
        "default",
        "description",
        "enum",
        "format",
        "items",
        "maxItems",
        "maxLength",
        "maxProperties",
        "maximum",
        "minItems",
        "minLength",
        "minimum",
        "properties",
        "required",
        "title",
        "type",
        "x-kubernetes-int-or-string",
        "x-kubernetes-list-map-keys",
        "x-kubernetes-list-type",
        "x-kubernetes-validations",
    ];
    let mut unknown = Vec::new();
    for kind in Kind::ALL {
        every_schema(of(kind), &mut |schema| {
            unknown.extend(schema.as_object().unwrap().keys().filter(|key| !known.contains(&key.as_str())).cloned());
        });
    }
    assert_eq!(unknown, Vec::<String>::new());
}

#[test]
fn every_rule_of_the_schemas_is_in_the_table_and_every_rule_of_the_table_in_a_schema() {
    let mut used = std::collections::BTreeSet::new();
    for kind in Kind::ALL {
        every_schema(of(kind), &mut |schema| {
            for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
                let ours = shape::by_cel(rule["rule"].as_str().unwrap()).unwrap();
                assert_eq!(rule["message"], ours.message);
                assert_eq!(rule["fieldPath"].as_str(), ours.field_path);
                used.insert(ours.cel);
            }
        });
    }
    assert_eq!(used, shape::RULES.iter().map(|rule| rule.cel).collect());
}

#[test]
fn everything_a_rule_can_look_at_is_bounded_so_that_the_api_server_can_price_the_rule() {
    let mut unbounded = Vec::new();
    for kind in Kind::ALL {
        every_schema(&of(kind)["properties"]["spec"], &mut |schema| {
            let bounded = match schema["type"].as_str() {
                Some("string") => schema.get("maxLength").is_some() || schema.get("enum").is_some(),
                Some("array") => schema.get("maxItems").is_some(),
                Some("object") => schema.get("properties").is_some() || schema.get("maxProperties").is_some(),
                Some(_) | None => true,
            };
            if !bounded {
                unbounded.push(schema.clone());
            }
        });
    }
    assert_eq!(unbounded, Vec::<Value>::new());
}

#[test]
fn every_field_is_described() {
    let mut silent = Vec::new();
    for kind in Kind::ALL {
        every_schema(&of(kind)["properties"]["spec"], &mut |schema| {
            for (name, field) in schema["properties"].as_object().into_iter().flatten() {
                if field["description"].as_str().is_none_or(str::is_empty) {
                    silent.push(name.clone());
                }
            }
        });
    }
    assert_eq!(silent, Vec::<String>::new());
}

#[test]
fn defaults_are_filled_in() {
    let mut alg = json!({
        "apiVersion": "callgate.io/v1alpha1", "kind": "PptpAlg", "metadata": {"name": "pptp"},
        "spec": {"echoTimeout": null},
    });
    assert_eq!(validate(Kind::PptpAlg, &mut alg), []);
    let expected = json!({
        "echoTimeout": "180s", "idleTimeout": "0s", "maxCalls": 0, "controlConnection": "PerClient", "validation": "Strict",
    });
    assert_eq!(alg["spec"], expected);

    let mut service = json!({
        "apiVersion": "callgate.io/v1alpha1", "kind": "Service", "metadata": {"name": "gre"}, "spec": {"protocol": 47},
    });
    assert_eq!(validate(Kind::Service, &mut service), []);
    let expected = json!({"protocol": 47, "sourcePorts": "0-65535", "maxSessions": 200, "forwardIcmpErrors": true});
    assert_eq!(service["spec"], expected);

    let mut rule = json!({
        "apiVersion": "callgate.io/v1alpha1", "kind": "IpRule", "metadata": {"name": "out"},
        "spec": {"order": 1, "action": "Drop", "source": {"podSelector": {}}, "services": [{"name": "all", "namespace": null}]},
    });
    assert_eq!(validate(Kind::IpRule, &mut rule), []);
    let expected = json!({
        "order": 1, "action": "Drop", "source": {"podSelector": {}}, "destination": {"cidrs": ["0.0.0.0/0"]},
        "services": [{"name": "all"}], "log": false,
    });
    assert_eq!(rule["spec"], expected);
}

#[test]
fn a_label_without_a_value_is_refused_as_not_every_client_leaves_it_there() {
    let mut rule = json!({
        "apiVersion": "callgate.io/v1alpha1", "kind": "IpRule", "metadata": {"name": "out"},
        "spec": {"order": 1, "action": "Drop", "source": {"podSelector": {"matchLabels": {"app": null}}}, "services": [{"name": "all"}]},
    });
    let message = "is empty: write text, \"\" for the empty value";
    let expected = vec![Problem { path: "spec.source.podSelector.matchLabels.app".into(), message: message.into() }];
    assert_eq!(validate(Kind::IpRule, &mut rule), expected);
}

#[test]
fn something_that_is_no_mapping_at_all_is_a_problem_of_the_object() {
    let message = "write a mapping with apiVersion, kind, metadata and spec, not a list";
    let expected = vec![Problem { path: String::new(), message: message.to_owned() }];
    assert_eq!(validate(Kind::Service, &mut json!([])), expected);
}
