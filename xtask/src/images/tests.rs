//! What an image must be, on small made-up files: the same bytes twice, and what a container engine needs to take it.

use std::collections::BTreeMap;
use std::io::Read;

use serde_json::{Value, json};

use super::image::{About, File, Image};
use super::layout::layout;
use super::set::{NAMES, RECIPES};

fn image() -> Image {
    let files = BTreeMap::from([
        ("/program".to_owned(), File::program(vec![7; 5000])),
        ("/usr/share/doc/x/LICENSE".to_owned(), File::data(b"words".to_vec())),
        ("/bin/sh".to_owned(), File::Link("/program".to_owned())),
        ("/tmp".to_owned(), File::Dir { mode: 0o1777 }),
    ]);
    Image {
        name: "callgate-x",
        description: "An image",
        licences: "Apache-2.0",
        user: "65532:65532",
        entrypoint: vec!["/program".to_owned()],
        files,
        sbom: Vec::new(),
    }
}

fn about() -> About {
    About { version: "1.2.3".into(), tag: "t".into(), revision: "abc".into(), epoch: 1_700_000_000, quick: false }
}

/// Path, kind, mode, owner, time and content of each entry.
fn entries(tar: &[u8]) -> Vec<(String, u8, u32, u64, u64, Vec<u8>)> {
    let mut archive = tar::Archive::new(tar);
    let entries = archive.entries().expect("tar").map(|entry| {
        let mut entry = entry.expect("entry");
        let mut content = Vec::new();
        entry.read_to_end(&mut content).expect("content");
        let header = entry.header();
        let path = entry.path().expect("path").display().to_string();
        let owner = header.uid().expect("uid") + header.gid().expect("gid");
        let (mode, time) = (header.mode().expect("mode"), header.mtime().expect("time"));
        (path, header.entry_type().as_byte(), mode, owner, time, content)
    });
    entries.collect()
}

/// Follows a descriptor into the blobs, checking size and digest on the way.
fn blob(tar: &[u8], descriptor: &Value) -> Vec<u8> {
    use sha2::{Digest, Sha256};
    let digest = descriptor["digest"].as_str().expect("digest");
    let hex = digest.strip_prefix("sha256:").expect("sha256");
    let path = format!("blobs/sha256/{hex}");
    let found = entries(tar).into_iter().find(|entry| entry.0 == path);
    let content = found.expect("the blob is there").5;
    assert_eq!(descriptor["size"], json!(content.len()));
    assert_eq!(Sha256::digest(&content).iter().map(|octet| format!("{octet:02x}")).collect::<String>(), hex);
    content
}

#[test]
fn the_same_files_give_the_same_bytes_and_other_files_give_others() {
    let one = layout(&image(), &about()).expect("layout");
    let two = layout(&image(), &about()).expect("layout");
    assert_eq!((one.tar == two.tar, one.digest == two.digest), (true, true));
    let mut changed = image();
    changed.files.insert("/program".to_owned(), File::program(vec![8; 5000]));
    assert_ne!(layout(&changed, &about()).expect("layout").digest, one.digest);
}

#[test]
fn index_leads_to_manifest_config_and_layer_with_what_was_put_in() {
    let built = layout(&image(), &about()).expect("layout");
    let outer = entries(&built.tar);
    let names: Vec<&str> = outer.iter().map(|entry| entry.0.as_str()).filter(|name| name.len() < 60).collect();
    assert_eq!(names, ["blobs/", "blobs/sha256/", "index.json", "oci-layout"]);
    let index = outer.iter().find(|entry| entry.0 == "index.json").expect("index");
    let index: Value = serde_json::from_slice(&index.5).expect("JSON");
    let descriptor = &index["manifests"][0];
    assert_eq!(
        descriptor["annotations"],
        json!({ "io.containerd.image.name": "localhost/callgate-x:t", "org.opencontainers.image.ref.name": "t" })
    );
    let manifest: Value = serde_json::from_slice(&blob(&built.tar, descriptor)).expect("JSON");
    let config: Value = serde_json::from_slice(&blob(&built.tar, &manifest["config"])).expect("JSON");
    let labels = json!({
        "org.opencontainers.image.created": "2023-11-14T22:13:20Z",
        "org.opencontainers.image.description": "An image",
        "org.opencontainers.image.licenses": "Apache-2.0",
        "org.opencontainers.image.revision": "abc",
        "org.opencontainers.image.source": env!("CARGO_PKG_REPOSITORY"),
        "org.opencontainers.image.title": "callgate-x",
        "org.opencontainers.image.vendor": "Callgate",
        "org.opencontainers.image.version": "1.2.3",
    });
    assert_eq!(manifest["annotations"], labels);
    assert_eq!(
        config["config"],
        json!({ "User": "65532:65532", "Entrypoint": ["/program"], "WorkingDir": "/", "Labels": labels })
    );
    let mut layer = Vec::new();
    let packed = blob(&built.tar, &manifest["layers"][0]);
    flate2::read::GzDecoder::new(packed.as_slice()).read_to_end(&mut layer).expect("gzip");
    let directory = |path: &str, mode| (path.to_owned(), b'5', mode, 0, 1_700_000_000, Vec::new());
    let expected = [
        directory("bin/", 0o755),
        ("bin/sh".to_owned(), b'2', 0o777, 0, 1_700_000_000, Vec::new()),
        ("program".to_owned(), b'0', 0o755, 0, 1_700_000_000, vec![7; 5000]),
        directory("tmp/", 0o1777),
        directory("usr/", 0o755),
        directory("usr/share/", 0o755),
        directory("usr/share/doc/", 0o755),
        directory("usr/share/doc/x/", 0o755),
        ("usr/share/doc/x/LICENSE".to_owned(), b'0', 0o644, 0, 1_700_000_000, b"words".to_vec()),
    ];
    assert_eq!(entries(&layer), expected);
}

#[test]
fn a_time_beyond_all_calendars_is_refused() {
    let error = layout(&image(), &About { epoch: u64::MAX, ..about() }).expect_err("no such time");
    assert_eq!(error.to_string(), format!("SOURCE_DATE_EPOCH={} is no time", u64::MAX));
}

#[test]
fn every_image_can_be_named_on_the_command_line() {
    assert_eq!(RECIPES.iter().map(|recipe| recipe.name).collect::<Vec<_>>(), NAMES);
}
