//! A next version of Callgate, made from this one: the chart and its images under another version, a kind with one field more.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::Cluster;
use super::callgate;

/// Its version.
pub const VERSION: &str = "0.99.0";

/// The field that its IpRules have beside those of this version, directly in `spec`: optional, a text.
pub const FIELD: &str = "remark";

/// Gives every node the images under the next version's tag, and writes the next version's chart below the cluster's directory.
///
/// # Errors
/// If an image is not there, or the chart cannot be written.
pub fn make(cluster: &Cluster) -> anyhow::Result<PathBuf> {
    for image in ["callgate-operator", "callgate-dataplane"] {
        let of = |version: &str| format!("localhost/{image}:{version}");
        cluster.machines.iter().try_for_each(|machine| machine.tag(&of(env!("CARGO_PKG_VERSION")), &of(VERSION)))?;
    }
    let chart = cluster.dir.join("next-chart");
    copy(&callgate::chart(), &chart)?;
    let file = chart.join("Chart.yaml");
    let text = fs::read_to_string(&file).context("Chart.yaml")?;
    let next = text.replace(env!("CARGO_PKG_VERSION"), VERSION);
    ensure!(next.matches(VERSION).count() == 2, "version and appVersion are not where they were: {text}");
    fs::write(&file, next).context("Chart.yaml")?;
    // What the chart itself says otherwise than before, whatever values an installation has.
    replace(&chart.join("values.yaml"), "terminationGracePeriodSeconds: 30", "terminationGracePeriodSeconds: 31")?;
    kind_with_one_field_more(&chart.join("files/crds/iprules.yaml"))?;
    Ok(chart)
}

/// Before the first property of `spec`, at its depth.
fn kind_with_one_field_more(file: &Path) -> anyhow::Result<()> {
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let lines: Vec<&str> = text.lines().collect();
    let spec = lines.iter().position(|line| line.trim() == "spec:" && line.starts_with("        "));
    let spec = spec.context("no spec in the kind")?;
    let properties = lines[spec..].iter().position(|line| line.trim() == "properties:").context("no properties")?;
    let (head, tail) = lines.split_at(spec + properties + 1);
    let depth = tail.first().map_or(0, |line| line.len() - line.trim_start().len());
    let pad = " ".repeat(depth);
    let field = [format!("{pad}{FIELD}:"), format!("{pad}  type: string")];
    let all: Vec<&str> =
        head.iter().copied().chain(field.iter().map(String::as_str)).chain(tail.iter().copied()).collect();
    fs::write(file, all.join("\n") + "\n").with_context(|| file.display().to_string())
}

fn replace(file: &Path, from: &str, to: &str) -> anyhow::Result<()> {
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    ensure!(text.contains(from), "{}: no {from:?}", file.display());
    fs::write(file, text.replace(from, to)).with_context(|| file.display().to_string())
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to).with_context(|| to.display().to_string())?;
    for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
        let entry = entry.context("entry")?;
        let target = to.join(entry.file_name());
        if entry.file_type().context("entry")?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target).with_context(|| target.display().to_string())?;
        }
    }
    Ok(())
}

/// Images that the containers of a component's pods run, each once.
///
/// # Errors
/// If kubectl fails or says something unknown.
pub fn images(cluster: &Cluster, component: &str) -> anyhow::Result<Vec<String>> {
    let label = format!("app.kubernetes.io/component={component}");
    let said = cluster.kubectl().run(&["-n", callgate::NAMESPACE, "get", "pods", "-l", &label, "-o", "json"])?;
    let pods: Value = serde_json::from_str(&said).context("pods")?;
    let living =
        pods["items"].as_array().into_iter().flatten().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
    let mut images: Vec<String> = living
        .flat_map(|pod| pod["spec"]["containers"].as_array().into_iter().flatten())
        .filter_map(|container| container["image"].as_str().map(str::to_owned))
        .collect();
    images.sort();
    images.dedup();
    Ok(images)
}
