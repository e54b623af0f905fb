//! Packs an image: one gzipped layer, its config, manifest and index, all in one tar (OCI image layout 1.0).

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use anyhow::{Context, Result};
use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::image::{About, File, Image};

/// The layout in a tar, and figures about it.
#[derive(Debug)]
pub(super) struct Built {
    /// The tar.
    pub(super) tar: Vec<u8>,
    /// Octets of all files before compression.
    pub(super) unpacked: u64,
    /// `sha256:…` of the manifest: what a registry calls the image's digest.
    pub(super) digest: String,
}

/// Reference under which containerd keeps an imported image. There is no registry in it: `localhost` is never pulled from.
pub(super) fn reference(image: &Image, about: &About) -> String {
    format!("localhost/{}:{}", image.name, about.tag)
}

/// The same image and the same facts give the same bytes.
pub(super) fn layout(image: &Image, about: &About) -> Result<Built> {
    let plain = layer(&image.files, about.epoch).with_context(|| format!("layer of {}", image.name))?;
    let packed = gzip(&plain, if about.quick { Compression::fast() } else { Compression::best() })?;
    let created = i64::try_from(about.epoch)
        .ok()
        .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())
        .with_context(|| format!("SOURCE_DATE_EPOCH={} is no time", about.epoch))?
        .to_string();
    let labels = labels(image, about, &created);
    let config = json!({
        "created": created,
        "architecture": architecture(),
        "os": "linux",
        "config": { "User": image.user, "Entrypoint": image.entrypoint, "WorkingDir": "/", "Labels": labels },
        "rootfs": { "type": "layers", "diff_ids": [digest(&plain)] },
        "history": [{ "created": created, "created_by": "cargo xtask images" }],
    });
    let mut blobs = BTreeMap::new();
    let config = blob(&mut blobs, "application/vnd.oci.image.config.v1+json", serde_json::to_vec(&config)?);
    let layer = blob(&mut blobs, "application/vnd.oci.image.layer.v1.tar+gzip", packed);
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config,
        "layers": [layer],
        "annotations": labels,
    });
    let mut manifest = blob(&mut blobs, "application/vnd.oci.image.manifest.v1+json", serde_json::to_vec(&manifest)?);
    let digest = manifest["digest"].as_str().unwrap_or_default().to_owned();
    manifest["platform"] = json!({ "architecture": architecture(), "os": "linux" });
    manifest["annotations"] = json!({
        // containerd takes its name of the image from the first, skopeo and others the tag from the second.
        "io.containerd.image.name": reference(image, about),
        "org.opencontainers.image.ref.name": about.tag,
    });
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [manifest],
    });

    let mut files = BTreeMap::from([
        ("/index.json".to_owned(), File::data(serde_json::to_vec(&index)?)),
        ("/oci-layout".to_owned(), File::data(br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec())),
    ]);
    files.extend(blobs.into_iter().map(|(hex, content)| (format!("/blobs/sha256/{hex}"), File::data(content))));
    let unpacked = image.files.values().map(size).sum();
    Ok(Built { tar: layer_of_layout(&files, about.epoch)?, unpacked, digest })
}

fn size(file: &File) -> u64 {
    match file {
        File::Plain { content, .. } => content.len() as u64,
        File::Link(_) | File::Dir { .. } => 0,
    }
}

/// Keys of the OCI image specification, annotations.md.
fn labels(image: &Image, about: &About, created: &str) -> Value {
    json!({
        "org.opencontainers.image.title": image.name,
        "org.opencontainers.image.description": image.description,
        "org.opencontainers.image.version": about.version,
        "org.opencontainers.image.revision": about.revision,
        "org.opencontainers.image.created": created,
        "org.opencontainers.image.licenses": image.licences,
        "org.opencontainers.image.source": env!("CARGO_PKG_REPOSITORY"),
        "org.opencontainers.image.vendor": "Callgate",
    })
}

/// Go's name of this machine's architecture, which OCI uses.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn blob(blobs: &mut BTreeMap<String, Vec<u8>>, media_type: &str, content: Vec<u8>) -> Value {
    let digest = digest(&content);
    let descriptor = json!({ "mediaType": media_type, "digest": digest, "size": content.len() });
    blobs.insert(digest.trim_start_matches("sha256:").to_owned(), content);
    descriptor
}

fn digest(content: &[u8]) -> String {
    let hash = Sha256::digest(content);
    let hex: String = hash.iter().map(|octet| format!("{octet:02x}")).collect();
    format!("sha256:{hex}")
}

/// Without file name and time in the header.
fn gzip(content: &[u8], effort: Compression) -> Result<Vec<u8>> {
    let mut packer = GzBuilder::new().mtime(0).write(Vec::new(), effort);
    packer.write_all(content).context("gzip")?;
    packer.finish().context("gzip")
}

fn layer_of_layout(files: &BTreeMap<String, File>, epoch: u64) -> Result<Vec<u8>> {
    layer(files, epoch).context("pack the layout")
}

/// A tar in the order of paths, parents first; every entry belongs to 0:0 and has the same time.
fn layer(files: &BTreeMap<String, File>, epoch: u64) -> Result<Vec<u8>> {
    let mut all = files.clone();
    for parent in parents(files) {
        all.entry(parent).or_insert(File::Dir { mode: 0o755 });
    }
    let mut tar = tar::Builder::new(Vec::new());
    for (path, file) in &all {
        let inside = path.trim_start_matches('/');
        let mut header = tar::Header::new_gnu();
        header.set_mtime(epoch);
        header.set_uid(0);
        header.set_gid(0);
        let done = match file {
            File::Plain { mode, content } => {
                header.set_entry_type(tar::EntryType::Regular);
                header.set_mode(*mode);
                header.set_size(content.len() as u64);
                tar.append_data(&mut header, inside, content.as_slice())
            }
            File::Link(target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_mode(0o777);
                header.set_size(0);
                tar.append_link(&mut header, inside, target)
            }
            File::Dir { mode } => {
                header.set_entry_type(tar::EntryType::Directory);
                header.set_mode(*mode);
                header.set_size(0);
                tar.append_data(&mut header, format!("{inside}/"), std::io::empty())
            }
        };
        done.with_context(|| path.clone())?;
    }
    tar.into_inner().context("end of the tar")
}

fn parents(files: &BTreeMap<String, File>) -> BTreeSet<String> {
    let mut parents = BTreeSet::new();
    for path in files.keys() {
        let mut rest = path.as_str();
        while let Some(end) = rest.rfind('/').filter(|end| *end > 0) {
            rest = &rest[..end];
            parents.insert(rest.to_owned());
        }
    }
    parents
}
