//! Watches every kind and keeps the facts up to date; says when something has changed that matters to compile.
//!
//! ```text
//!  API server ─► one watcher a kind (pace: when again after a failure) ─► absorb ─► Facts ◄── the leader reads
//!                                                                            └─► changed: something that matters
//! ```

mod pace;

use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use callgate_compile::world::{Meta, Object};
use callgate_crds::{IpRule, Kind, ObjectStatus, PptpAlg, Service};
use callgate_proto::model::ObjectKey;
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use k8s_openapi::api::networking::v1::ServiceCIDR;
use kube::api::{Api, ObjectMeta};
use kube::runtime::watcher::{self, Config, Event};
use kube::runtime::{WatchStreamExt as _, watcher as watch_kind};
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use crate::client::watching;
use crate::facts::{Change, Facts, NodeFact, PodFact, Told, cluster_key};

/// Facts that watchers write and the leader reads.
#[derive(Clone)]
pub struct Watched {
    facts: Arc<Mutex<Facts>>,
    /// Goes up with every change that matters to compile.
    changed: watch::Sender<u64>,
}

/// Between two looks for a kind that this API server does not have.
const ABSENT_PAUSE: Duration = Duration::from_secs(300);

/// Pods that have finished have no traffic, and there may be very many of them.
const LIVE_PODS: &str = "status.phase!=Succeeded,status.phase!=Failed";

impl Watched {
    /// Begins to watch everything.
    pub fn start(client: &Client) -> Self {
        let watched = Self::empty();
        let all = watching;
        watched.follow(Api::<Pod>::all(client.clone()), all().fields(LIVE_PODS), pods);
        watched.follow(Api::<Namespace>::all(client.clone()), all(), |facts, event| {
            facts.namespaces.absorb(event, key, |namespace| namespace.metadata.labels.clone().unwrap_or_default())
        });
        watched.follow(Api::<Node>::all(client.clone()), all(), |facts, event| {
            facts.nodes.absorb(event, key, |node| NodeFact::from(node))
        });
        watched.follow(Api::<ServiceCIDR>::all(client.clone()), all(), |facts, event| {
            facts.service_cidrs.absorb(event, key, |object| {
                let listed = object.spec.as_ref().and_then(|spec| spec.cidrs.as_ref()).into_iter().flatten();
                listed.filter_map(|cidr| cidr.parse().ok()).collect()
            })
        });
        watched.follow(Api::<PptpAlg>::all(client.clone()), all(), |facts, event| {
            told(facts, Kind::PptpAlg, event, |object: &PptpAlg| object.status.as_ref());
            facts.algs.absorb(event, key, |object| Object { meta: meta(object.meta()), spec: object.spec.clone() })
        });
        watched.follow(Api::<Service>::all(client.clone()), all(), |facts, event| {
            told(facts, Kind::Service, event, |object: &Service| object.status.as_ref());
            facts.services.absorb(event, key, |object| Object { meta: meta(object.meta()), spec: object.spec.clone() })
        });
        watched.follow(Api::<IpRule>::all(client.clone()), all(), |facts, event| {
            told(facts, Kind::IpRule, event, |object: &IpRule| object.status.as_ref());
            facts.rules.absorb(event, key, |object| Object { meta: meta(object.meta()), spec: object.spec.clone() })
        });
        watched
    }

    /// Nothing is known and nothing watched.
    pub fn empty() -> Self {
        Self { facts: Arc::default(), changed: watch::channel(0).0 }
    }

    /// The facts as they are now.
    pub fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hears of changes.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Watches one kind for ever.
    fn follow<K>(&self, api: Api<K>, config: Config, absorb: fn(&mut Facts, &Event<K>) -> Change)
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
    {
        let watched = self.clone();
        tokio::spawn(async move {
            let kind = K::plural(&());
            loop {
                let mut events = watch_kind(api.clone(), config.clone()).backoff(pace::pace()).boxed();
                loop {
                    match events.try_next().await {
                        Ok(Some(event)) => watched.absorb(&event, absorb),
                        Ok(None) => break,
                        Err(error) if is_absent(&error) && kind == "servicecidrs" => {
                            watched.absent();
                            break;
                        }
                        // It goes on by itself, after a pause that grows.
                        Err(error) => tracing::warn!(%kind, "watching: {error}"),
                    }
                }
                tokio::time::sleep(ABSENT_PAUSE).await;
            }
        });
    }

    /// Takes one event in.
    pub fn absorb<K>(&self, event: &Event<K>, absorb: fn(&mut Facts, &Event<K>) -> Change) {
        let change = absorb(&mut self.facts(), event);
        self.tell(change);
    }

    /// This API server is older than ServiceCIDR: service networks then come from the command line alone.
    fn absent(&self) {
        let change = self.facts().service_cidrs.absent();
        if change == Change::Some {
            tracing::info!("this API server has no ServiceCIDR objects: name the service network with --cluster-cidr");
        }
        self.tell(change);
    }

    fn tell(&self, change: Change) {
        match change {
            Change::Some => self.changed.send_modify(|count| *count += 1),
            Change::None => {}
        }
    }
}

/// A pod is made, placed and begun before it has an address: nothing is compiled for all that.
fn pods(facts: &mut Facts, event: &Event<Pod>) -> Change {
    let without = match event {
        Event::Apply(pod) | Event::Delete(pod) => {
            let known = facts.pods.get(&key(pod));
            known.is_none_or(|known| !known.matters()) && !PodFact::from(pod).matters()
        }
        Event::Init | Event::InitApply(_) | Event::InitDone => false,
    };
    let change = facts.pods.absorb(event, key, |pod| PodFact::from(pod));
    if without { Change::None } else { change }
}

/// Keeps what stands in the status of an object; nobody waits for that.
fn told<K: Resource<DynamicType = ()>>(
    facts: &mut Facts,
    kind: Kind,
    event: &Event<K>,
    status: fn(&K) -> Option<&ObjectStatus>,
) {
    if let Some(table) = facts.told.get_mut(kind as usize) {
        table.absorb(event, key, |object| Told {
            uid: object.uid().unwrap_or_default(),
            status: status(object).cloned().unwrap_or_default(),
        });
    }
}

fn key<K: Resource<DynamicType = ()>>(object: &K) -> ObjectKey {
    match object.namespace() {
        Some(namespace) => ObjectKey::new(namespace, object.name_any()),
        None => cluster_key(&object.name_any()),
    }
}

fn meta(metadata: &ObjectMeta) -> Meta {
    Meta {
        uid: metadata.uid.clone().unwrap_or_default(),
        generation: metadata.generation.unwrap_or(0),
        created: metadata.creation_timestamp.as_ref().map(|time| time.0),
        predefined: false,
    }
}

/// Whether the API server does not know the kind.
fn is_absent(error: &watcher::Error) -> bool {
    let cause = match error {
        watcher::Error::InitialListFailed(cause)
        | watcher::Error::WatchStartFailed(cause)
        | watcher::Error::WatchFailed(cause) => cause,
        watcher::Error::WatchError(_) | watcher::Error::NoResourceVersion => return false,
    };
    matches!(cause, kube::Error::Api(status) if status.code == 404)
}

#[cfg(test)]
mod tests;
