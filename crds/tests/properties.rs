//! Properties: nothing panics, what is taken becomes a Rust type, and field rules agree with CEL on any text.
// Helpers count as tests here.
#![allow(clippy::unwrap_used)]

use callgate_crds::shape::{self, ShapeRule};
use callgate_crds::{IpRule, Kind, PptpAlg, Service, schema};
use kube::core::cel::Validator;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// Any JSON, with names and texts that mean something here more often than chance would have it.
fn any_json() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        prop::sample::select(vec![
            "TCP",
            "ANY",
            "1723",
            "0-65535",
            "180s",
            "10.0.0.0/8",
            "NAT",
            "Drop",
            "PptpAlg",
            "Strict",
            "In",
            "Exists",
            "a",
            "",
        ])
        .prop_map(str::to_owned),
        ".{0,8}",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        (0..300_i32).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text.prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        let name = prop_oneof![
            prop::sample::select(vec![
                "order",
                "action",
                "source",
                "destination",
                "services",
                "podSelector",
                "cidrs",
                "except",
                "name",
                "namespace",
                "protocol",
                "destinationPorts",
                "members",
                "algRef",
                "kind",
                "matchLabels",
                "matchExpressions",
                "echoTimeout",
            ])
            .prop_map(str::to_owned),
            ".{0,6}",
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map(name, inner, 0..4).prop_map(|fields| Value::from(Map::from_iter(fields))),
        ]
    })
}

/// Right objects with one field replaced by anything: these pass often enough to test what passing means.
fn nearly_right() -> impl Strategy<Value = (Kind, Value)> {
    let specs = vec![
        (Kind::PptpAlg, json!({"echoTimeout": "180s", "maxCalls": 3, "validation": "Strict"})),
        (
            Kind::Service,
            json!({"protocol": "TCP", "destinationPorts": "1723", "maxSessions": 1, "timeouts": {"initial": "1s"}}),
        ),
        (
            Kind::IpRule,
            json!({"order": 1, "action": "NAT", "source": {"podSelector": {}}, "services": [{"name": "a"}], "log": true}),
        ),
    ];
    (prop::sample::select(specs), any::<prop::sample::Index>(), any_json()).prop_map(|((kind, mut spec), field, value)| {
        let fields = spec.as_object_mut().unwrap();
        let name = fields.keys().nth(field.index(fields.len())).unwrap().clone();
        fields.insert(name, value);
        (kind, json!({"apiVersion": "callgate.io/v1alpha1", "kind": kind.name(), "metadata": {"name": "x"}, "spec": spec}))
    })
}

fn becomes_its_type(kind: Kind, object: Value) -> Result<(), serde_json::Error> {
    match kind {
        Kind::PptpAlg => serde_json::from_value::<PptpAlg>(object).map(drop),
        Kind::Service => serde_json::from_value::<Service>(object).map(drop),
        Kind::IpRule => serde_json::from_value::<IpRule>(object).map(drop),
    }
}

/// Whether CEL and Rust agree about a text.
fn agree(rule: &ShapeRule, text: &str) -> Result<(), TestCaseError> {
    let schema = json!({"type": "string", "x-kubernetes-validations": [{"rule": rule.cel, "message": "m"}]});
    let value = Value::from(text);
    prop_assert_eq!(Validator::new().validate(&schema, &value, None).is_ok(), (rule.holds)(&value), "{}", text);
    Ok(())
}

proptest! {
    #[test]
    fn no_json_makes_the_validator_panic_and_what_it_takes_becomes_the_type(mut object in any_json()) {
        for kind in Kind::ALL {
            if schema::validate(kind, &mut object).is_empty() {
                prop_assert!(becomes_its_type(kind, object.clone()).is_ok());
            }
        }
    }

    #[test]
    fn a_nearly_right_object_is_refused_or_becomes_its_type((kind, mut object) in nearly_right()) {
        if schema::validate(kind, &mut object).is_empty() {
            becomes_its_type(kind, object).unwrap();
        }
    }

    #[test]
    fn validating_twice_says_the_same((kind, mut object) in nearly_right()) {
        let first = schema::validate(kind, &mut object);
        prop_assert_eq!(schema::validate(kind, &mut object), first);
    }

    #[test]
    fn cel_and_rust_agree_about_any_duration(text in "[0-9]{0,6}(h|m|s|ms|d|)([0-9]{1,6}(h|m|s|ms| )){0,4}") {
        agree(&shape::DURATION, &text)?;
    }

    #[test]
    fn cel_and_rust_agree_about_any_ports(text in "[0-9]{0,6}(-[0-9]{0,6})?([,-][0-9]{1,5}(-[0-9]{1,5})?){0,3}") {
        agree(&shape::PORTS, &text)?;
    }

    #[test]
    fn cel_and_rust_agree_about_any_protocol(text in "(TCP|UDP|TCPUDP|ICMP|ANY|tcp|[+-]?[0-9]{0,4}| )(UDP)?") {
        agree(&shape::PROTOCOL, &text)?;
    }

    // Without leading zeros: the API server (Go's net/netip) refuses them as we do, the CEL interpreter here does not.
    #[test]
    fn cel_and_rust_agree_about_any_network(
        text in "((0|[1-9][0-9]{0,2})\\.){3}(0|[1-9][0-9]{0,2})(/(0|[1-9][0-9]{0,2})?)?",
        zeros in "(0|[1-9][0-9]{0,2})\\.0\\.0\\.0/(0|[1-9][0-9]?)",
    ) {
        agree(&shape::CIDR, &text)?;
        agree(&shape::CIDR, &zeros)?;
    }

    #[test]
    fn cel_and_rust_agree_about_any_text(text in ".{0,12}") {
        for rule in [&shape::DURATION, &shape::PORTS, &shape::PROTOCOL, &shape::CIDR] {
            agree(rule, &text)?;
        }
    }
}
