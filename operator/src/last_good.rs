//! The last good configuration in a ConfigMap: what runs although something it names has gone must outlive the operator too.
//!
//! A ConfigMap of its own and not, say, annotations on the rules: it is one write, one read before the first compile, and
//! nobody who may edit rules may edit it. gzip, because 1,000 rules as JSON come near the 1 MiB an object may have; beyond that
//! whole namespaces are left out (`pack`), so that what is there is never of another time than what runs.

mod pack;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use callgate_compile::LastGood;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ObjectMeta, Patch, PatchParams};
use kube::{Client, Error};
use tokio::sync::watch;

use crate::FIELD_MANAGER;
use crate::client::in_time;
use pack::{Packed, pack, unpack};

/// Name of the ConfigMap.
pub const NAME: &str = "callgate-last-good";
/// The key in its binaryData.
const KEY: &str = "last-good.json.gz";
/// Largest value that an API server takes with some room to spare (an object may have 1 MiB, base64 included).
const LARGEST: usize = 700 << 10;
/// Namespaces that a line of the log names.
const NAMED: usize = 20;
/// After a write that failed.
const PAUSE: Duration = Duration::from_secs(5);

/// Reads it; `None` where there is none.
///
/// # Errors
/// Where it cannot be read. Nothing may be compiled then: rules that only their last good version keeps alive would end.
pub async fn load(client: &Client, namespace: &str) -> Result<Option<LastGood>> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let what = || format!("ConfigMap {namespace}/{NAME}");
    let Some(map) = api.get_opt(NAME).await.with_context(what)? else { return Ok(None) };
    let Some(bytes) = map.binary_data.as_ref().and_then(|data| data.get(KEY)) else { return Ok(None) };
    unpack(&bytes.0).map(Some).with_context(|| format!("{}: delete it to start without a past", what()))
}

/// Writes the latest whenever it changes, again and again until it is done.
pub async fn keep(client: Client, namespace: String, latest: watch::Receiver<Arc<LastGood>>) {
    keep_at_most(LARGEST, client, namespace, latest).await;
}

async fn keep_at_most(most: usize, client: Client, namespace: String, mut latest: watch::Receiver<Arc<LastGood>>) {
    let api: Api<ConfigMap> = Api::namespaced(client, &namespace);
    let mut written: Option<Arc<LastGood>> = None;
    let mut told = BTreeSet::new();
    loop {
        let now = Arc::clone(&latest.borrow_and_update());
        if written.as_ref() != Some(&now) {
            let (of, own) = (Arc::clone(&now), namespace.clone());
            // Where there is much of it, it takes a while.
            let packed = tokio::task::spawn_blocking(move || pack(&of, &own, most)).await;
            let packed = match packed.map_err(anyhow::Error::from).flatten() {
                Ok(Packed { bytes, left_out }) => {
                    if left_out != told {
                        tell(&left_out);
                        told = left_out;
                    }
                    Some(bytes)
                }
                Err(error) => {
                    tracing::error!(
                        "the last good configuration cannot be packed, and until the next change none is kept: {error:#}"
                    );
                    None
                }
            };
            if write(&api, packed, &latest).await {
                written = Some(now);
            }
        }
        if latest.changed().await.is_err() {
            return;
        }
    }
}

/// Writes until it is done, or there is something newer; whether it is done. What the API server does not take is replaced by
/// nothing: old rules must not come back.
async fn write(api: &Api<ConfigMap>, mut packed: Option<Vec<u8>>, latest: &watch::Receiver<Arc<LastGood>>) -> bool {
    loop {
        let Err(error) = in_time(save(api, packed.clone())).await else { return true };
        if packed.is_some() && is_refused(&error) {
            tracing::error!(
                "the last good configuration is refused, and until the next change none is kept: {error:#}"
            );
            packed = None;
            continue;
        }
        tracing::warn!("keeping the last good configuration: {error:#}");
        tokio::time::sleep(PAUSE).await;
        if !matches!(latest.has_changed(), Ok(false)) {
            return false;
        }
    }
}

/// Whether the API server takes the object for too large, or not for good; again it would be the same.
fn is_refused(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(Error::Api(status)) if matches!(status.code, 413 | 422))
}

/// Writes it once; without anything packed it is one without a past.
async fn save(api: &Api<ConfigMap>, packed: Option<Vec<u8>>) -> Result<(), Error> {
    let map = ConfigMap {
        metadata: ObjectMeta { name: Some(NAME.to_owned()), ..ObjectMeta::default() },
        binary_data: packed.map(|bytes| BTreeMap::from([(KEY.to_owned(), ByteString(bytes))])),
        ..ConfigMap::default()
    };
    api.patch(NAME, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(map)).await.map(drop)
}

/// Says whose rules are not kept.
fn tell(left_out: &BTreeSet<String>) {
    if left_out.is_empty() {
        tracing::info!("ConfigMap {NAME} has room for all rules again");
        return;
    }
    let named: Vec<&str> = left_out.iter().map(String::as_str).take(NAMED).collect();
    tracing::warn!(
        namespaces = left_out.len(),
        "ConfigMap {NAME} has no room for the rules of: {}{}. References of theirs that go end their rules at the next restart",
        named.join(", "),
        if named.len() < left_out.len() { ", …" } else { "" }
    );
}

#[cfg(test)]
mod tests;
