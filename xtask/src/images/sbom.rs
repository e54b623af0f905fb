//! The bill of materials of an image: every crate that is linked in and every Debian package, as CycloneDX 1.5 JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::debian::Package;
use crate::root;

/// Asks cargo, and reads the checksums in Cargo.lock.
pub(super) fn of(image: &str, crates: &[&str], packages: &[Package]) -> Result<Vec<u8>> {
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let out = Command::new("cargo")
        .args(["metadata", "--locked", "--format-version", "1", "--filter-platform", &triple])
        .current_dir(root())
        .output()
        .context("cargo metadata")?;
    if !out.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&out.stderr));
    }
    let metadata = serde_json::from_slice(&out.stdout).context("output of cargo metadata")?;
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).context("read Cargo.lock")?;
    document(image, &metadata, &lock, crates, packages)
}

/// The document. Without time and serial number: the same sources give the same bytes.
fn document(image: &str, metadata: &Value, lock: &str, crates: &[&str], packages: &[Package]) -> Result<Vec<u8>> {
    let checksums = checksums(lock);
    let linked = linked(metadata, crates)?;
    let mut components = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let text = |field: &str| package[field].as_str().unwrap_or_default();
        if !linked.contains(text("id")) {
            continue;
        }
        let (name, version) = (text("name"), text("version"));
        let mut component = json!({
            "type": "library",
            "bom-ref": format!("pkg:cargo/{name}@{version}"),
            "purl": format!("pkg:cargo/{name}@{version}"),
            "name": name,
            "version": version,
        });
        if let Some(licence) = package["license"].as_str() {
            // Old crates write MIT/Apache-2.0 where SPDX has OR.
            component["licenses"] = json!([{ "expression": licence.replace('/', " OR ") }]);
        }
        if let Some(sum) = checksums.get(&(name.to_owned(), version.to_owned())) {
            component["hashes"] = json!([{ "alg": "SHA-256", "content": sum }]);
        }
        components.push(component);
    }
    for Package { name, version, architecture } in packages {
        let purl = format!("pkg:deb/debian/{name}@{version}?arch={architecture}");
        components.push(json!({ "type": "library", "bom-ref": purl, "purl": purl, "name": name, "version": version }));
    }
    components.sort_by(|one, other| one["purl"].as_str().cmp(&other["purl"].as_str()));
    let document = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": { "component": { "type": "container", "name": image, "version": env!("CARGO_PKG_VERSION") } },
        "components": components,
    });
    let mut text = serde_json::to_vec_pretty(&document).context("bill of materials")?;
    text.push(b'\n');
    Ok(text)
}

/// Ids of the crates themselves and of all that they link: no build script's, no proc macro's own, no test's.
fn linked(metadata: &Value, crates: &[&str]) -> Result<BTreeSet<String>> {
    let array = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let nodes: BTreeMap<String, Value> = array(&metadata["resolve"]["nodes"])
        .into_iter()
        .filter_map(|node| Some((node["id"].as_str()?.to_owned(), node)))
        .collect();
    let macros: BTreeSet<String> = array(&metadata["packages"])
        .into_iter()
        .filter(|package| {
            array(&package["targets"]).iter().any(|target| array(&target["kind"]).contains(&json!("proc-macro")))
        })
        .filter_map(|package| Some(package["id"].as_str()?.to_owned()))
        .collect();
    let mut open = Vec::new();
    for name in crates {
        let found = array(&metadata["packages"]).into_iter().find(|p| p["name"] == *name && p["source"].is_null());
        let id = found.and_then(|package| package["id"].as_str().map(str::to_owned));
        open.push(id.with_context(|| format!("the workspace has no package {name}"))?);
    }
    let mut done = BTreeSet::new();
    while let Some(id) = open.pop() {
        if macros.contains(&id) || !done.insert(id.clone()) {
            continue;
        }
        for dependency in array(&nodes.get(&id).with_context(|| format!("cargo metadata resolves no {id}"))?["deps"]) {
            // `null` is a normal dependency; the others are "dev" and "build".
            let normal = array(&dependency["dep_kinds"]).iter().any(|kind| kind["kind"].is_null());
            if let (true, Some(next)) = (normal, dependency["pkg"].as_str()) {
                open.push(next.to_owned());
            }
        }
    }
    Ok(done)
}

/// (name, version) to the SHA-256 of the crate's archive: the lines of Cargo.lock are that plain.
fn checksums(lock: &str) -> BTreeMap<(String, String), String> {
    lock.split("[[package]]")
        .filter_map(|block| {
            let field = |name: &str| {
                let line = block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = "));
                line.map(|value| value.trim_matches('"').to_owned())
            };
            Some(((field("name")?, field("version")?), field("checksum")?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, kind: &str, source: Value) -> Value {
        json!({ "id": name, "name": name, "version": "1.0.0", "license": "MIT/Apache-2.0", "source": source,
                "targets": [{ "kind": [kind] }] })
    }

    fn needs(name: &str, kind: Value) -> Value {
        json!({ "pkg": name, "dep_kinds": [{ "kind": kind }] })
    }

    #[test]
    fn what_is_linked_is_listed_and_what_only_builds_or_tests_is_not() {
        let metadata = json!({
            "packages": [
                package("ours", "bin", Value::Null), package("used", "lib", json!("registry")), package("deep", "lib", json!("registry")),
                package("derive", "proc-macro", json!("registry")), package("tool", "lib", json!("registry")),
                package("other", "bin", Value::Null),
            ],
            "resolve": { "nodes": [
                { "id": "ours", "deps": [needs("used", Value::Null), needs("derive", Value::Null), needs("tool", json!("dev"))] },
                { "id": "used", "deps": [needs("deep", Value::Null), needs("tool", json!("build"))] },
                { "id": "deep", "deps": [] }, { "id": "tool", "deps": [] }, { "id": "other", "deps": [] },
                { "id": "derive", "deps": [needs("tool", Value::Null)] },
            ] },
        });
        let lock = "[[package]]\nname = \"deep\"\nversion = \"1.0.0\"\nchecksum = \"abc\"\n";
        let debian = [Package { name: "ppp".into(), version: "2".into(), architecture: "amd64".into() }];
        let text = document("image", &metadata, lock, &["ours"], &debian).expect("document");
        let document: Value = serde_json::from_slice(&text).expect("JSON");
        let library = |name: &str| {
            json!({ "type": "library", "bom-ref": format!("pkg:cargo/{name}@1.0.0"), "purl": format!("pkg:cargo/{name}@1.0.0"),
                    "name": name, "version": "1.0.0", "licenses": [{ "expression": "MIT OR Apache-2.0" }] })
        };
        let mut deep = library("deep");
        deep["hashes"] = json!([{ "alg": "SHA-256", "content": "abc" }]);
        let purl = "pkg:deb/debian/ppp@2?arch=amd64";
        let ppp = json!({ "type": "library", "bom-ref": purl, "purl": purl, "name": "ppp", "version": "2" });
        assert_eq!(document["components"], json!([deep, library("ours"), library("used"), ppp]));
    }

    #[test]
    fn a_program_that_is_not_in_the_workspace_is_an_error() {
        let error = document("image", &json!({ "packages": [] }), "", &["absent"], &[]).expect_err("no such package");
        assert_eq!(error.to_string(), "the workspace has no package absent");
    }
}
