//! Defaults of a structural schema, filled into an object the way the API server does it.

use serde_json::Value;

/// Removes fields that are null and puts defaults where a field is missing, from the outside in. Null under any name that the schema gives
/// a default is that.
pub(super) fn fill(schema: &Value, value: &mut Value) {
    match value {
        Value::Object(fields) => {
            let properties = schema["properties"].as_object();
            let named = |name: &str| properties.is_some_and(|known| known.contains_key(name));
            let known = |name: &str| schema["additionalProperties"].is_object() || named(name);
            let of_any_name = schema["additionalProperties"].get("default");
            for value in
                fields.iter_mut().filter_map(|(name, value)| (value.is_null() && !named(name)).then_some(value))
            {
                *value = of_any_name.cloned().unwrap_or_default();
            }
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
