//! Whether a status is to be written now, and what. Pure: of what is known, what was written, and the time.

use std::sync::Arc;
use std::time::Duration;

use callgate_compile::status::{ObjectRef, Status};
use callgate_crds::{EgressNodeStatus, ObjectStatus};
use tokio::time::Instant;

use super::requests::Write;
use super::{View, node, object};
use crate::facts::{NodeFact, Told};

/// Shortest time between two writes of one object where only counters differ.
const COUNTERS: Duration = Duration::from_secs(10);
/// The same where only the number of clients differs, which people wait for after an edit of labels.
const CLIENTS: Duration = Duration::from_millis(500);

/// What was written last.
#[derive(Debug, Clone)]
pub struct Written<S> {
    /// It.
    pub status: S,
    /// Of the object: one of the same name that was made anew has no status.
    pub uid: String,
    /// When.
    pub at: Instant,
}

/// What is to be done about something that differs from what stands there.
#[derive(Debug)]
pub enum Verdict {
    /// It is written.
    Write(Box<Write>),
    /// Too soon after the last: not before then.
    Postpone(Instant),
}

/// About the object of which `said` was compiled and `told` stands in the API server.
pub fn of_object(
    object: &ObjectRef,
    said: &Status,
    told: &Told,
    written: Option<&Written<ObjectStatus>>,
    view: View<'_>,
) -> Option<Verdict> {
    let written = written.filter(|written| written.uid == told.uid);
    let before = written.map_or(&told.status, |written| &written.status);
    let after = object::status(object, said, before, view);
    let now = view.now.instant;
    let due = |pause: Duration| written.is_none_or(|written| now >= written.at + pause);
    let moved = after.clients != before.clients;
    if due(COUNTERS) || (moved && due(CLIENTS)) || object::differs_in_substance(&after, before) {
        let (object, uid, before) = (object.clone(), told.uid.clone(), before.clone());
        return (after != before).then(|| Verdict::Write(Box::new(Write::Object { object, uid, before, after })));
    }
    let at = written.map_or(now, |written| written.at + CLIENTS);
    moved.then_some(Verdict::Postpone(at))
}

/// About the EgressNode of a node that is there.
pub fn of_node(
    node: &str,
    fact: &NodeFact,
    written: Option<&Written<EgressNodeStatus>>,
    view: View<'_>,
) -> Option<Verdict> {
    let missing = view.fleet.get(node).is_none_or(|agent| agent.stream.is_none());
    if missing && (view.is_new() || view.has_just_come(node)) {
        return None;
    }
    let written = written.filter(|written| written.uid == fact.uid);
    let nothing = EgressNodeStatus::default();
    let before = written.map_or(&nothing, |written| &written.status);
    let after = node::status(node, before, view);
    let due = written.is_none_or(|written| view.now.instant >= written.at + COUNTERS);
    let write = after != *before && (due || node::differs_in_substance(&after, before));
    let wanted = view.fleet.is_expected(node, view.wanted.get(node).map(Arc::as_ref), view.now.instant);
    let (node, uid, known, before) = (node.to_owned(), fact.uid.clone(), written.is_some(), before.clone());
    write.then(|| Verdict::Write(Box::new(Write::Node { node, uid, known, wanted, before, after })))
}
