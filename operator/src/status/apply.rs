//! The one place that writes status: differences only, bounded, tried again, with events for what a person must know.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use callgate_compile::status::ObjectRef;
use callgate_crds::{API_VERSION, EgressNode, EgressNodeStatus, GROUP, ObjectStatus, VERSION};
use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Error};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;

use super::leaving::Leaving;
use super::{View, events, node, object};
use crate::FIELD_MANAGER;
use crate::control::Hub;
use crate::publish::Published;
use crate::watch::Watched;

/// Changes come in crowds (a snapshot is sent, its answer comes some milliseconds later): one write for all of them.
const CROWD: Duration = Duration::from_millis(50);
/// Time passes (agents stay away), counters move, writes fail: a look without a change.
const LOOK: Duration = Duration::from_secs(2);
/// Shortest time between two writes of one object where only counters differ.
const COUNTERS: Duration = Duration::from_secs(10);
/// The same where only the number of clients differs, which people wait for after an edit of labels.
const CLIENTS: Duration = Duration::from_millis(500);
/// Writes at once.
const AT_ONCE: usize = 16;
/// How long one may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How often what was written is compared with what stands there, in case somebody else wrote.
const COMPARE: Duration = Duration::from_secs(60);

/// What was written last.
#[derive(Debug, Clone)]
struct Written<S> {
    status: S,
    /// Of the object: one of the same name that was made anew has no status.
    uid: String,
    at: Instant,
}

/// Writes.
pub struct Writer {
    client: Client,
    hub: Arc<Hub>,
    watched: Watched,
    recorder: Recorder,
    serving_since: Timestamp,
    objects: BTreeMap<ObjectRef, Written<ObjectStatus>>,
    nodes: BTreeMap<String, Written<EgressNodeStatus>>,
    leaving: Leaving,
    /// Some number of clients has changed too soon after the last.
    postponed: bool,
    compared: Instant,
}

/// One write.
enum Write {
    Object { object: ObjectRef, uid: String, before: ObjectStatus, after: ObjectStatus },
    Node { node: String, uid: String, after: EgressNodeStatus },
}

impl Writer {
    /// For a leader that serves agents since `serving_since`; `me` is its pod, for events.
    pub fn new(client: Client, hub: Arc<Hub>, watched: Watched, serving_since: Timestamp, me: &str) -> Self {
        let reporter = Reporter { controller: FIELD_MANAGER.to_owned(), instance: Some(me.to_owned()) };
        Self {
            recorder: Recorder::new(client.clone(), reporter),
            client,
            hub,
            watched,
            serving_since,
            objects: BTreeMap::new(),
            nodes: BTreeMap::new(),
            leaving: Leaving::default(),
            postponed: false,
            compared: Instant::now(),
        }
    }

    /// Writes for ever, whenever something has changed.
    pub async fn run(mut self, mut published: watch::Receiver<Option<Arc<Published>>>) {
        let mut changes = self.hub.changes();
        loop {
            tokio::select! {
                changed = published.changed() => if changed.is_err() { return },
                _ = changes.changed() => {}
                () = tokio::time::sleep(if self.postponed { CLIENTS } else { LOOK }) => {}
            }
            tokio::time::sleep(CROWD).await;
            changes.mark_unchanged();
            let latest = published.borrow_and_update().clone();
            if let Some(latest) = latest {
                self.look(&latest, Timestamp::now()).await;
            }
        }
    }

    /// Compares everything with what stands there, and writes the differences.
    pub async fn look(&mut self, published: &Published, now: Timestamp) {
        self.compare();
        let left = self.hub.with_fleet(|fleet| self.leaving.take(&published.uids, fleet));
        for (object, uid) in left {
            let note = events::removed();
            publish(&self.recorder, &object, &uid, note).await;
        }
        let writes = self.writes(published, now);
        let (client, recorder) = (self.client.clone(), self.recorder.clone());
        let mut done = futures::stream::iter(writes)
            .map(|write| {
                let (client, recorder) = (client.clone(), recorder.clone());
                async move {
                    let result = tokio::time::timeout(TIMEOUT, write.carry_out(&client, &recorder)).await;
                    (write, result)
                }
            })
            .buffer_unordered(AT_ONCE);
        while let Some((write, result)) = done.next().await {
            let written = matches!(result, Ok(Ok(())));
            self.hub.metrics.status_written(written);
            match result {
                Ok(Ok(())) => {}
                // Deleted meanwhile.
                Ok(Err(Error::Api(status))) if status.code == 404 => continue,
                Ok(Err(error)) => tracing::warn!("writing the status of {}: {error}", write.name()),
                Err(_) => {
                    tracing::warn!("writing the status of {}: the API server did not answer in time", write.name())
                }
            }
            if !written {
                // The next look tries again.
                continue;
            }
            let at = Instant::now();
            match write {
                Write::Object { object, uid, after, .. } => {
                    self.objects.insert(object, Written { status: after, uid, at });
                }
                Write::Node { node, uid, after } => {
                    self.nodes.insert(node, Written { status: after, uid, at });
                }
            }
        }
    }

    /// Forgets what was written where something else stands there, long after.
    fn compare(&mut self) {
        if self.compared.elapsed() < COMPARE {
            return;
        }
        self.compared = Instant::now();
        let facts = self.watched.facts();
        self.objects.retain(|object, written| {
            facts.told(object).is_some_and(|told| told.status == written.status || written.at.elapsed() < COMPARE)
        });
        self.nodes.retain(|node, _| facts.nodes.get(&crate::facts::cluster_key(node)).is_some());
    }

    fn writes(&mut self, published: &Published, now: Timestamp) -> Vec<Write> {
        let wanted = self.hub.board.latest();
        let facts = self.watched.facts();
        let mut postponed = false;
        let writes = self.hub.with_fleet(|fleet| {
            let carriers = fleet.carriers();
            let view = View { wanted: &wanted, fleet, carriers: &carriers, serving_since: self.serving_since, now };
            if !view.is_settled() {
                return Vec::new();
            }
            let mut writes = Vec::new();
            for (object, said) in &published.compiled.statuses {
                let compiled = published.uids.get(object);
                // Made anew since the compile: what is known is about its predecessor.
                let Some(told) = facts.told(object).filter(|told| compiled == Some(&told.uid)) else { continue };
                let written = self.objects.get(object).filter(|written| written.uid == told.uid);
                let before = written.map_or(&told.status, |written| &written.status);
                let after = object::status(object, said, before, view);
                let since = written.map(|written| written.at.elapsed());
                let due = |pause: Duration| since.is_none_or(|since| since >= pause);
                let moved = after.clients != before.clients;
                let now = due(COUNTERS) || (moved && due(CLIENTS)) || object::differs_in_substance(&after, before);
                postponed |= moved && !now;
                if after != *before && now {
                    let (object, uid, before) = (object.clone(), told.uid.clone(), before.clone());
                    writes.push(Write::Object { object, uid, before, after });
                }
            }
            for (key, fact) in facts.nodes.objects() {
                let written = self.nodes.get(&key.name).filter(|written| written.uid == fact.uid);
                let nothing = EgressNodeStatus::default();
                let before = written.map_or(&nothing, |written| &written.status);
                let after = node::status(&key.name, before, view);
                let due = written.is_none_or(|written| written.at.elapsed() >= COUNTERS);
                if after != *before && (due || node::differs_in_substance(&after, before)) {
                    writes.push(Write::Node { node: key.name.clone(), uid: fact.uid.clone(), after });
                }
            }
            writes
        });
        drop(facts);
        self.postponed = postponed;
        writes
    }
}

impl Write {
    fn name(&self) -> String {
        match self {
            Self::Object { object, .. } => object.to_string(),
            Self::Node { node, .. } => format!("EgressNode {node}"),
        }
    }

    async fn carry_out(&self, client: &Client, recorder: &Recorder) -> Result<(), Error> {
        match self {
            Self::Object { object, uid, before, after } => {
                write_object(client, object, uid, after).await?;
                tell(recorder, object, uid, before, after).await;
                Ok(())
            }
            Self::Node { node, uid, after } => write_node(client, node, uid, after).await,
        }
    }
}

/// Ours alone: whatever another manager holds in the same fields is taken over.
fn params() -> PatchParams {
    PatchParams::apply(FIELD_MANAGER).force()
}

/// With its uid, so that the API server refuses it (409) where the object was made anew meanwhile.
async fn write_object(client: &Client, object: &ObjectRef, uid: &str, status: &ObjectStatus) -> Result<(), Error> {
    let gvk = GroupVersionKind::gvk(GROUP, VERSION, object.kind.name());
    let resource = ApiResource::from_gvk_with_plural(&gvk, object.kind.plural());
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &object.key.namespace, &resource);
    let patch = json!({
        "apiVersion": API_VERSION,
        "kind": object.kind.name(),
        "metadata": {"name": object.key.name, "namespace": object.key.namespace, "uid": uid},
        "status": status,
    });
    api.patch_status(&object.key.name, &params(), &Patch::Apply(patch)).await?;
    Ok(())
}

/// Makes the object where it is not there yet; it goes with its node.
async fn write_node(client: &Client, node: &str, uid: &str, status: &EgressNodeStatus) -> Result<(), Error> {
    let api: Api<EgressNode> = Api::all(client.clone());
    let owner = OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: node.to_owned(),
        uid: uid.to_owned(),
        ..OwnerReference::default()
    };
    let head = json!({
        "apiVersion": API_VERSION,
        "kind": "EgressNode",
        "metadata": {"name": node, "ownerReferences": [owner]},
        "spec": {},
    });
    let body = json!({"apiVersion": API_VERSION, "kind": "EgressNode", "metadata": {"name": node}, "status": status});
    match api.patch_status(node, &params(), &Patch::Apply(&body)).await {
        Err(Error::Api(error)) if error.code == 404 => {
            api.patch(node, &params(), &Patch::Apply(&head)).await?;
            api.patch_status(node, &params(), &Patch::Apply(&body)).await?;
            Ok(())
        }
        result => result.map(drop),
    }
}

/// Events are for people: one that cannot be written is not tried again.
async fn tell(recorder: &Recorder, object: &ObjectRef, uid: &str, before: &ObjectStatus, after: &ObjectStatus) {
    for note in events::notes(before, after) {
        publish(recorder, object, uid, note).await;
    }
}

async fn publish(recorder: &Recorder, object: &ObjectRef, uid: &str, note: events::Note) {
    let reference = ObjectReference {
        api_version: Some(API_VERSION.to_owned()),
        kind: Some(object.kind.name().to_owned()),
        namespace: Some(object.key.namespace.clone()),
        name: Some(object.key.name.clone()),
        uid: Some(uid.to_owned()),
        ..ObjectReference::default()
    };
    let event = Event {
        type_: if note.warning { EventType::Warning } else { EventType::Normal },
        reason: note.reason,
        note: Some(note.text),
        action: "Compile".to_owned(),
        secondary: None,
    };
    if let Err(error) = recorder.publish(&event, &reference).await {
        tracing::warn!("an event about {object}: {error}");
    }
}

#[cfg(test)]
mod tests;
