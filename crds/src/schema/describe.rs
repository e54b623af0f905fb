//! Schemas and values in words, for messages.

use serde_json::Value;

/// A value as a message quotes it: itself where it is short, else what it is.
pub(super) fn value(value: &Value) -> String {
    match value {
        Value::Null => "empty".to_owned(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) if text.chars().count() <= 64 => format!("{text:?}"),
        Value::String(text) => format!("a text of {} characters", text.chars().count()),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a mapping".to_owned(),
    }
}

/// What a schema accepts, as the object of "write …".
pub(super) fn wanted(schema: &Value) -> String {
    if let Some(names) = schema["enum"].as_array() {
        let names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
        return match names.as_slice() {
            [only] => (*only).to_owned(),
            [] | [_, ..] => format!("one of {}", names.join(", ")),
        };
    }
    if schema["x-kubernetes-int-or-string"] == true {
        return "a whole number or text".to_owned();
    }
    match schema["type"].as_str().unwrap_or_default() {
        "integer" => format!("a whole number{}", range(&schema["minimum"], &schema["maximum"])),
        "boolean" => "true or false".to_owned(),
        "string" => "text".to_owned(),
        "array" => format!("a list of {}", plural(&schema["items"])),
        _ => {
            let required: Vec<&str> =
                schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            let properties = schema["properties"].as_object();
            let names: Vec<&str> =
                properties.into_iter().flat_map(|properties| properties.keys().map(String::as_str)).collect();
            match (required.as_slice(), names.as_slice()) {
                ([], []) => "a mapping".to_owned(),
                ([], names) => format!("a mapping with any of {}", names.join(", ")),
                (required, _) => format!("a mapping with {}", required.join(", ")),
            }
        }
    }
}

fn plural(items: &Value) -> String {
    match items["type"].as_str() {
        Some("string") => "texts".to_owned(),
        Some(_) => format!("mappings{}", wanted(items).trim_start_matches("a mapping")),
        None => "values".to_owned(),
    }
}

fn range(minimum: &Value, maximum: &Value) -> String {
    // A schema generated from unsigned types writes its bounds as floats.
    match (minimum.as_f64(), maximum.as_f64()) {
        (Some(minimum), Some(maximum)) => format!(" from {minimum} to {maximum}"),
        (Some(minimum), None) => format!(" not below {minimum}"),
        (None, Some(maximum)) => format!(" not above {maximum}"),
        (None, None) => String::new(),
    }
}

/// The message for a label that stands beside `matchLabels` where it belongs into it. Without it the selector would select everything.
pub(super) fn misplaced_label(schema: &Value, name: &str, is: &Value) -> Option<String> {
    let text = match is {
        Value::String(text) => text.clone(),
        Value::Number(_) | Value::Bool(_) => format!("\"{is}\""),
        Value::Null | Value::Array(_) | Value::Object(_) => return None,
    };
    let of_selector = schema["properties"].get("matchLabels").is_some();
    of_selector.then(|| format!("labels stand in matchLabels: write matchLabels: {{{name}: {text}}}"))
}

/// The message for a field that does not exist here.
pub(super) fn unknown<'a>(nearest: Option<&str>, known: impl IntoIterator<Item = &'a str>) -> String {
    match nearest {
        Some(nearest) => format!("there is no such field: did you mean {nearest}?"),
        None => {
            let known: Vec<&str> = known.into_iter().collect();
            format!("there is no such field: remove it; the fields here are {}", known.join(", "))
        }
    }
}
