//! The last good configuration in a ConfigMap: what runs although something it names has gone must outlive the operator too.
//!
//! A ConfigMap of its own and not, say, annotations on the rules: it is one write, one read before the first compile, and
//! nobody who may edit rules may edit it. gzip, because 1,000 rules as JSON come near the 1 MiB an object may have.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use callgate_compile::LastGood;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use kube::api::{Api, ObjectMeta, Patch, PatchParams};
use tokio::sync::watch;

use crate::FIELD_MANAGER;
use crate::client::in_time;

/// Name of the ConfigMap.
pub const NAME: &str = "callgate-last-good";
/// The key in its binaryData.
const KEY: &str = "last-good.json.gz";
/// Largest value that an API server takes with some room to spare (an object may have 1 MiB, base64 included).
const LARGEST: usize = 700 << 10;
/// Largest JSON that is unpacked again.
const LARGEST_JSON: u64 = 256 << 20;
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
pub async fn keep(client: Client, namespace: String, mut latest: watch::Receiver<Arc<LastGood>>) {
    let api: Api<ConfigMap> = Api::namespaced(client, &namespace);
    let mut written: Option<Arc<LastGood>> = None;
    loop {
        let now = Arc::clone(&latest.borrow_and_update());
        if written.as_ref() != Some(&now) {
            match in_time(save(&api, &now)).await {
                Ok(()) => written = Some(now),
                Err(error) => {
                    tracing::warn!("keeping the last good configuration: {error:#}");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            }
        }
        if latest.changed().await.is_err() {
            return;
        }
    }
}

/// Writes it once.
pub async fn save(api: &Api<ConfigMap>, last_good: &LastGood) -> Result<()> {
    let bytes = pack(last_good)?;
    if bytes.len() > LARGEST {
        bail!("it has {} bytes, and {LARGEST} is the most: references that go then end their rules", bytes.len());
    }
    let map = ConfigMap {
        metadata: ObjectMeta { name: Some(NAME.to_owned()), ..ObjectMeta::default() },
        binary_data: Some(BTreeMap::from([(KEY.to_owned(), ByteString(bytes))])),
        ..ConfigMap::default()
    };
    api.patch(NAME, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(map)).await?;
    Ok(())
}

fn pack(last_good: &LastGood) -> Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(&serde_json::to_vec(last_good)?)?;
    Ok(encoder.finish()?)
}

fn unpack(bytes: &[u8]) -> Result<LastGood> {
    let mut json = Vec::new();
    GzDecoder::new(bytes).take(LARGEST_JSON).read_to_end(&mut json)?;
    Ok(serde_json::from_slice(&json)?)
}

#[cfg(test)]
mod tests;
