//! Defaults of a structural schema, filled into an object the way the API server does it.

use serde_json::Value;

/// Removes fields that are null, then puts defaults where a field is missing, from the outside in. Null under a name that somebody has
/// chosen (a label) stays, for `check` to refuse: the API server makes the default of it, but not every client lets it come so far.
pub(super) fn fill(schema: &Value, value: &mut Value) {
    match value {
        Value::Object(fields) => {
            let properties = schema["properties"].as_object();
            let named = |name: &str| properties.is_some_and(|known| known.contains_key(name));
            fields.retain(|name, value| !(value.is_null() && named(name)));
            for (name, schema) in properties.into_iter().flatten() {
                if let (None, Some(default)) = (fields.get(name), schema.get("default")) {
                    fields.insert(name.clone(), default.clone());
                }
                if let Some(value) = fields.get_mut(name) {
                    fill(schema, value);
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                fill(&schema["items"], item);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
