//! What in the chart is made from elsewhere: kinds, version, README, descriptions in the schema.
//!
//! ```text
//!  crds/generated ───────────────────► charts/callgate/files/crds
//!  Cargo.toml (version) ─────────────► Chart.yaml
//!  values.yaml (comments) ─ values ──► README.md, descriptions in values.schema.json
//! ```

mod readme;
#[cfg(test)]
mod rendered;
mod schema;
mod values;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};

use crate::root;

/// Writes what differs, or with `check` only says so; false when something differs that may not.
pub(crate) fn generate(check: bool) -> Result<bool> {
    let chart = root().join("charts/callgate");
    let wanted = files(&root())?;
    let mut drifted = Vec::new();
    for (name, content) in &wanted {
        let path = chart.join(name);
        if std::fs::read_to_string(&path).is_ok_and(|is| is == *content) {
            continue;
        }
        drifted.push(name.clone());
        if !check {
            let folder = path.parent().unwrap_or(&chart);
            std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
            std::fs::write(&path, content).with_context(|| format!("write {}", path.display()))?;
        }
    }
    // A kind that is gone must go from the chart too.
    for name in names(&chart.join("files/crds"))? {
        let name = format!("files/crds/{name}");
        if !wanted.contains_key(&name) {
            if !check {
                std::fs::remove_file(chart.join(&name)).with_context(|| format!("remove {name}"))?;
            }
            drifted.push(name);
        }
    }
    for name in &drifted {
        match check {
            true => eprintln!(
                "error: charts/callgate/{name} is not what its source says: run `cargo xtask generate` and commit it"
            ),
            false => println!("wrote charts/callgate/{name}"),
        }
    }
    Ok(!check || drifted.is_empty())
}

/// Path in the chart to content.
fn files(root: &Path) -> Result<BTreeMap<String, String>> {
    let read = |path: &str| std::fs::read_to_string(root.join(path)).with_context(|| format!("read {path}"));
    let mut files = BTreeMap::new();
    for name in names(&root.join("crds/generated"))? {
        // All kinds once more in one file, for people without helm.
        if name != "all.yaml" {
            files.insert(format!("files/crds/{name}"), read(&format!("crds/generated/{name}"))?);
        }
    }
    let documented = values::parse(&read("charts/callgate/values.yaml")?)?;
    let chart = versioned(&read("charts/callgate/Chart.yaml")?, env!("CARGO_PKG_VERSION"));
    files.insert("README.md".to_owned(), readme::text(&documented));
    files.insert(
        "values.schema.json".to_owned(),
        schema::described(&read("charts/callgate/values.schema.json")?, &documented)?,
    );
    files.insert("Chart.yaml".to_owned(), chart);
    Ok(files)
}

/// Chart.yaml with the version of the workspace: the chart and the programs in its images belong together.
fn versioned(chart: &str, version: &str) -> String {
    let mut text = String::new();
    for line in chart.lines() {
        match line.split_once(": ") {
            Some(("version", _)) => text += &format!("version: {version}\n"),
            Some(("appVersion", _)) => text += &format!("appVersion: \"{version}\"\n"),
            _ => text += &format!("{line}\n"),
        }
    }
    text
}

/// Files in a folder, sorted; none where there is no folder.
fn names(folder: &Path) -> Result<Vec<String>> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(Vec::new()) };
    let mut names = Vec::new();
    for entry in entries {
        names.push(
            entry.with_context(|| format!("read {}", folder.display()))?.file_name().to_string_lossy().into_owned(),
        );
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspaces_version_is_put_into_both_fields_of_the_chart() {
        let text = "name: x\nversion: 0.0.1\nappVersion: \"0.0.2\"\n";
        assert_eq!(versioned(text, "1.2.3"), "name: x\nversion: 1.2.3\nappVersion: \"1.2.3\"\n");
    }
}
