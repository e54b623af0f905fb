//! Defaults of a structural schema, filled into an object the way the API server does it.

use serde_json::Value;

/// Removes fields that are null, then puts defaults where a field is missing, from the outside in.
pub(super) fn fill(schema: &Value, value: &mut Value) {
    match value {
        Value::Object(fields) => {
            let properties = schema["properties"].as_object();
            let known = |name: &str| {
                schema["additionalProperties"].is_object() || properties.is_some_and(|known| known.contains_key(name))
            };
            fields.retain(|name, value| !(value.is_null() && known(name)));
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
