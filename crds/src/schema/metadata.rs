//! The parts of `metadata` that people write: names as Kubernetes wants them.

use serde_json::Value;

use super::{Problem, describe, nearest};

/// Fields of ObjectMeta (k8s.io/apimachinery `meta/v1`), which a CRD's schema does not list.
const FIELDS: [&str; 15] = [
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// Whether it is a name for an object: an RFC 1123 subdomain (at most 253 characters, labels separated by dots).
pub fn is_object_name(name: &str) -> bool {
    name.len() <= 253 && name.split('.').all(is_label)
}

/// Whether it is a name for a namespace: an RFC 1123 label (at most 63 characters).
pub fn is_label_name(name: &str) -> bool {
    name.len() <= 63 && is_label(name)
}

fn is_label(label: &str) -> bool {
    let inner = label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    !label.is_empty() && inner && !label.starts_with('-') && !label.ends_with('-')
}

/// Reports what is wrong with `metadata`.
pub(super) fn check(metadata: Option<&Value>, problems: &mut Vec<Problem>) {
    let mut problem = |path: &str, message: String| problems.push(Problem { path: path.to_owned(), message });
    let fields = match metadata {
        Some(Value::Object(fields)) => fields,
        Some(other) => {
            return problem(
                "metadata",
                format!("is {}: write a mapping with name and namespace", describe::value(other)),
            );
        }
        None => return problem("metadata", "is missing: write a mapping with name and namespace".into()),
    };
    match fields.get("name") {
        Some(Value::String(name)) if is_object_name(name) => {}
        Some(other @ (Value::Bool(_) | Value::Number(_))) => {
            problem("metadata.name", format!("is {other} and must be text: put it in quotes, as it was meant"));
        }
        Some(other) => problem(
            "metadata.name",
            format!(
                "is {}: write lower-case letters, digits, '-' and '.', for example pptp-service",
                describe::value(other)
            ),
        ),
        None => problem("metadata.name", "is missing: write a name, for example pptp-service".into()),
    }
    match fields.get("namespace") {
        Some(Value::String(namespace)) if is_label_name(namespace) => {}
        Some(other) => problem(
            "metadata.namespace",
            format!(
                "is {}: write at most 63 lower-case letters, digits and '-', for example pos",
                describe::value(other)
            ),
        ),
        None => {}
    }
    for map in ["labels", "annotations"] {
        match fields.get(map) {
            None | Some(Value::Null) => {}
            Some(Value::Object(entries)) => {
                for (key, value) in entries.iter().filter(|(_, value)| !value.is_string()) {
                    let message = format!(
                        "is {}: write text, in quotes where it looks like something else",
                        describe::value(value)
                    );
                    problem(&format!("metadata.{map}.{key}"), message);
                }
            }
            Some(other) => {
                problem(
                    &format!("metadata.{map}"),
                    format!("is {}: write a mapping of text to text", describe::value(other)),
                );
            }
        }
    }
    for unknown in fields.keys().filter(|field| !FIELDS.contains(&field.as_str())) {
        problem(&format!("metadata.{unknown}"), describe::unknown(nearest(unknown, FIELDS), FIELDS));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_kubernetes() {
        assert!(is_object_name("pptp-service"));
        assert!(is_object_name("a.b-1.c"));
        assert!(!is_object_name("a..b"));
        assert!(!is_object_name("PPTP"));
        assert!(!is_object_name("-a"));
        assert!(!is_object_name(""));
        assert!(!is_object_name(&"a".repeat(254)));
        assert!(is_label_name("pos"));
        assert!(!is_label_name("a.b"));
        assert!(!is_label_name(&"a".repeat(64)));
    }
}
