//! The one place that writes status: differences only, bounded, tried again, with events for what a person must know.

use std::collections::{BTreeMap, BTreeSet};
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

use super::dirty::{Dirty, Seen};
use super::leaving::Leaving;
use super::{GRACE, View, events, node, object};
use crate::FIELD_MANAGER;
use crate::control::Hub;
use crate::facts::{Facts, cluster_key};
use crate::fleet::Fleet;
use crate::publish::Published;
use crate::snapshot::Snapshot;
use crate::watch::Watched;

/// Changes come in crowds (a snapshot is sent, its answer comes some milliseconds later): one write for all of them.
const CROWD: Duration = Duration::from_millis(50);
/// Time passes (agents stay away), counters move, writes fail: a look at everything, and not only at what has changed.
const LOOK: Duration = Duration::from_secs(2);
/// Objects that are looked at in one go: nobody else gets at the facts and the fleet meanwhile.
const BATCH: usize = 64;
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
/// How long after the last write of an EgressNode it is applied whole again: nobody tells when one is deleted, as they are not watched.
const ANEW: Duration = Duration::from_secs(600);

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
    seen: Seen,
    /// Objects whose number of clients has changed too soon after the last.
    postponed: BTreeSet<ObjectRef>,
    /// What could not be written.
    failed: Dirty,
    /// When everything was looked at last.
    looked: Option<Instant>,
    compared: Instant,
}

/// One write.
enum Write {
    Object {
        object: ObjectRef,
        uid: String,
        before: ObjectStatus,
        after: ObjectStatus,
    },
    /// `known` is whether it was there when it was written last, by us.
    Node {
        node: String,
        uid: String,
        known: bool,
        after: EgressNodeStatus,
    },
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
            seen: Seen::default(),
            postponed: BTreeSet::new(),
            failed: Dirty::default(),
            looked: None,
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
                () = tokio::time::sleep(if self.postponed.is_empty() { LOOK } else { CLIENTS }) => {}
            }
            tokio::time::sleep(CROWD).await;
            changes.mark_unchanged();
            let latest = published.borrow_and_update().clone();
            if let Some(latest) = latest {
                self.look(&latest, Timestamp::now()).await;
            }
        }
    }

    /// Compares what has something new, now and then everything, with what stands there, and writes the differences.
    pub async fn look(&mut self, published: &Published, now: Timestamp) {
        self.compare();
        // Also for whoever reads metrics.
        self.hub.note(|fleet| fleet.lapse(now - GRACE));
        let left = self.hub.with_fleet(|fleet| self.leaving.take(&published.uids, fleet));
        for (object, uid) in left {
            let note = events::removed();
            publish(&self.recorder, &object, &uid, note).await;
        }
        let writes = self.writes(published, now);
        let (client, recorder) = (self.client.clone(), self.recorder.clone());
        let mut done = futures::stream::iter(writes)
            .map(|mut write| {
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
                match write {
                    Write::Object { object, .. } => drop(self.failed.objects.insert(object)),
                    Write::Node { node, .. } => drop(self.failed.nodes.insert(node)),
                }
                continue;
            }
            let at = Instant::now();
            match write {
                Write::Object { object, uid, after, .. } => {
                    self.objects.insert(object, Written { status: after, uid, at });
                }
                Write::Node { node, uid, after, .. } => {
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
        self.nodes.retain(|node, written| facts.nodes.get(&cluster_key(node)).is_some() && written.at.elapsed() < ANEW);
    }

    fn writes(&mut self, published: &Published, now: Timestamp) -> Vec<Write> {
        let hub = Arc::clone(&self.hub);
        let moment = Moment { wanted: hub.board.latest(), serving_since: self.serving_since, now };
        let settled = hub.with_fleet(|fleet| {
            let view = moment.view(fleet);
            view.is_settled().then(|| self.seen.take(published, view))
        });
        let Some(mut dirty) = settled else { return Vec::new() };
        dirty.objects.append(&mut self.postponed);
        dirty.objects.append(&mut self.failed.objects);
        dirty.nodes.append(&mut self.failed.nodes);
        if self.looked.is_none_or(|looked| looked.elapsed() >= LOOK) {
            self.looked = Some(Instant::now());
            let nodes = self.watched.facts().nodes.objects().keys().map(|key| key.name.clone()).collect();
            dirty = Dirty { objects: published.compiled.statuses.keys().cloned().collect(), nodes };
        }
        let mut writes = Vec::new();
        let objects: Vec<ObjectRef> = dirty.objects.into_iter().collect();
        for batch in objects.chunks(BATCH) {
            let facts = self.watched.facts();
            let more = hub.with_fleet(|fleet| {
                let found = batch
                    .iter()
                    .filter_map(|object| object_write(&self.objects, &facts, published, object, moment.view(fleet)));
                found.collect::<Vec<_>>()
            });
            for verdict in more {
                match verdict {
                    Verdict::Write(write) => writes.push(*write),
                    Verdict::Postpone(object) => drop(self.postponed.insert(object)),
                }
            }
        }
        let nodes: Vec<String> = dirty.nodes.into_iter().collect();
        for batch in nodes.chunks(BATCH) {
            let facts = self.watched.facts();
            hub.with_fleet(|fleet| {
                writes
                    .extend(batch.iter().filter_map(|node| node_write(&self.nodes, &facts, node, moment.view(fleet))));
            });
        }
        writes
    }
}

/// What stays the same through one look.
struct Moment {
    wanted: BTreeMap<String, Arc<Snapshot>>,
    serving_since: Timestamp,
    now: Timestamp,
}

impl Moment {
    fn view<'a>(&'a self, fleet: &'a Fleet) -> View<'a> {
        View { wanted: &self.wanted, fleet, serving_since: self.serving_since, now: self.now }
    }
}

/// What is to be done about an object that differs from what stands there.
enum Verdict {
    Write(Box<Write>),
    /// Too soon after the last.
    Postpone(ObjectRef),
}

fn object_write(
    objects: &BTreeMap<ObjectRef, Written<ObjectStatus>>,
    facts: &Facts,
    published: &Published,
    object: &ObjectRef,
    view: View<'_>,
) -> Option<Verdict> {
    let said = published.compiled.statuses.get(object)?;
    let compiled = published.uids.get(object);
    // Made anew since the compile: what is known is about its predecessor.
    let told = facts.told(object).filter(|told| compiled == Some(&told.uid))?;
    let written = objects.get(object).filter(|written| written.uid == told.uid);
    let before = written.map_or(&told.status, |written| &written.status);
    let after = object::status(object, said, before, view);
    let since = written.map(|written| written.at.elapsed());
    let due = |pause: Duration| since.is_none_or(|since| since >= pause);
    let moved = after.clients != before.clients;
    if due(COUNTERS) || (moved && due(CLIENTS)) || object::differs_in_substance(&after, before) {
        let (object, uid, before) = (object.clone(), told.uid.clone(), before.clone());
        return (after != before).then(|| Verdict::Write(Box::new(Write::Object { object, uid, before, after })));
    }
    moved.then(|| Verdict::Postpone(object.clone()))
}

fn node_write(
    nodes: &BTreeMap<String, Written<EgressNodeStatus>>,
    facts: &Facts,
    node: &str,
    view: View<'_>,
) -> Option<Write> {
    // One that only an agent speaks of has no object to go with.
    let fact = facts.nodes.get(&cluster_key(node))?;
    let missing = view.fleet.get(node).is_none_or(|agent| agent.stream.is_none());
    if missing && view.is_new() {
        return None;
    }
    let written = nodes.get(node).filter(|written| written.uid == fact.uid);
    let nothing = EgressNodeStatus::default();
    let before = written.map_or(&nothing, |written| &written.status);
    let after = node::status(node, before, view);
    let due = written.is_none_or(|written| written.at.elapsed() >= COUNTERS);
    let write = after != *before && (due || node::differs_in_substance(&after, before));
    write.then(|| Write::Node { node: node.to_owned(), uid: fact.uid.clone(), known: written.is_some(), after })
}

impl Write {
    fn name(&self) -> String {
        match self {
            Self::Object { object, .. } => object.to_string(),
            Self::Node { node, .. } => format!("EgressNode {node}"),
        }
    }

    async fn carry_out(&mut self, client: &Client, recorder: &Recorder) -> Result<(), Error> {
        match self {
            Self::Object { object, uid, before, after } => {
                write_object(client, object, uid, after).await?;
                tell(recorder, object, uid, before, after).await;
                Ok(())
            }
            Self::Node { node, uid, known, after } => {
                if !*known {
                    // What stands there was written by the leader before: its times go on.
                    let stored = make_node(client, node, uid).await?;
                    node::follow(after, &stored);
                    if *after == stored {
                        return Ok(());
                    }
                }
                write_node(client, node, uid, after).await
            }
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

/// Makes the object where it is not there yet; it goes with its node. The status that stands there.
async fn make_node(client: &Client, node: &str, uid: &str) -> Result<EgressNodeStatus, Error> {
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
    Ok(api.patch(node, &params(), &Patch::Apply(&head)).await?.status.unwrap_or_default())
}

/// Makes the object anew where it has been deleted.
async fn write_node(client: &Client, node: &str, uid: &str, status: &EgressNodeStatus) -> Result<(), Error> {
    let api: Api<EgressNode> = Api::all(client.clone());
    let body = json!({"apiVersion": API_VERSION, "kind": "EgressNode", "metadata": {"name": node}, "status": status});
    match api.patch_status(node, &params(), &Patch::Apply(&body)).await {
        Err(Error::Api(error)) if error.code == 404 => {
            make_node(client, node, uid).await?;
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
