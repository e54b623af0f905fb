//! The walk down an object along its structural schema.

use serde_json::{Map, Value};

use super::{Problem, describe, nearest};
use crate::shape::{self, ShapeRule};

/// How a list of ports becomes shorter.
const JOINED: &str = ", with neighbours joined into ranges, and divide the rest among services of a group";

/// Reports what is wrong with `value`, whose place in the object is `path`. Shape rules are asked only of values that
/// are otherwise right, as they may rely on it.
pub(super) fn check(schema: &Value, value: &Value, path: &str, problems: &mut Vec<Problem>) {
    let before = problems.len();
    let mut problem = |message: String| problems.push(Problem { path: path.to_owned(), message });
    match wrong_type(schema, value) {
        Some(message) => return problem(message),
        None => {
            if let Some(message) = out_of_bounds(schema, value) {
                problem(message);
            }
        }
    }
    match value {
        Value::Object(fields) => check_fields(schema, fields, path, problems),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                check(&schema["items"], item, &format!("{path}[{index}]"), problems);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    if problems.len() == before {
        check_shape(schema, value, path, problems);
    }
}

/// What is wrong with the type of the value, with the remedy for the usual causes.
fn wrong_type(schema: &Value, value: &Value) -> Option<String> {
    let int_or_string = schema["x-kubernetes-int-or-string"] == true;
    let right = match value {
        Value::Null => false,
        Value::Bool(_) => schema["type"] == "boolean",
        Value::Number(number) => (int_or_string || schema["type"] == "integer") && !number.is_f64(),
        Value::String(_) => int_or_string || schema["type"] == "string",
        Value::Array(_) => schema["type"] == "array",
        Value::Object(_) => schema["type"] == "object",
    };
    if right {
        return None;
    }
    let is = describe::value(value);
    let wanted = describe::wanted(schema);
    Some(match value {
        Value::Number(_)
            if has_rule(schema, &shape::DURATION) && (shape::DURATION.holds)(&Value::String(format!("{value}s"))) =>
        {
            format!("is {is} and has no unit: write {value}s")
        }
        Value::Number(_) | Value::Bool(_) if schema["type"] == "string" && schema.get("enum").is_none() => {
            format!("is {is} and must be text: put it in quotes, \"{value}\"")
        }
        Value::Null if schema["default"] == "" => "is empty: write text, \"\" for the empty value".to_owned(),
        Value::String(text) if schema["type"] == "integer" && text.parse::<i64>().is_ok() => {
            format!("is text and must be a number: write {text} without quotes")
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => {
            format!("is {is}: write {wanted}")
        }
    })
}

/// Whether it is the schema of a field with this rule.
fn has_rule(schema: &Value, wanted: &ShapeRule) -> bool {
    let rules = schema["x-kubernetes-validations"].as_array();
    rules.into_iter().flatten().any(|rule| rule["rule"] == wanted.cel)
}

/// What is wrong with the value itself: not listed, too small, too long.
fn out_of_bounds(schema: &Value, value: &Value) -> Option<String> {
    let is = describe::value(value);
    let wanted = describe::wanted(schema);
    if let Some(listed) = schema["enum"].as_array() {
        if listed.contains(value) {
            return None;
        }
        let near = value.as_str().and_then(|text| nearest(text, listed.iter().filter_map(Value::as_str)));
        let meant = near.map(|near| format!(" (did you mean {near}?)")).unwrap_or_default();
        return Some(format!("is {is}: write {wanted}{meant}"));
    }
    let below = |bound: &str, size: f64| schema[bound].as_f64().filter(|bound| size < *bound);
    let above = |bound: &str, size: f64| schema[bound].as_f64().filter(|bound| size > *bound);
    match value {
        Value::Number(number) => {
            let number = number.as_f64().unwrap_or(f64::NAN);
            (below("minimum", number).is_some() || above("maximum", number).is_some())
                .then(|| format!("is {is}: write {wanted}"))
        }
        Value::String(text) => {
            let length = text.chars().count();
            let short =
                below("minLength", size(length)).map(|_| "is empty: write a text, or remove the field".to_owned());
            short.or_else(|| {
                above("maxLength", size(length)).map(|most| {
                    let how = if has_rule(schema, &shape::PORTS) { JOINED } else { "" };
                    format!("has {length} characters: write at most {most}{how}")
                })
            })
        }
        Value::Array(items) => {
            let count = items.len();
            let few = below("minItems", size(count)).map(|_| "is an empty list: write at least one item".to_owned());
            few.or_else(|| {
                above("maxItems", size(count)).map(|most| {
                    format!("has {count} items: write at most {most}, and divide the rest among further objects")
                })
            })
        }
        Value::Object(fields) => {
            let count = fields.len();
            above("maxProperties", size(count)).map(|most| format!("has {count} entries: write at most {most}"))
        }
        Value::Null | Value::Bool(_) => None,
    }
}

/// Sizes as the floats that schemas write their bounds in; exact up to 2^53.
#[allow(clippy::cast_precision_loss)]
fn size(count: usize) -> f64 {
    count as f64
}

/// Missing, unknown and present fields of a mapping.
fn check_fields(schema: &Value, fields: &Map<String, Value>, path: &str, problems: &mut Vec<Problem>) {
    let place = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    for required in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if fields.get(required).is_none() {
            let message = format!("is missing: write {}", describe::wanted(&schema["properties"][required]));
            problems.push(Problem { path: place(required), message });
        }
    }
    let known = schema["properties"].as_object();
    for (name, value) in fields {
        // The API server checks these itself; `super::validate` does here.
        if path.is_empty() && matches!(name.as_str(), "apiVersion" | "kind" | "metadata") {
            continue;
        }
        if let Some(schema) = known.and_then(|known| known.get(name)) {
            check(schema, value, &place(name), problems);
        } else if schema["additionalProperties"].is_object() {
            check(&schema["additionalProperties"], value, &place(name), problems);
        } else {
            let names = || known.into_iter().flat_map(|known| known.keys().map(String::as_str));
            let names = || names().filter(|name| !(path.is_empty() && *name == "status"));
            let message = describe::misplaced_label(schema, name, value)
                .unwrap_or_else(|| describe::unknown(nearest(name, names()), names()));
            problems.push(Problem { path: place(name), message });
        }
    }
}

/// The rules of `x-kubernetes-validations`, by their Rust twins.
fn check_shape(schema: &Value, value: &Value, path: &str, problems: &mut Vec<Problem>) {
    for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        // A test holds that every rule of every schema is in the table.
        let Some(rule) = rule["rule"].as_str().and_then(shape::by_cel) else { continue };
        if !(rule.holds)(value) {
            let path = format!("{path}{}", rule.field_path.unwrap_or_default());
            problems.push(Problem { path, message: about(rule, value) });
        }
    }
}

/// A rule's message behind the text it is about, and what was meant by that where it can be told. The API server says the rule's only.
fn about(rule: &ShapeRule, value: &Value) -> String {
    let Value::String(text) = value else { return rule.message.to_owned() };
    let meant = shape::meant(rule, text).map(|meant| format!(" (did you mean {meant}?)")).unwrap_or_default();
    format!("is {}{meant}: {}", describe::value(value), rule.message)
}
