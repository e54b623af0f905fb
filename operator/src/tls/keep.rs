//! The authority in its Secret, the bundle in its ConfigMap, the leaf in the channel: looked at again and again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Api, ObjectMeta, Patch, PatchParams};
use kube::{Client, ResourceExt};
use rustls::ServerConfig;
use tokio::sync::watch;

use super::{Authority, Lifetimes, Pair, server_config};
use crate::FIELD_MANAGER;
use crate::client::in_time;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(20);
/// Keys of the Secret.
const CURRENT: (&str, &str) = ("ca.crt", "ca.key");
const NEXT: (&str, &str) = ("next-ca.crt", "next-ca.key");
const OLD: &str = "old-ca.crt";

/// What the objects are called, and the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// Namespace of both objects.
    pub namespace: String,
    /// Name of the Secret and of the ConfigMap.
    pub ca: String,
    /// Names of the server, for its certificate.
    pub server: Vec<String>,
}

/// Keeps the authority.
pub struct Keeper {
    client: Client,
    names: Names,
    lifetimes: Lifetimes,
    authority: Authority,
    /// What it is to be, until it is in the Secret: made once, for each time agents would have to read another one.
    due: Option<Authority>,
    leaf: Pair,
    /// The authority that signed `leaf`.
    signed_by: String,
    sender: watch::Sender<Arc<ServerConfig>>,
}

impl Keeper {
    /// Reads the authority, or makes the first one; publishes it; issues a certificate.
    ///
    /// # Errors
    /// Where an object cannot be read or written. To be tried again: what was made is read then.
    pub async fn start(client: Client, names: Names, lifetimes: Lifetimes, now: Timestamp) -> Result<Self> {
        let secrets: Api<Secret> = Api::namespaced(client.clone(), &names.namespace);
        let what = || format!("Secret {}/{}", names.namespace, names.ca);
        let authority = match in_time(secrets.get_opt(&names.ca)).await.with_context(what)? {
            Some(secret) => read(&secret).with_context(what)?,
            None => {
                let first = Authority::new(now, lifetimes)?;
                // Applied: so making it is a request about this name, and no right to make other Secrets is needed. Only the leader does.
                let params = PatchParams::apply(FIELD_MANAGER);
                let patch = Patch::Apply(secret(&names.ca, &first));
                in_time(secrets.patch(&names.ca, &params, &patch)).await.with_context(what)?;
                tracing::info!("made a new authority in {}", what());
                first
            }
        };
        let leaf = authority.issue(&names.server, now, lifetimes)?;
        let sender = watch::channel(server_config(&leaf)?).0;
        let signed_by = authority.current.cert.clone();
        let mut keeper = Self { client, names, lifetimes, authority, due: None, leaf, signed_by, sender };
        keeper.look(now).await?;
        Ok(keeper)
    }

    /// What to serve: the latest.
    pub fn subscribe(&self) -> watch::Receiver<Arc<ServerConfig>> {
        self.sender.subscribe()
    }

    /// Looks at the clock again and again, for ever.
    pub async fn run(mut self) {
        loop {
            tokio::time::sleep(LOOK).await;
            if let Err(error) = self.look(Timestamp::now()).await {
                // There is a third of every lifetime left to succeed in.
                tracing::warn!("publishing and renewing certificates: {error:#}");
            }
        }
    }

    /// Publishes, and renews what is due at `now`.
    pub async fn look(&mut self, now: Timestamp) -> Result<()> {
        // The certificate goes on also where nothing can be published.
        let renewed = self.renew(now).await;
        if self.authority.is_due(&self.leaf, &self.signed_by, now)? {
            self.leaf = self.authority.issue(&self.names.server, now, self.lifetimes)?;
            self.signed_by.clone_from(&self.authority.current.cert);
            self.sender.send_replace(server_config(&self.leaf)?);
            tracing::info!("the server's certificate was renewed");
        }
        renewed
    }

    /// Publishes at each look, changed or not: so whoever deletes the ConfigMap or writes into it does no lasting harm. And before
    /// anything is kept: a successor that is in the Secret has been published, and its overlap is not spent unseen.
    async fn renew(&mut self, now: Timestamp) -> Result<()> {
        if self.due.is_none() {
            self.due = self.authority.renewed(now, self.lifetimes)?;
        }
        self.publish(self.due.as_ref().unwrap_or(&self.authority)).await?;
        let Some(new) = &self.due else { return Ok(()) };
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.names.namespace);
        let patch = Patch::Apply(secret(&self.names.ca, new));
        let what = || format!("Secret {}/{}", self.names.namespace, self.names.ca);
        let params = PatchParams::apply(FIELD_MANAGER).force();
        in_time(secrets.patch(&self.names.ca, &params, &patch)).await.with_context(what)?;
        tracing::info!(signer_changed = new.current != self.authority.current, "the authority was renewed");
        self.authority = new.clone();
        self.due = None;
        Ok(())
    }

    async fn publish(&self, authority: &Authority) -> Result<()> {
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.names.namespace);
        let map = ConfigMap {
            metadata: ObjectMeta { name: Some(self.names.ca.clone()), ..ObjectMeta::default() },
            data: Some(BTreeMap::from([(CURRENT.0.to_owned(), authority.bundle())])),
            ..ConfigMap::default()
        };
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let what = || format!("ConfigMap {}/{}", self.names.namespace, self.names.ca);
        in_time(maps.patch(&self.names.ca, &params, &Patch::Apply(map))).await.with_context(what)?;
        Ok(())
    }
}

fn secret(name: &str, authority: &Authority) -> Secret {
    let mut data: BTreeMap<String, ByteString> = BTreeMap::new();
    let mut put = |key: &str, text: &str| data.insert(key.to_owned(), ByteString(text.as_bytes().to_vec()));
    put(CURRENT.0, &authority.current.cert);
    put(CURRENT.1, &authority.current.key);
    if let Some(next) = &authority.next {
        put(NEXT.0, &next.cert);
        put(NEXT.1, &next.key);
    }
    if let Some(old) = &authority.old {
        put(OLD, old);
    }
    Secret {
        metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        type_: Some("Opaque".to_owned()),
        data: Some(data),
        ..Secret::default()
    }
}

fn read(secret: &Secret) -> Result<Authority> {
    let text = |key: &str| {
        let bytes = secret.data.as_ref()?.get(key)?;
        String::from_utf8(bytes.0.clone()).ok()
    };
    let pair = |(cert, key): (&str, &str)| Some(Pair { cert: text(cert)?, key: text(key)? });
    let current = pair(CURRENT).with_context(|| {
        format!("{} lacks ca.crt or ca.key: delete it, and a new authority is made", secret.name_any())
    })?;
    Ok(Authority { current, next: pair(NEXT), old: text(OLD) })
}

#[cfg(test)]
mod tests;
