//! Puts the comments of values.yaml into values.schema.json, where editors show them; the rest of the schema is written by hand.

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::values::Documented;

/// The schema with descriptions. Fails on a value that the schema does not know, and on a default that has another type.
pub(super) fn described(schema: &str, documented: &[Documented]) -> Result<String> {
    let mut schema: Value = serde_json::from_str(schema).context("values.schema.json")?;
    for value in documented {
        let name = value.path.join(".");
        let mut property = &mut schema;
        for key in &value.path {
            let next = property.get_mut("properties").and_then(|properties| properties.get_mut(key));
            property = next.with_context(|| format!("values.schema.json has no property {name}: add it"))?;
        }
        let kind = match &value.default {
            Value::Null => bail!("values.yaml: {name} has no default; give one of its type"),
            Value::Bool(_) => "boolean",
            Value::Number(_) => "integer",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        if property["type"] != kind {
            bail!(
                "values.schema.json: {name} is {}, but its default in values.yaml is of type {kind}",
                property["type"]
            );
        }
        property["description"] = value.text.clone().into();
    }
    let mut text = serde_json::to_string_pretty(&schema).context("values.schema.json")?;
    text.push('\n');
    Ok(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn value(default: Value) -> Vec<Documented> {
        let path = vec!["a".to_owned(), "b".to_owned()];
        vec![Documented { section: String::new(), path, text: "Words.".to_owned(), default }]
    }

    #[test]
    fn a_comment_becomes_the_description_and_doing_it_again_changes_nothing() {
        let schema = json!({ "properties": { "a": { "properties": { "b": { "type": "integer", "minimum": 1 } } } } })
            .to_string();
        let once = described(&schema, &value(json!(2))).expect("once");
        let expected = json!({ "properties": { "a": { "properties": { "b": { "type": "integer", "minimum": 1, "description": "Words." } } } } });
        assert_eq!(serde_json::from_str::<Value>(&once).expect("JSON"), expected);
        assert_eq!(described(&once, &value(json!(2))).expect("twice"), once);
    }

    #[test]
    fn a_value_that_the_schema_lacks_or_has_otherwise_is_an_error() {
        let lacks = described("{}", &value(json!(2))).expect_err("lacks");
        let schema = json!({ "properties": { "a": { "properties": { "b": { "type": "string" } } } } }).to_string();
        let otherwise = described(&schema, &value(json!(2))).expect_err("otherwise");
        assert_eq!(lacks.to_string(), "values.schema.json has no property a.b: add it");
        let expected = "values.schema.json: a.b is \"string\", but its default in values.yaml is of type integer";
        assert_eq!(otherwise.to_string(), expected);
    }
}
