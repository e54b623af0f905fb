//! One attached agent: snapshots and questions go out, outcomes, reports and answers come in.

use std::collections::BTreeMap;
use std::sync::Arc;

use callgate_proto::pb;
use callgate_proto::pb::agent_message::Kind as Said;
use callgate_proto::pb::operator_message::Kind as Sent;
use tokio::sync::{mpsc, oneshot};
use tonic::{Status, Streaming};

use super::Hub;
use super::hub::Ask;
use crate::snapshot::Snapshot;

/// Most questions that may wait for their answers.
const MOST_QUESTIONS: usize = 256;

/// What a session works with.
pub(super) struct Session {
    pub(super) hub: Arc<Hub>,
    pub(super) node: String,
    pub(super) stream: u64,
    pub(super) asks: mpsc::Receiver<Ask>,
    pub(super) outgoing: mpsc::Sender<Result<pb::OperatorMessage, Status>>,
}

impl Session {
    /// Runs until either side ends it.
    pub(super) async fn run(mut self, mut incoming: Streaming<pb::AgentMessage>) {
        let why = self.converse(&mut incoming).await;
        tracing::info!(node = self.node, "agent detached: {}", why.message());
        // Of a full channel the agent has stopped reading: it will see the stream end.
        let _ = self.outgoing.try_send(Err(why));
        self.hub.detach(&self.node, self.stream);
    }

    async fn converse(&mut self, incoming: &mut Streaming<pb::AgentMessage>) -> Status {
        let mut latest = self.hub.board.subscribe(&self.node);
        latest.mark_changed();
        let mut waiting: BTreeMap<u64, oneshot::Sender<pb::answer::Kind>> = BTreeMap::new();
        let mut next_question = 1;
        let mut before: Option<Arc<Snapshot>> = None;
        loop {
            // A slot first: while the agent does not read, newer snapshots replace older ones instead of queueing up.
            let slot = tokio::select! {
                slot = self.outgoing.reserve() => match slot {
                    Ok(slot) => slot,
                    Err(_) => return Status::cancelled("the connection is gone"),
                },
                message = incoming.message() => {
                    if let Err(end) = hear(&self.hub, &self.node, self.stream, &mut waiting, message) {
                        return end;
                    }
                    continue;
                }
            };
            tokio::select! {
                message = incoming.message() => {
                    if let Err(end) = hear(&self.hub, &self.node, self.stream, &mut waiting, message) {
                        return end;
                    }
                }
                changed = latest.changed() => {
                    if changed.is_err() {
                        return Status::unavailable("the operator is stopping");
                    }
                    let Some(snapshot) = latest.borrow_and_update().clone() else { continue };
                    if before.as_ref() == Some(&snapshot) {
                        continue;
                    }
                    // Noted before it is sent: the answer may be quick.
                    let sequence = self.hub.change(|fleet| fleet.sent(&self.node, self.stream, &snapshot));
                    let message = snapshot.message(sequence);
                    self.hub.metrics.sent(&message);
                    slot.send(Ok(pb::OperatorMessage { kind: Some(Sent::Snapshot(message)) }));
                    before = Some(snapshot);
                }
                ask = self.asks.recv() => {
                    let Some(Ask { question, reply }) = ask else {
                        return match self.hub.has_stream(&self.node) {
                            true => Status::aborted("another stream of this node took its place"),
                            false => Status::unavailable("the operator is stopping"),
                        };
                    };
                    waiting.retain(|_, reply| !reply.is_closed());
                    if waiting.len() < MOST_QUESTIONS {
                        let id = next_question;
                        next_question += 1;
                        waiting.insert(id, reply);
                        let question = pb::Question { id, kind: Some(question) };
                        slot.send(Ok(pb::OperatorMessage { kind: Some(Sent::Question(question)) }));
                    }
                }
            }
        }
    }
}

/// Takes one message of the agent in; the end of the stream is an error.
fn hear(
    hub: &Hub,
    node: &str,
    stream: u64,
    waiting: &mut BTreeMap<u64, oneshot::Sender<pb::answer::Kind>>,
    message: Result<Option<pb::AgentMessage>, Status>,
) -> Result<(), Status> {
    let message = message?.ok_or_else(|| Status::ok("it said goodbye"))?;
    match message.kind {
        Some(Said::Outcome(outcome)) => {
            match &outcome.failure {
                None => tracing::debug!(node, hash = outcome.hash, "in force"),
                Some(failure) => {
                    let (object, reason) = (&failure.object, &failure.reason);
                    tracing::warn!(node, hash = outcome.hash, object, reason, "refused: {}", failure.message);
                }
            }
            hub.metrics.outcome(outcome.failure.is_none());
            if !hub.change(|fleet| fleet.outcome(node, stream, outcome)) {
                tracing::warn!(node, "an answer to a snapshot that was never sent");
            }
        }
        Some(Said::Report(report)) => hub.note(|fleet| fleet.report(node, stream, report)),
        Some(Said::Answer(answer)) => {
            if let (Some(reply), Some(kind)) = (waiting.remove(&answer.id), answer.kind) {
                let _ = reply.send(kind);
            }
        }
        Some(Said::Hello(_)) => return Err(Status::invalid_argument("hello is said once")),
        // Of a later version.
        None => {}
    }
    Ok(())
}
