//! Writes a kubeconfig for one identity.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::json;

use super::addresses;
use super::certificates::{Authority, Identity};

/// A kubeconfig (JSON is YAML) as `file`; gives `file` back.
pub(super) fn write(file: &Path, authority: &Authority, identity: &Identity) -> anyhow::Result<PathBuf> {
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "lab", "cluster": {
            "server": addresses::api(),
            "certificate-authority": authority.certificate(),
        }}],
        "users": [{"name": "user", "user": {
            "client-certificate": identity.certificate,
            "client-key": identity.key,
        }}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "user"}}],
        "current-context": "lab",
    });
    fs::write(file, serde_json::to_vec_pretty(&config)?).with_context(|| file.display().to_string())?;
    Ok(file.into())
}
