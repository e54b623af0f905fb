//! Small container images of the harness itself: one layer in an OCI layout in a tar, without a container engine.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// Holds a pod's namespaces. Never pulled: there is no registry in the name.
pub const PAUSE: &str = "localhost/callgate-lab-pause:1";
/// A shell and the usual tools.
pub const BUSYBOX: &str = "localhost/callgate-lab-busybox:1";

/// Where Debian's static busybox is.
const PROGRAM: &str = "/bin/busybox";

/// Writes both images into `dir`; the files.
///
/// # Errors
/// If busybox is not installed, or a file cannot be written.
pub(super) fn write_all(dir: &Path) -> anyhow::Result<Vec<std::path::PathBuf>> {
    let program = fs::read(PROGRAM).with_context(|| format!("{PROGRAM}: apt-get install busybox-static"))?;
    let list = std::process::Command::new(PROGRAM).arg("--list").output().context(PROGRAM)?;
    let tools = String::from_utf8_lossy(&list.stdout).into_owned();
    let forever = ["/bin/busybox", "sleep", "2147483647"];
    let images =
        [("pause", PAUSE, Vec::new()), ("busybox", BUSYBOX, tools.lines().filter(|name| *name != "busybox").collect())];
    let write = |(stem, name, links): (&str, &str, Vec<&str>)| {
        let file = dir.join(format!("{stem}.tar"));
        fs::write(&file, layout(name, &forever, &layer(&program, &links)?)?)
            .with_context(|| file.display().to_string())?;
        Ok(file)
    };
    images.into_iter().map(write).collect()
}

/// busybox, and a link to it for each of `links`.
fn layer(program: &[u8], links: &[&str]) -> anyhow::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for (dir, mode) in [("bin/", 0o755), ("tmp/", 0o1777)] {
        add(&mut archive, dir, tar::EntryType::Directory, mode, &[])?;
    }
    add(&mut archive, "bin/busybox", tar::EntryType::Regular, 0o755, program)?;
    for link in links {
        let mut header = header(tar::EntryType::Symlink, 0o777, 0);
        archive.append_link(&mut header, format!("bin/{link}"), "busybox").context("link")?;
    }
    archive.into_inner().context("layer")
}

/// The whole image, as `ctr images import` takes it.
fn layout(name: &str, entrypoint: &[&str], layer: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut blob = |kind: &str, content: &[u8]| -> anyhow::Result<Value> {
        let digest = hex(content);
        add(&mut archive, &format!("blobs/sha256/{digest}"), tar::EntryType::Regular, 0o644, content)?;
        let media = format!("application/vnd.oci.image.{kind}");
        Ok(json!({"mediaType": media, "digest": format!("sha256:{digest}"), "size": content.len()}))
    };
    let config = json!({
        "architecture": if std::env::consts::ARCH == "aarch64" { "arm64" } else { "amd64" },
        "os": "linux",
        "config": {"Entrypoint": entrypoint, "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", hex(layer))]},
    });
    let layer = blob("layer.v1.tar", layer)?;
    let config = blob("config.v1+json", &serde_json::to_vec(&config)?)?;
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": [layer]});
    let mut manifest = blob("manifest.v1+json", &serde_json::to_vec(&manifest)?)?;
    manifest["annotations"] = json!({"io.containerd.image.name": name});
    let index = json!({"schemaVersion": 2, "manifests": [manifest]});
    add(&mut archive, "index.json", tar::EntryType::Regular, 0o644, &serde_json::to_vec(&index)?)?;
    add(&mut archive, "oci-layout", tar::EntryType::Regular, 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    archive.into_inner().context("image")
}

fn header(kind: tar::EntryType, mode: u32, size: usize) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size as u64);
    header
}

fn add(
    to: &mut tar::Builder<Vec<u8>>,
    path: &str,
    kind: tar::EntryType,
    mode: u32,
    content: &[u8],
) -> anyhow::Result<()> {
    let mut header = header(kind, mode, content.len());
    to.append_data(&mut header, path, content).with_context(|| path.to_string())
}

fn hex(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|octet| format!("{octet:02x}")).collect()
}
