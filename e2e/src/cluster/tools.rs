//! Finds the programs of a cluster: those that `cargo xtask` builds, and those of Debian.

use std::path::PathBuf;

use anyhow::bail;

/// Directories of the built programs, separated as in PATH. `cargo xtask` sets it.
pub const VARIABLE: &str = "CALLGATE_CLUSTER_TOOLS";

/// Programs of Debian that a cluster needs, by path or as PATH has them (not only Debian brings those), and the package of each.
const DEBIAN: [(&str, &str); 6] = [
    ("containerd", "containerd"),
    ("ctr", "containerd"),
    ("runc", "runc"),
    ("/usr/lib/cni/bridge", "containernetworking-plugins"),
    ("/bin/busybox", "busybox-static"),
    ("/usr/sbin/iptables", "iptables"),
];

/// A program that `cargo xtask` has built.
///
/// # Errors
/// If it is not there, with how to get it.
pub fn tool(name: &str) -> anyhow::Result<PathBuf> {
    let dirs = std::env::var_os(VARIABLE).unwrap_or_default();
    for dir in std::env::split_paths(&dirs) {
        let path = dir.join(name);
        if path.is_file() {
            return Ok(path);
        }
    }
    bail!(
        "{name} is in none of the directories of {VARIABLE}={}: run `cargo xtask cluster tools` and set it",
        dirs.display()
    )
}

/// Why no cluster can run here; `None` when one can.
pub fn missing() -> Option<String> {
    if std::env::var_os(VARIABLE).is_none() {
        return Some(format!("{VARIABLE} is not set: there is no Go, or this does not run through cargo xtask"));
    }
    if !nix::unistd::geteuid().is_root() {
        return Some("needs root".into());
    }
    let (_, package) = DEBIAN.iter().find(|(program, _)| !is_there(program))?;
    Some(format!("needs the Debian package {package}"))
}

/// An absolute path stays what it is, whatever it is joined to.
fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).exists())
}
