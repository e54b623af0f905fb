//! The Lease in the API server: acquired, renewed, given up.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Api, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Client, Error};
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

use super::{Decision, RENEW_DEADLINE, RETRY, Seen, decide};

/// One candidate.
pub struct Holder {
    api: Api<Lease>,
    name: String,
    me: String,
    seen: Seen,
    /// When the look began that last found it leading: whatever was written then came later.
    renewed: Instant,
    /// Who leads, as last read.
    leader: watch::Sender<String>,
}

/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(5);

impl Holder {
    /// A candidate called `me` (the pod's name) for Lease `namespace/name`.
    pub fn new(client: Client, namespace: &str, name: &str, me: &str) -> Self {
        let api = Api::namespaced(client, namespace);
        let leader = watch::channel(String::new()).0;
        let (seen, renewed) = (Seen::default(), Instant::now());
        Self { api, name: name.to_owned(), me: me.to_owned(), seen, renewed, leader }
    }

    /// Name of the pod that leads; empty while that is not known.
    pub fn leader(&self) -> watch::Receiver<String> {
        self.leader.subscribe()
    }

    /// Waits until it leads.
    pub async fn acquire(&mut self) {
        let mut told = false;
        loop {
            match self.look().await {
                Ok(true) => return,
                Ok(false) if !told => {
                    tracing::info!(lease = self.name, "another operator leads; waiting");
                    told = true;
                }
                Ok(false) => {}
                // Another candidate wrote first.
                Err(Error::Api(status)) if status.code == 409 => {}
                Err(error) => tracing::warn!("Lease {}: {error}", self.name),
            }
            pause().await;
        }
    }

    /// Renews for as long as it can. Returns when it does not lead any more, and at the latest `RENEW_DEADLINE` after it began
    /// the look that renewed it last, whatever is under way then.
    pub async fn keep(&mut self) {
        loop {
            let until = self.renewed + RENEW_DEADLINE;
            let look = async {
                pause().await;
                self.look().await
            };
            match timeout_at(until, look).await {
                Ok(Ok(true)) => {}
                Ok(Ok(false)) => return,
                Ok(Err(error)) => tracing::warn!("renewing Lease {}: {error}", self.name),
                Err(_) => {
                    tracing::warn!("Lease {} could not be renewed in time", self.name);
                    return;
                }
            }
        }
    }

    /// Gives it up, so that another need not wait.
    pub async fn release(&self) {
        let result = timeout(TIMEOUT, async {
            let mut lease = self.api.get(&self.name).await?;
            let spec = lease.spec.get_or_insert_default();
            if spec.holder_identity.as_deref() == Some(&self.me) {
                spec.holder_identity = Some(String::new());
                self.api.replace(&self.name, &PostParams::default(), &lease).await?;
            }
            Ok::<(), Error>(())
        });
        if let Ok(Err(error)) = result.await {
            tracing::warn!("giving up Lease {}: {error}", self.name);
        }
    }

    /// One look, and one write where there is something to write. Whether it leads now.
    pub async fn look(&mut self) -> Result<bool, Error> {
        let began = Instant::now();
        let leads = match timeout(TIMEOUT, self.look_once()).await {
            Ok(result) => result?,
            Err(_) => return Err(Error::Service("the API server did not answer in time".into())),
        };
        if leads {
            self.renewed = began;
        }
        Ok(leads)
    }

    async fn look_once(&mut self) -> Result<bool, Error> {
        let stamp = MicroTime(Timestamp::now());
        let there = self.api.get_opt(&self.name).await?;
        let spec = match &there {
            Some(lease) => {
                let spec = lease.spec.clone().unwrap_or_default();
                self.seen.note(&spec, Instant::now());
                spec
            }
            // Deleted: it counts for as long as it would have lasted, so that its holder is the one who makes it anew.
            None => self.seen.last(),
        };
        let new = match decide(&spec, &self.me, &self.seen, Instant::now(), &stamp) {
            Decision::Wait => {
                self.leader.send_replace(spec.holder_identity.unwrap_or_default());
                return Ok(false);
            }
            Decision::Write(new) => new,
        };
        match there {
            Some(mut lease) => {
                // The resourceVersion that was read goes along: of two who write at once one is refused.
                lease.spec = Some(new);
                self.api.replace(&self.name, &PostParams::default(), &lease).await?;
            }
            None => self.make(new).await?,
        }
        Ok(true)
    }

    /// Applied: so making it is a request about this name, and no right to make other Leases is needed. Each candidate applies
    /// under its own name and without force: of two who make it at once one is refused.
    async fn make(&self, spec: LeaseSpec) -> Result<(), Error> {
        let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
        let patch = Patch::Apply(Lease { metadata, spec: Some(spec) });
        self.api.patch(&self.name, &PatchParams::apply(&self.me), &patch).await.map(drop)
    }
}

/// Candidates that started together must not write together.
async fn pause() {
    let jitter = Timestamp::now().subsec_nanosecond().unsigned_abs() % 500_000_000;
    tokio::time::sleep(RETRY + Duration::from_nanos(jitter.into())).await;
}

#[cfg(test)]
mod tests;
