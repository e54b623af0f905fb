//! The files made from this crate: a definition a kind, all of them in one, and the table of conditions.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::Value;

use crate::conditions::{ConditionType, TABLE};
use crate::definitions;

/// The command that writes the files, for headers and messages.
pub const COMMAND: &str = "cargo xtask generate";

/// A file as it has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GeneratedFile {
    /// Path from the repository's root, with `/`.
    pub path: String,
    /// The whole text.
    pub content: String,
}

/// Why the files cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// A definition is no JSON.
    #[error("definition of {kind} as JSON")]
    Json {
        /// Which.
        kind: String,
        /// Why.
        source: serde_json::Error,
    },
    /// A definition is no YAML.
    #[error("definition of {kind} as YAML")]
    Yaml {
        /// Which.
        kind: String,
        /// Why.
        source: serde_saphyr::ser::Error,
    },
}

/// Every generated file, sorted by path.
pub fn files() -> Result<Vec<GeneratedFile>, GenerateError> {
    let mut files = vec![GeneratedFile { path: "docs/conditions.md".to_owned(), content: conditions() }];
    let mut all = header("Every kind of Callgate, for kubectl apply --server-side.");
    for definition in definitions() {
        let names = &definition.spec.names;
        let yaml = yaml(&definition)?;
        all.push_str("---\n");
        all.push_str(&yaml);
        files.push(GeneratedFile {
            path: format!("crds/generated/{}.yaml", names.plural),
            content: header(&format!("The kind {} ({}).", names.kind, names.plural)) + &yaml,
        });
    }
    files.push(GeneratedFile { path: "crds/generated/all.yaml".to_owned(), content: all });
    files.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(files)
}

fn header(title: &str) -> String {
    format!("# {title}\n# Made from crds/src by `{COMMAND}`: change it there.\n")
}

fn yaml(definition: &CustomResourceDefinition) -> Result<String, GenerateError> {
    let kind = || definition.spec.names.kind.clone();
    let mut value = serde_json::to_value(definition).map_err(|source| GenerateError::Json { kind: kind(), source })?;
    whole_numbers(&mut value);
    serde_saphyr::to_string(&value).map_err(|source| GenerateError::Yaml { kind: kind(), source })
}

/// Writes `65535.0` as `65535`: bounds are floats in the type of a definition, and all of ours are whole.
fn whole_numbers(value: &mut Value) {
    match value {
        Value::Number(number) => {
            let text = number.to_string();
            if let Some(whole) = text.strip_suffix(".0").and_then(|whole| whole.parse::<i64>().ok()) {
                *value = whole.into();
            }
        }
        Value::Array(items) => items.iter_mut().for_each(whole_numbers),
        Value::Object(fields) => fields.values_mut().for_each(whole_numbers),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

/// The table of conditions as Markdown.
fn conditions() -> String {
    let mut text = format!(
        "<!-- Made from crds/src/conditions.rs by `{COMMAND}`: change it there. -->\n\
         # Conditions\n\n\
         Read this when `kubectl get` or `kubectl-callgate status` shows a reason and you want to know what to do.\n\n\
         Every object has the conditions Accepted, ResolvedRefs (where it names others) and Programmed, each with `observedGeneration`: a condition of an older generation says \
         nothing about what you have just applied. Reasons are stable; messages are for people and name the object, the \
         field and the remedy.\n"
    );
    for condition in ConditionType::ALL {
        text.push_str(&format!("\n## {condition}\n{}\n\n", condition.meaning()));
        text.push_str("| status | reason | meaning | what to do |\n| --- | --- | --- | --- |\n");
        for entry in TABLE.iter().filter(|entry| entry.condition == condition) {
            let status = if entry.status { "True" } else { "False" };
            let remedy = if entry.remedy.is_empty() { "–" } else { entry.remedy };
            text.push_str(&format!("| {status} | `{}` | {} | {remedy} |\n", entry.reason, entry.meaning));
        }
    }
    text
}
