//! The last good configuration in a ConfigMap: what runs although something it names has gone must outlive the operator too.
//!
//! A ConfigMap of its own and not, say, annotations on the rules: it is one write, one read before the first compile, and
//! nobody who may edit rules may edit it. gzip, because 1,000 rules as JSON come near the 1 MiB an object may have; beyond that
//! whole namespaces are left out (`pack`), so that what is there of different namespaces is of one time.
//!
//! Every write is of all of it, so what changes again and again waits a little: what is there may be so much older than what runs where
//! a leader was killed or has lost the Lease, and not where it could say farewell.

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
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

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
/// Between two writes, at least.
const BETWEEN: Duration = Duration::from_secs(10);
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

/// Writes the latest when it has changed, again and again until it is done: a first change at once, and further ones some time after
/// it. What was read is `stored`. Told `farewell` it writes what is left, and ends; where that is dropped it just ends.
pub async fn keep(
    client: Client,
    namespace: String,
    stored: Arc<LastGood>,
    latest: watch::Receiver<Arc<LastGood>>,
    farewell: oneshot::Receiver<()>,
) {
    keep_at_most(LARGEST, client, namespace, stored, latest, farewell).await;
}

async fn keep_at_most(
    most: usize,
    client: Client,
    namespace: String,
    mut stored: Arc<LastGood>,
    mut latest: watch::Receiver<Arc<LastGood>>,
    mut farewell: oneshot::Receiver<()>,
) {
    let api: Api<ConfigMap> = Api::namespaced(client, &namespace);
    let (mut written, mut told, mut is_over) = (None, BTreeSet::new(), false);
    loop {
        let is_stored = *latest.borrow_and_update() == stored;
        if is_stored && is_over {
            return;
        }
        if !is_over {
            let wait = async {
                match is_stored {
                    true => latest.changed().await.is_ok(),
                    false => {
                        tokio::time::sleep(pause(written, Instant::now())).await;
                        true
                    }
                }
            };
            tokio::select! {
                goes_on = wait => if !goes_on { return },
                word = &mut farewell => match word {
                    Ok(()) => is_over = true,
                    Err(_) => return,
                },
            }
        }
        let now = Arc::clone(&latest.borrow_and_update());
        if now == stored || (is_stored && !is_over) {
            continue;
        }
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
            (stored, written) = (now, Some(Instant::now()));
        }
    }
}

/// How long a change waits after the last write.
fn pause(written: Option<Instant>, now: Instant) -> Duration {
    written.map_or(Duration::ZERO, |written| (written + BETWEEN).saturating_duration_since(now))
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
