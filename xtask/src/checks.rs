//! Checks on the tree itself: pure crates stay pure, files stay small, nothing is left unfinished.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::root;

/// Crates that decide and never act, and the folder each lives in.
const PURE: &[(&str, &str)] = &[
    ("callgate-pptp", "dataplane/pptp/src"),
    ("callgate-crds", "crds/src"),
    ("callgate-compile", "operator/compile/src"),
    ("callgate-proto", "dataplane/proto/src"),
];

/// Crates that do I/O, tell the time or give randomness: none may be in a pure crate's tree.
const IMPURE: &[&str] = &[
    "aya",
    "getrandom",
    "hyper",
    "mio",
    "netlink-sys",
    "nix",
    "notify",
    "rand",
    "rtnetlink",
    "rustls",
    "socket2",
    "tokio",
    "tonic",
];

/// Paths of std that act. `std::net` is fine for its address types.
const IMPURE_STD: &[&str] = &[
    "Instant::now",
    "SystemTime::now",
    "TcpListener",
    "TcpStream",
    "UdpSocket",
    "UnixStream",
    "std::env::",
    "std::fs",
    "std::process",
    "std::thread",
];

/// The longest file allowed.
const MAX_LINES: usize = 500;

/// Fails when a pure crate depends on anything that acts, or names such a part of std.
pub(crate) fn purity() -> Result<()> {
    let mut found = Vec::new();
    for (package, source) in PURE {
        let out = Command::new("cargo")
            .args(["tree", "--locked", "-p", package, "-e", "normal", "--prefix", "none", "--format", "{p}"])
            .current_dir(root())
            .output()
            .context("cargo tree")?;
        if !out.status.success() {
            bail!("cargo tree -p {package}: {}", String::from_utf8_lossy(&out.stderr));
        }
        let text = String::from_utf8_lossy(&out.stdout);
        let names: std::collections::BTreeSet<&str> = text.lines().filter_map(|line| line.split(' ').next()).collect();
        for name in IMPURE.iter().filter(|name| names.contains(*name)) {
            found.push(format!("{package} depends on {name}"));
        }
        for_each_rust_file(&root().join(source), &mut |path, text| {
            // The generators are programs, not part of the library.
            if path.components().any(|part| part.as_os_str() == "bin") || path.ends_with("main.rs") {
                return;
            }
            for word in IMPURE_STD.iter().filter(|word| product_part(text).contains(*word)) {
                found.push(format!("{} uses {word}", shown(path)));
            }
        })?;
    }
    report(found, "keep I/O, time and randomness in the shell (dataplane/agent, cli, operator)")
}

/// Fails on files above `MAX_LINES`, and on files without a first line that says what they do.
pub(crate) fn files() -> Result<()> {
    let mut found = Vec::new();
    for_each_rust_file(&root(), &mut |path, text| {
        let lines = text.lines().count();
        if lines > MAX_LINES {
            found.push(format!("{} has {lines} lines (at most {MAX_LINES})", shown(path)));
        }
        if !text.starts_with("//!") {
            found.push(format!("{} does not begin with a //! line that says what it does", shown(path)));
        }
    })?;
    report(found, "split by what varies; begin each file with what it does")
}

/// Fails on stubs and on tests that do not run.
pub(crate) fn unfinished() -> Result<()> {
    let mut found = Vec::new();
    let words = [
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
        concat!("#[", "ignore"),
        concat!("FIX", "ME"),
        concat!("XX", "X"),
    ];
    for_each_rust_file(&root(), &mut |path, text| {
        for (number, line) in text.lines().enumerate() {
            for word in words.iter().filter(|word| line.contains(*word)) {
                found.push(format!("{}:{} has {word}", shown(path), number + 1));
            }
        }
    })?;
    report(found, "finish it, or remove it and say so in the docs")
}

fn report(found: Vec<String>, remedy: &str) -> Result<()> {
    if found.is_empty() {
        return Ok(());
    }
    bail!("{}\n  remedy: {remedy}", found.join("\n  "))
}

/// The text before the file's own tests.
fn product_part(text: &str) -> &str {
    text.find("#[cfg(test)]").map_or(text, |end| &text[..end])
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

fn for_each_rust_file(dir: &Path, visit: &mut dyn FnMut(&Path, &str)) -> Result<()> {
    let mut entries: Vec<_> = std::fs::read_dir(dir)
        .with_context(|| format!("read {}", dir.display()))?
        .collect::<std::io::Result<Vec<_>>>()?
        .into_iter()
        .map(|entry| entry.path())
        .collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            for_each_rust_file(&path, visit)?;
        } else if name.ends_with(".rs") {
            let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
            visit(&path, &text);
        }
    }
    Ok(())
}
