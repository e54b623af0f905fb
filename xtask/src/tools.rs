//! Builds the Go programs of a cluster from pinned modules, once: the result is kept in the user's cache.
//!
//! ```text
//!  e2e/cluster/tools/MODULE/{go.mod,go.sum} + flags ── hash ──► CACHE/callgate/tools/MODULE-HASH/PROGRAM
//! ```

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use sha2::{Digest, Sha256};

use crate::{process, root};

/// Where the programs are, for labs: directories separated as in PATH.
pub(crate) const VARIABLE: &str = "CALLGATE_CLUSTER_TOOLS";

/// Longest build of one program; the API server takes four minutes on two busy cores.
const LIMIT: Duration = Duration::from_secs(3600);

/// A Go module of ours and what is built from it.
struct Module {
    /// Folder in `e2e/cluster/tools`.
    name: &'static str,
    /// For the linker; `-s -w` leaves symbols out.
    ldflags: &'static str,
    /// File name and package.
    programs: &'static [(&'static str, &'static str)],
}

const MODULES: &[Module] = &[
    Module {
        name: "kubernetes",
        // Without it the server calls itself v0.0.0, and charts that ask for a version do not install.
        ldflags: "-s -w -X k8s.io/component-base/version.gitVersion=v1.34.4",
        programs: &[
            ("etcd", "go.etcd.io/etcd/server/v3"),
            ("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
            ("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager"),
            ("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler"),
            ("kubelet", "k8s.io/kubernetes/cmd/kubelet"),
            ("kube-proxy", "k8s.io/kubernetes/cmd/kube-proxy"),
            ("kubectl", "k8s.io/kubernetes/cmd/kubectl"),
        ],
    },
    Module { name: "coredns", ldflags: "-s -w", programs: &[("coredns", "github.com/coredns/coredns")] },
    Module { name: "helm", ldflags: "-s -w", programs: &[("helm", "helm.sh/helm/v3/cmd/helm")] },
];

/// For tests of scale only.
const KWOK: Module = Module { name: "kwok", ldflags: "-s -w", programs: &[("kwok", "sigs.k8s.io/kwok/cmd/kwok")] };

/// The oldest Go that builds them, as their go.mod say.
const GO: (u32, u32) = (1, 24);

/// Builds what is missing; the value for `VARIABLE`. `None` without Go, or with one that is too old, which is said.
pub(crate) fn ensure(with_kwok: bool) -> Result<Option<OsString>> {
    ensure_all(MODULES.iter().chain(with_kwok.then_some(&KWOK)))
}

/// Builds helm alone if it is missing: all that the chart's own tests need.
pub(crate) fn ensure_helm() -> Result<Option<OsString>> {
    ensure_all(MODULES.iter().filter(|module| module.name == "helm"))
}

/// Helm: where `VARIABLE` says, else where it was built before.
#[cfg(test)]
pub(crate) fn helm() -> Option<PathBuf> {
    let named = std::env::var_os(VARIABLE).map(|dirs| std::env::split_paths(&dirs).collect::<Vec<_>>());
    let module = MODULES.iter().find(|module| module.name == "helm")?;
    let dirs = named.into_iter().flatten().chain(dir_of(module));
    dirs.map(|dir| dir.join("helm")).find(|path| path.is_file())
}

fn ensure_all<'a>(modules: impl Iterator<Item = &'a Module>) -> Result<Option<OsString>> {
    let mut dirs = Vec::new();
    for module in modules {
        let dir = dir_of(module)?;
        fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
        if missing(module, &dir) > 0 {
            if let Some(why) = without_go(module) {
                println!("{why}: the programs of a cluster cannot be built; install Go from https://go.dev/dl");
                return Ok(None);
            }
            build(module, &dir)?;
        }
        dirs.push(dir);
    }
    Ok(Some(std::env::join_paths(dirs).context("a directory of the cache has a colon in its name")?))
}

fn missing(module: &Module, dir: &Path) -> usize {
    module.programs.iter().filter(|(name, _)| !dir.join(name).is_file()).count()
}

/// Why Go cannot build it; `None` if it can.
fn without_go(module: &Module) -> Option<String> {
    let ask = |dir: &Path| {
        let asked = Command::new("go").args(["env", "GOVERSION"]).stderr(Stdio::null()).current_dir(dir).output();
        let said = asked.ok().filter(|out| out.status.success())?;
        Some(String::from_utf8_lossy(&said.stdout).into_owned())
    };
    // Beside the go.mod, Go from 1.21 on fetches a newer one of itself; where it cannot, it still says elsewhere which it is.
    too_old(ask(&folder(module)).or_else(|| ask(&root())).as_deref())
}

/// By what `go env GOVERSION` has said: `go1.24.3`, `go1.25rc1`, `devel go1.26-0123456`; nothing before Go 1.16.
fn too_old(said: Option<&str>) -> Option<String> {
    let wanted = format!("{}.{} or newer", GO.0, GO.1);
    let Some(said) = said.map(str::trim) else { return Some(format!("no Go ({wanted})")) };
    let version = said.split_whitespace().find_map(|word| {
        let mut numbers = word.strip_prefix("go")?.split(|c: char| !c.is_ascii_digit()).map(str::parse);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    });
    match version {
        Some(version) if version >= GO => None,
        Some((major, minor)) => Some(format!("the Go here is {major}.{minor}, not {wanted}")),
        None => Some(format!("the Go here does not say that it is {wanted}, but {said:?}")),
    }
}

/// One process at a time; each program appears when it is whole.
fn build(module: &Module, dir: &Path) -> Result<()> {
    let file = File::create(dir.join(".lock")).context("lock file")?;
    let lock = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| error).context("lock the cache")?;
    let count = missing(module, dir);
    let wanted = module.programs.iter().filter(|(name, _)| !dir.join(name).is_file());
    for (index, (name, package)) in wanted.enumerate() {
        println!(
            "==> building {name} ({} of {count} of {}; once, then kept in {})",
            index + 1,
            module.name,
            dir.display()
        );
        let begun = Instant::now();
        let partial = dir.join(format!(".{name}.part"));
        let mut go = Command::new("go");
        go.args(flags(module)).arg("-o").arg(&partial).arg(package);
        go.env("CGO_ENABLED", "0").env("GOFLAGS", "").env("GOWORK", "off").current_dir(folder(module));
        let status = process::run(go, LIMIT)?;
        if !status.success() {
            bail!("`go build {package}` in {} ended with {status}", folder(module).display());
        }
        fs::rename(&partial, dir.join(name)).with_context(|| format!("put {name} into the cache"))?;
        println!("    {} s", begun.elapsed().as_secs());
    }
    drop(lock);
    Ok(())
}

/// Two at a time: each compiler process takes up to a gigabyte.
fn flags(module: &Module) -> Vec<&'static str> {
    vec!["build", "-p", "2", "-trimpath", "-buildvcs=false", "-mod=readonly", "-ldflags", module.ldflags]
}

fn folder(module: &Module) -> PathBuf {
    root().join("e2e/cluster/tools").join(module.name)
}

/// In the cache, named by everything that makes the programs what they are.
fn dir_of(module: &Module) -> Result<PathBuf> {
    let mut hash = Sha256::new();
    for file in ["go.mod", "go.sum"] {
        let path = folder(module).join(file);
        hash.update(fs::read(&path).with_context(|| format!("read {}", path.display()))?);
    }
    for word in flags(module) {
        hash.update(word);
        hash.update([0]);
    }
    // Not on x86_64, so that what CI and people have there since before others were told apart stays theirs.
    if std::env::consts::ARCH != "x86_64" {
        hash.update(std::env::consts::ARCH);
    }
    let short: String = hash.finalize().iter().take(8).map(|octet| format!("{octet:02x}")).collect();
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))
        .context("neither XDG_CACHE_HOME nor HOME is set")?;
    Ok(cache.join("callgate/tools").join(format!("{}-{short}", module.name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_go_that_is_too_old_is_none_and_people_hear_which_it_is() {
        for fine in
            ["go1.24\n", "go1.24.0", "go1.25rc1", "go1.26.8 X:nocoverageredesign", "devel go1.26-0123456 Mon", "go2.0"]
        {
            assert_eq!(too_old(Some(fine)), None, "{fine}");
        }
        let old = "the Go here is 1.19, not 1.24 or newer";
        assert_eq!(too_old(Some("go1.19.8\n")).as_deref(), Some(old));
        assert_eq!(too_old(Some("devel go1.19-0123456")).as_deref(), Some(old));
        let silent = "the Go here does not say that it is 1.24 or newer, but \"\"";
        assert_eq!(too_old(Some("\n")).as_deref(), Some(silent));
        assert_eq!(too_old(None).as_deref(), Some("no Go (1.24 or newer)"));
    }
}
