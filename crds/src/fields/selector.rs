//! Label selectors: the bounded schema of ours, and what a selector selects.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use schemars::{Schema, SchemaGenerator, json_schema};

use crate::shape;

/// Whether `selector` selects an object with these labels: every label and every expression must hold; an empty
/// selector selects everything. An operator that does not exist selects nothing.
pub fn selects(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let equal = selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    let express = selector.match_expressions.iter().flatten().all(|expression| {
        let value = labels.get(&expression.key);
        let listed = || value.is_some_and(|value| expression.values.iter().flatten().any(|listed| listed == value));
        match expression.operator.as_str() {
            "In" => listed(),
            "NotIn" => !listed(),
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            _ => false,
        }
    });
    equal && express
}

/// The schema of a `metav1.LabelSelector` with sizes bounded (CEL rules are charged for the largest object possible)
/// and operators listed, which the upstream schema leaves to the code that reads it.
pub(crate) fn schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "properties": {
            "matchLabels": {
                "description": "Labels that must all be there with these values.",
                "type": "object",
                "maxProperties": 32,
                // Of a label without a value (`app:`, as an unset value of a template leaves it) the API server would drop the whole
                // label, and the selector would select everything. As in Kubernetes' own kinds it is the empty value.
                "additionalProperties": { "type": "string", "maxLength": 63, "default": "" },
            },
            "matchExpressions": {
                "description": "Conditions on labels that must all hold.",
                "type": "array",
                "maxItems": 16,
                "items": {
                    "type": "object",
                    "required": ["key", "operator"],
                    "properties": {
                        "key": { "description": "Label key.", "type": "string", "minLength": 1, "maxLength": 317 },
                        "operator": {
                            "description": "How the label is compared: In and NotIn with values, Exists and DoesNotExist without.",
                            "type": "string",
                            "enum": ["In", "NotIn", "Exists", "DoesNotExist"],
                        },
                        "values": {
                            "description": "Values to compare with.",
                            "type": "array",
                            "maxItems": 64,
                            "items": { "type": "string", "maxLength": 63 },
                        },
                    },
                    "x-kubernetes-validations": [{
                        "rule": shape::SELECTOR_VALUES.cel,
                        "message": shape::SELECTOR_VALUES.message,
                        "fieldPath": shape::SELECTOR_VALUES.field_path,
                    }],
                },
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selector(yaml: &str) -> LabelSelector {
        serde_saphyr::from_str(yaml).unwrap()
    }

    #[test]
    fn a_selector_selects_what_fulfils_all_of_it() {
        let till = BTreeMap::from([("app".to_owned(), "till".to_owned()), ("shop".to_owned(), "7".to_owned())]);
        let selects_till = |yaml| selects(&selector(yaml), &till);
        assert!(selects_till("{}"));
        assert!(selects_till("matchLabels: {app: till}"));
        assert!(!selects_till("matchLabels: {app: till, shop: '8'}"));
        assert!(selects_till("matchExpressions: [{key: shop, operator: In, values: ['7', '8']}]"));
        assert!(!selects_till("matchExpressions: [{key: shop, operator: NotIn, values: ['7']}]"));
        assert!(selects_till("matchExpressions: [{key: zone, operator: NotIn, values: [a]}]"));
        assert!(selects_till("matchExpressions: [{key: app, operator: Exists}]"));
        assert!(!selects_till("matchExpressions: [{key: app, operator: DoesNotExist}]"));
        assert!(selects_till("matchExpressions: [{key: zone, operator: DoesNotExist}]"));
        assert!(!selects_till("{matchLabels: {app: till}, matchExpressions: [{key: app, operator: Near}]}"));
    }
}
