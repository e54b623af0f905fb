//! Writes a kubeconfig for one identity.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::{Value, json};

use super::addresses;
use super::certificates::{Authority, Identity};

/// A kubeconfig (JSON is YAML) as `file`; gives `file` back.
pub(super) fn write(file: &Path, authority: &Authority, identity: &Identity) -> anyhow::Result<PathBuf> {
    let user = json!({"client-certificate": identity.certificate, "client-key": identity.key});
    write_for(file, &authority.certificate(), &user)
}

/// The same for a user as the file has it, whatever proves who that is.
pub(super) fn write_for(file: &Path, authority: &Path, user: &Value) -> anyhow::Result<PathBuf> {
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "lab", "cluster": {"server": addresses::api(), "certificate-authority": authority}}],
        "users": [{"name": "user", "user": user}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "user"}}],
        "current-context": "lab",
    });
    fs::write(file, serde_json::to_vec_pretty(&config)?).with_context(|| file.display().to_string())?;
    Ok(file.into())
}
