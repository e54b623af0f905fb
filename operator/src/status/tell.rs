//! Events on their way to the API server: one after another, and beside the writes of status, which never wait for them.

use std::sync::Arc;
use std::time::Duration;

use callgate_compile::status::ObjectRef;
use callgate_crds::API_VERSION;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::complaints::Complaints;
use super::events::Note;
use crate::FIELD_MANAGER;
use crate::metrics::{Fate, Metrics};

/// Most that wait: a store that hangs costs events, and nothing else.
const MOST: usize = 1024;
/// How long one may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What is told about one object.
type About = (ObjectRef, String, Note);

/// Where events are handed in.
pub struct Teller {
    sender: mpsc::Sender<About>,
    metrics: Arc<Metrics>,
}

/// Who carries them to the API server.
pub struct Courier {
    receiver: mpsc::Receiver<About>,
    recorder: Recorder,
    metrics: Arc<Metrics>,
}

/// Both; `me` is the pod that tells.
pub fn pair(client: Client, me: &str, metrics: Arc<Metrics>) -> (Teller, Courier) {
    let (sender, receiver) = mpsc::channel(MOST);
    let reporter = Reporter { controller: FIELD_MANAGER.to_owned(), instance: Some(me.to_owned()) };
    let courier = Courier { receiver, recorder: Recorder::new(client, reporter), metrics: Arc::clone(&metrics) };
    (Teller { sender, metrics }, courier)
}

impl Teller {
    /// Hands an event in about the object with this uid. Where too many wait it is counted, and gone.
    pub fn tell(&self, object: ObjectRef, uid: String, note: Note) {
        if self.sender.try_send((object, uid, note)).is_err() {
            self.metrics.event(Fate::Dropped);
        }
    }
}

impl Courier {
    /// Carries them until there is nobody who could hand one in. Events are for people: one that cannot be written is not tried
    /// again.
    pub async fn run(mut self) {
        let mut complaints = Complaints::default();
        while let Some((object, uid, note)) = self.receiver.recv().await {
            let (event, reference) = (event(note), reference(&object, uid));
            let result = tokio::time::timeout(TIMEOUT, self.recorder.publish(&event, &reference)).await;
            self.metrics.event(if matches!(result, Ok(Ok(()))) { Fate::Done } else { Fate::Failed });
            let why = match result {
                Ok(Ok(())) => continue,
                Ok(Err(error)) => error.to_string(),
                Err(_) => "the API server did not answer in time".to_owned(),
            };
            if let Some(others) = complaints.tell("", Instant::now()) {
                tracing::warn!(others, "an event about {object}: {why}");
            }
        }
    }
}

fn event(note: Note) -> Event {
    Event {
        type_: if note.warning { EventType::Warning } else { EventType::Normal },
        reason: note.reason,
        note: Some(note.text),
        action: "Compile".to_owned(),
        secondary: None,
    }
}

fn reference(object: &ObjectRef, uid: String) -> ObjectReference {
    ObjectReference {
        api_version: Some(API_VERSION.to_owned()),
        kind: Some(object.kind.name().to_owned()),
        namespace: Some(object.key.namespace.clone()),
        name: Some(object.key.name.clone()),
        uid: Some(uid),
        ..ObjectReference::default()
    }
}

#[cfg(test)]
mod tests;
