//! The bill of materials of an image: every crate that is linked in and every Debian package, as CycloneDX 1.5 JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::debian::Package;
use crate::root;

/// Asks cargo for what a build of exactly these packages links (no build script's, no proc macro's own, no test's), and reads the
/// checksums in Cargo.lock.
pub(super) fn of(image: &str, crates: &[&str], packages: &[Package]) -> Result<Vec<u8>> {
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let mut tree = Command::new("cargo");
    tree.args(["tree", "--locked", "--target", &triple, "--edges", "normal,no-proc-macro"]);
    tree.args(["--prefix", "none", "--format", "{p}\t{l}"]).current_dir(root());
    for name in crates {
        tree.args(["-p", name]);
    }
    let out = tree.output().context("cargo tree")?;
    if !out.status.success() {
        bail!("cargo tree: {}", String::from_utf8_lossy(&out.stderr));
    }
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).context("read Cargo.lock")?;
    document(image, &String::from_utf8_lossy(&out.stdout), &lock, packages)
}

/// The document. Without time and serial number: the same sources give the same bytes.
fn document(image: &str, tree: &str, lock: &str, packages: &[Package]) -> Result<Vec<u8>> {
    let checksums = checksums(lock);
    let mut components: Vec<Value> = Vec::new();
    for (name, version, licence) in linked(tree)? {
        let purl = format!("pkg:cargo/{name}@{version}");
        let mut component =
            json!({ "type": "library", "bom-ref": purl, "purl": purl, "name": name, "version": version });
        if !licence.is_empty() {
            // Old crates write MIT/Apache-2.0 where SPDX has OR.
            component["licenses"] = json!([{ "expression": licence.replace('/', " OR ") }]);
        }
        if let Some(sum) = checksums.get(&(name, version)) {
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

/// Name, version and licence of each line `NAME vVERSION [(PLACE)]<tab>LICENCE[ (*)]`; blank lines part the roots.
fn linked(tree: &str) -> Result<BTreeSet<(String, String, String)>> {
    let lines = tree.lines().filter(|line| !line.is_empty());
    let found = lines.map(|line| {
        let (package, licence) = line.split_once('\t')?;
        let mut words = package.split(' ');
        let (name, version) = (words.next()?, words.next()?.strip_prefix('v')?);
        Some((name.to_owned(), version.to_owned(), licence.trim_end_matches(" (*)").to_owned()))
    });
    found
        .collect::<Option<_>>()
        .with_context(|| format!("cargo tree says something else than names, versions and licences:\n{tree}"))
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

    #[test]
    fn crates_are_listed_once_with_licence_and_checksum_and_packages_after_them() {
        let tree = "ours v1.0.0 (/somewhere/ours)\tApache-2.0\ndeep v2.1.0\tMIT/Apache-2.0\n\nother v1.0.0 (/somewhere)\tApache-2.0\n\
                    deep v2.1.0\tMIT/Apache-2.0 (*)\nbare v0.1.0\t\n";
        let lock = "[[package]]\nname = \"deep\"\nversion = \"2.1.0\"\nchecksum = \"abc\"\n";
        let debian = [Package { name: "ppp".into(), version: "2".into(), architecture: "amd64".into() }];
        let text = document("image", tree, lock, &debian).expect("document");
        let document: Value = serde_json::from_slice(&text).expect("JSON");
        let library = |purl: &str, name: &str, version: &str, licence: &str| {
            json!({ "type": "library", "bom-ref": purl, "purl": purl, "name": name, "version": version,
                    "licenses": [{ "expression": licence }] })
        };
        let mut deep = library("pkg:cargo/deep@2.1.0", "deep", "2.1.0", "MIT OR Apache-2.0");
        deep["hashes"] = json!([{ "alg": "SHA-256", "content": "abc" }]);
        let mut bare = library("pkg:cargo/bare@0.1.0", "bare", "0.1.0", "");
        let mut ppp = library("pkg:deb/debian/ppp@2?arch=amd64", "ppp", "2", "");
        for unlicensed in [&mut bare, &mut ppp] {
            unlicensed.as_object_mut().expect("object").remove("licenses");
        }
        let other = library("pkg:cargo/other@1.0.0", "other", "1.0.0", "Apache-2.0");
        let ours = library("pkg:cargo/ours@1.0.0", "ours", "1.0.0", "Apache-2.0");
        assert_eq!(document["components"], json!([bare, deep, other, ours, ppp]));
    }

    #[test]
    fn output_that_is_no_list_of_crates_is_an_error() {
        assert!(document("image", "warning: something\n", "", &[]).is_err());
    }
}
