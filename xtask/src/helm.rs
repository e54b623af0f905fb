//! Helm, built from its Go module once and kept in the user's cache: Debian has none.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::process;

/// The module and its version. Go's checksum database vouches for it.
const MODULE: &str = "helm.sh/helm/v3/cmd/helm";
const VERSION: &str = "v3.19.4";

/// Says where helm is, to tests and to people who have their own.
pub(crate) const VARIABLE: &str = "CALLGATE_HELM";

/// Helm where there is one: what the variable names, else what was built before.
pub(crate) fn find() -> Option<PathBuf> {
    let named = std::env::var_os(VARIABLE).map(PathBuf::from);
    named.or_else(|| Some(folder().ok()?.join("helm"))).filter(|path| path.is_file())
}

/// Helm, built if need be (about two minutes, once). `None` without Go, which is said.
pub(crate) fn ensure() -> Result<Option<PathBuf>> {
    if let Some(found) = find() {
        return Ok(Some(found));
    }
    let go = Command::new("go").arg("version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !go.is_ok_and(|status| status.success()) {
        println!(
            "SKIPPED: no helm and no Go (1.24 or newer) to build it with: the chart is not rendered; or set {VARIABLE}"
        );
        return Ok(None);
    }
    println!("==> building helm {VERSION} (about two minutes, once)");
    let folder = folder()?;
    std::fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let mut build = Command::new("go");
    build.args(["install", "-trimpath", "-ldflags", "-s -w", &format!("{MODULE}@{VERSION}")]);
    build.env("GOBIN", &folder).env("CGO_ENABLED", "0").env("GOFLAGS", "");
    let status = process::run(build, Duration::from_secs(1800))?;
    if !status.success() {
        bail!("`go install {MODULE}@{VERSION}` ended with {status}");
    }
    Ok(Some(folder.join("helm")))
}

fn folder() -> Result<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))
        .context("neither XDG_CACHE_HOME nor HOME is set")?;
    Ok(cache.join("callgate").join(format!("helm-{VERSION}")))
}
