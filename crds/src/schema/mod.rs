//! What an API server says about one object, said offline: types, ranges, unknown fields, defaults, shape rules.
//!
//! ```text
//!  Kind ──► definition() ──► openAPIV3Schema ─┐
//!  object (JSON) ──► defaults filled in ──► walk(schema, object) ──► [ path: message with remedy ]
//!                                             └─ x-kubernetes-validations: the Rust twin in crate::shape
//! ```

mod defaults;
mod describe;
mod metadata;
mod nearest;
mod walk;

use std::fmt;
use std::sync::LazyLock;

use serde_json::Value;

use crate::{API_VERSION, Kind};

pub use metadata::{is_label_name, is_object_name};
pub use nearest::nearest;

/// One thing that is wrong with an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The field, for example `spec.services[0].name`; empty is the object itself.
    pub path: String,
    /// What is wrong, and what to do.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() { f.write_str(&self.message) } else { write!(f, "{}: {}", self.path, self.message) }
    }
}

/// Schemas by kind, made from the Rust types once.
static SCHEMAS: LazyLock<[Value; 3]> = LazyLock::new(|| Kind::ALL.map(from_definition));

/// The structural schema of a kind, as the API server has it.
pub fn of(kind: Kind) -> &'static Value {
    let [alg, service, rule] = &*SCHEMAS;
    match kind {
        Kind::PptpAlg => alg,
        Kind::Service => service,
        Kind::IpRule => rule,
    }
}

/// Takes the schema out of the definition. A derived definition always has one version with a schema; a test holds that.
fn from_definition(kind: Kind) -> Value {
    let version = kind.definition().spec.versions.into_iter().next();
    let schema = version.and_then(|version| version.schema).and_then(|schema| schema.open_api_v3_schema);
    schema.and_then(|schema| serde_json::to_value(schema).ok()).unwrap_or_default()
}

/// Checks a whole object of this kind (`apiVersion`, `kind`, `metadata`, `spec`) and fills in its defaults. Problems come in
/// the order of their paths; where there are none, the object deserialises into the Rust type of the kind. `status` is
/// taken as it is: it is not the user's.
pub fn validate(kind: Kind, object: &mut Value) -> Vec<Problem> {
    let schema = of(kind);
    let Value::Object(fields) = &mut *object else {
        return vec![Problem {
            path: String::new(),
            message: format!(
                "write a mapping with apiVersion, kind, metadata and spec, not {}",
                describe::value(object)
            ),
        }];
    };
    fields.remove("status");
    let mut problems = Vec::new();
    let mut expect = |field: &str, wanted: &str| match fields.get(field) {
        Some(Value::String(is)) if is == wanted => {}
        Some(is) => problems.push(Problem {
            path: field.to_owned(),
            message: format!("is {}: write {field}: {wanted}", describe::value(is)),
        }),
        None => {
            problems.push(Problem { path: field.to_owned(), message: format!("is missing: write {field}: {wanted}") })
        }
    };
    expect("apiVersion", API_VERSION);
    expect("kind", kind.name());
    metadata::check(fields.get("metadata"), &mut problems);
    defaults::fill(schema, object);
    walk::check(schema, object, "", &mut problems);
    problems.sort();
    problems
}

#[cfg(test)]
mod tests;
