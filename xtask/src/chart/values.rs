//! Reads values.yaml with its comments: `## SECTION`, and comments directly above a key are that value's documentation.

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// A documented value.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Documented {
    /// Heading it stands under.
    pub(super) section: String,
    /// Names from the top, such as `["operator", "replicas"]`.
    pub(super) path: Vec<String>,
    /// The comment, on one line.
    pub(super) text: String,
    /// What it is when nobody says otherwise.
    pub(super) default: Value,
}

/// Every documented value, in the order of the file. Fails where a value has no documentation, neither itself nor above it.
pub(super) fn parse(yaml: &str) -> Result<Vec<Documented>> {
    let all: Value = serde_saphyr::from_str(yaml).context("values.yaml")?;
    let mut found: Vec<Documented> = Vec::new();
    let mut section = String::new();
    let mut comment: Vec<&str> = Vec::new();
    let mut path: Vec<String> = Vec::new();
    for (number, line) in yaml.lines().enumerate() {
        let text = line.trim_start();
        let depth = (line.len() - text.len()) / 2;
        if let Some(heading) = line.strip_prefix("## ") {
            heading.clone_into(&mut section);
            comment.clear();
        } else if let Some(words) = text.strip_prefix('#') {
            comment.push(words.trim());
        } else if text.is_empty() {
            comment.clear();
        } else if covered(&found, &path, depth) {
            // Part of the default of a documented value above.
        } else {
            let Some((key, rest)) = text.split_once(':') else {
                bail!(
                    "values.yaml:{}: {line:?} is no `key: value`; this reader knows block maps and flow values only",
                    number + 1
                );
            };
            path.truncate(depth);
            path.push(key.to_owned());
            if comment.is_empty() {
                if !rest.trim().is_empty() {
                    bail!(
                        "values.yaml:{}: {} has no comment above it that says what it is",
                        number + 1,
                        path.join(".")
                    );
                }
                continue;
            }
            let default = path.iter().try_fold(&all, |value, key| value.get(key));
            found.push(Documented {
                section: section.clone(),
                path: path.clone(),
                text: std::mem::take(&mut comment).join(" "),
                default: default.with_context(|| format!("values.yaml has no {}", path.join(".")))?.clone(),
            });
        }
    }
    Ok(found)
}

/// Whether a line at `depth` is inside the value documented last.
fn covered(found: &[Documented], path: &[String], depth: usize) -> bool {
    found.last().is_some_and(|last| last.path == path && depth >= path.len())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn comments_belong_to_the_key_below_and_undocumented_children_to_the_key_above() {
        let yaml = "# About the file.\n\n## Part\n# How\n# many.\ncount: 2\ngroup:\n  # Limits.\n  resources:\n    cpu: 1\n    deep:\n      x: 2\n  # Flag.\n  flag: false\n";
        let of = |path: &[&str], text: &str, default| Documented {
            section: "Part".to_owned(),
            path: path.iter().map(|&key| key.to_owned()).collect(),
            text: text.to_owned(),
            default,
        };
        let expected = vec![
            of(&["count"], "How many.", json!(2)),
            of(&["group", "resources"], "Limits.", json!({ "cpu": 1, "deep": { "x": 2 } })),
            of(&["group", "flag"], "Flag.", json!(false)),
        ];
        assert_eq!(parse(yaml).expect("values"), expected);
    }

    #[test]
    fn a_value_without_documentation_is_an_error_that_names_it() {
        let error = parse("group:\n  flag: false\n").expect_err("undocumented");
        assert_eq!(error.to_string(), "values.yaml:2: group.flag has no comment above it that says what it is");
    }
}
