//! `cargo xtask images`: the container images as OCI layouts in tars, the same bytes at every run, without a container engine.
//!
//! ```text
//!  build (static binaries) ─┐
//!  debian (test client)  ───┼─► set: which files ─► layout: layer, config, manifest, index ─► NAME.tar
//!  sbom (cargo tree) ───────┘        (pure)                      (pure)                     └► NAME.cdx.json
//! ```

mod build;
mod debian;
mod elf;
mod image;
mod layout;
mod sbom;
mod set;
mod table;

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::{packages, process, root};
use image::About;

/// Which images, from where, to where.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Directory for the tars; made if need be
    #[arg(long, value_name = "DIR", default_value = "target/images")]
    out: PathBuf,
    /// `release` is what a cluster should run; `dev` builds faster and runs slower
    #[arg(long, default_value = "release", value_parser = ["dev", "release"])]
    profile: String,
    /// Take the binaries from here and build nothing
    #[arg(long, value_name = "DIR")]
    bin_dir: Option<PathBuf>,
    /// Tag of the images; the chart of this checkout asks for its own version
    #[arg(long, default_value = env!("CARGO_PKG_VERSION"))]
    tag: String,
    /// Only these images; may be repeated
    #[arg(long = "only", value_name = "NAME", value_parser = set::NAMES)]
    only: Vec<String>,
}

/// Says to labs where the images are.
pub(crate) const VARIABLE: &str = "CALLGATE_IMAGES";

/// Where images for this machine's own clusters are.
const FOR_TESTS: &str = "target/images-dev";

/// Images for this machine's own clusters, quickly built; where they are.
pub(crate) fn for_tests() -> Result<PathBuf> {
    let out = PathBuf::from(FOR_TESTS);
    let tag = env!("CARGO_PKG_VERSION").to_owned();
    make(&Args { out: out.clone(), profile: "dev".to_owned(), bin_dir: None, tag, only: Vec::new() })?;
    Ok(root().join(out))
}

/// What `for_tests` does, as arguments of this program.
pub(crate) const AS_FOR_TESTS: [&str; 5] = ["images", "--profile", "dev", "--out", FOR_TESTS];

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    process::forward_signals();
    make(args)?;
    Ok(ExitCode::SUCCESS)
}

fn make(args: &Args) -> Result<()> {
    let started = Instant::now();
    let wanted: Vec<&set::Recipe> = set::RECIPES
        .iter()
        .filter(|recipe| args.only.is_empty() || args.only.iter().any(|n| n == recipe.name))
        .collect();
    if wanted.iter().any(|recipe| recipe.debian) {
        packages::ensure(packages::TEST_CLIENT)?;
    }
    let bin_dir = match &args.bin_dir {
        Some(dir) => dir.clone(),
        None => build::binaries(&wanted, &args.profile)?,
    };
    let out = root().join(&args.out);
    std::fs::create_dir_all(&out).with_context(|| format!("make {}", out.display()))?;
    let about = about(args)?;
    let mut rows = Vec::new();
    for recipe in wanted {
        let image = recipe.image(&bin_dir)?;
        let built = layout::layout(&image, &about)?;
        let tar = out.join(format!("{}.tar", image.name));
        std::fs::write(&tar, &built.tar).with_context(|| format!("write {}", tar.display()))?;
        let sbom = out.join(format!("{}.cdx.json", image.name));
        std::fs::write(&sbom, &image.sbom).with_context(|| format!("write {}", sbom.display()))?;
        rows.push(table::Row::of(&image, &built));
    }
    print!("{}", table::text(&rows));
    println!("{} in {}, {} s", about.tag, out.display(), started.elapsed().as_secs());
    println!("load one into a node:  ctr -n k8s.io images import {}/NAME.tar", out.display());
    Ok(())
}

/// Version, revision and time of what is being built.
fn about(args: &Args) -> Result<About> {
    let epoch = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(text) => text.parse().with_context(|| format!("SOURCE_DATE_EPOCH={text:?} is no number of seconds"))?,
        Err(_) => 0,
    };
    Ok(About {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        tag: args.tag.clone(),
        revision: revision()?,
        epoch,
        quick: args.profile == "dev",
    })
}

/// The commit, with `-dirty` where the tree differs from it; `unknown` outside a checkout.
fn revision() -> Result<String> {
    let git = |args: &[&str]| Command::new("git").args(args).current_dir(root()).output();
    let Ok(head) = git(&["rev-parse", "HEAD"]) else { return Ok("unknown".to_owned()) };
    if !head.status.success() {
        return Ok("unknown".to_owned());
    }
    let status = git(&["status", "--porcelain", "--untracked-files=no"]).context("git status")?;
    if !status.status.success() {
        bail!("git status: {}", String::from_utf8_lossy(&status.stderr));
    }
    let dirty = if status.stdout.is_empty() { "" } else { "-dirty" };
    Ok(format!("{}{dirty}", String::from_utf8_lossy(&head.stdout).trim()))
}

#[cfg(test)]
mod tests;
