//! Builds the programs of the images: static, for this machine's architecture, without paths of this machine in them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::set::Recipe;
use crate::{bin_dir, process, root};

/// A cold release build on two busy cores takes a quarter of an hour.
const LIMIT: Duration = Duration::from_secs(3600);

/// Below the directory of all builds.
const OWN: &str = "static";

/// Builds what the recipes need and says where it is. One build an image, so that no image gets features that another needs.
pub(super) fn binaries(recipes: &[&Recipe], profile: &str) -> Result<PathBuf> {
    static_libc()?;
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    for recipe in recipes {
        println!("==> building {} ({profile}; the first time takes several minutes)", recipe.name);
        let mut cargo = Command::new("cargo");
        // With --target, build scripts and proc macros (which cannot be static) are built without RUSTFLAGS.
        cargo.args(["build", "--locked", "--profile", profile, "--target", &triple]).current_dir(root());
        // Apart from other builds: none of the two waits for the other.
        cargo.arg("--target-dir").arg(bin_dir(OWN));
        for (package, bin) in recipe.programs {
            cargo.args(["-p", package, "--bin", bin]);
        }
        cargo.env("RUSTFLAGS", flags()?);
        cargo.env("CARGO_PROFILE_DEV_STRIP", "debuginfo").env("CARGO_PROFILE_RELEASE_STRIP", "debuginfo");
        let status = process::run(cargo, LIMIT)?;
        if !status.success() {
            bail!("the build of {} ended with {status}", recipe.name);
        }
    }
    Ok(bin_dir(OWN).join(&triple).join(if profile == "dev" { "debug" } else { profile }))
}

/// Static, and the same bytes wherever checkout and registry lie.
fn flags() -> Result<String> {
    let cargo_home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")))
        .context("neither CARGO_HOME nor HOME is set")?;
    let flags = format!(
        "-C target-feature=+crt-static --remap-path-prefix={}=/callgate --remap-path-prefix={}=/cargo",
        root().display(),
        cargo_home.display()
    );
    if root().display().to_string().contains(' ') || cargo_home.display().to_string().contains(' ') {
        bail!("a path with a blank cannot be handed to rustc: {flags}; move the checkout or set CARGO_HOME");
    }
    Ok(flags)
}

/// A compiler without the archives ends with a page of linker messages; this says what is missing.
fn static_libc() -> Result<()> {
    for library in ["libc.a", "libm.a", "libpthread.a"] {
        let out = Command::new("cc")
            .arg(format!("-print-file-name={library}"))
            .output()
            .context("start `cc`; install Debian's gcc (apt-get install gcc libc6-dev)")?;
        // The compiler repeats the bare name where it finds no such file.
        let path = String::from_utf8_lossy(&out.stdout).trim().to_owned();
        if !Path::new(&path).is_absolute() {
            bail!("the static library {library} is missing: apt-get install libc6-dev");
        }
    }
    Ok(())
}
