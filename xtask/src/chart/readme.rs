//! The chart's README: how to install, and every value with its default.

use std::fmt::Write;

use super::values::Documented;

const HEAD: &str = "<!-- Made from charts/callgate/values.yaml by `cargo xtask generate`: change it there. -->
# Callgate's chart

```sh
helm install callgate charts/callgate --namespace callgate-system --create-namespace --wait
helm test callgate --namespace callgate-system
```

What comes next, upgrades and the way out are in [docs/install.md](../../docs/install.md) and
[docs/uninstall.md](../../docs/uninstall.md). A value that does not exist, or of the wrong type, is refused at install
(values.schema.json).
";

/// The whole file.
pub(super) fn text(documented: &[Documented]) -> String {
    let mut text = HEAD.to_owned();
    let mut section = "";
    for value in documented {
        if value.section != section {
            section = &value.section;
            let _ = write!(text, "\n## {section}\n| value | default | what it is |\n| --- | --- | --- |\n");
        }
        let _ =
            writeln!(text, "| `{}` | `{}` | {} |", value.path.join("."), value.default, value.text.replace('|', "\\|"));
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_listed_under_their_headings() {
        let value = |section: &str, name: &str, default| Documented {
            section: section.to_owned(),
            path: vec!["a".to_owned(), name.to_owned()],
            text: "One|two.".to_owned(),
            default,
        };
        let made = text(&[value("A", "x", json!("")), value("A", "y", json!([])), value("B", "z", json!({ "k": 1 }))]);
        let expected = "\n## A\n| value | default | what it is |\n| --- | --- | --- |\n| `a.x` | `\"\"` | One\\|two. |\n\
                        | `a.y` | `[]` | One\\|two. |\n\n## B\n| value | default | what it is |\n| --- | --- | --- |\n\
                        | `a.z` | `{\"k\":1}` | One\\|two. |\n";
        assert_eq!(made.strip_prefix(HEAD), Some(expected));
    }
}
