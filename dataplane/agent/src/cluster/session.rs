//! One stream with the operator: hello, snapshots and what became of them, reports, questions and answers.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use callgate_compile::objects::objects;
use callgate_proto::pb::agent_message::Kind as Ours;
use callgate_proto::pb::operator_message::Kind as Theirs;
use callgate_proto::pb::{self, answer, question};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{self, Sender};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Status};

use super::connect::Connected;
use super::link::{Ends, Link};
use super::operator::failure;
use super::snapshot::Snapshot;
use crate::api::Answers;
use crate::kernel;
use crate::run::Refused;

/// Messages that may wait for the operator to read them.
const WAITING: usize = 64;

/// Questions worked on at the same time: each takes the packet path's thread from its work for a moment.
const QUESTIONS: usize = 4;

/// Longest time until the operator takes the stream.
const ACCEPTED: Duration = Duration::from_secs(20);

/// Why a stream ended without anything having gone wrong.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// By the operator.
    Closed,
    /// Another CA is to be trusted.
    Rotated,
}

/// Runs one stream to its end.
///
/// # Errors
/// When the operator refuses it, or the connection breaks.
pub(super) async fn run(link: &Link, connected: Connected, ends: &mut Ends, attempt: &mut u32) -> Result<End> {
    let Connected { mut client, token, ca } = connected;
    let (to_operator, messages) = mpsc::channel(WAITING);
    // What is known of a snapshot of an earlier stream; hello says it all, and the snapshot comes again.
    while ends.outcomes.try_recv().is_ok() {}
    say(&to_operator, Ours::Hello(hello(link, ends))).await?;
    let mut request = Request::new(ReceiverStream::new(messages));
    request.metadata_mut().insert("authorization", token);
    let attached = tokio::time::timeout(ACCEPTED, client.attach(request)).await;
    let mut from_operator = attached.context("the operator did not answer in time")?.map_err(refused)?.into_inner();
    let questions = Arc::new(Semaphore::new(QUESTIONS));
    let mut reported = None;
    let mut tick = tokio::time::interval(link.interval);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            message = from_operator.message() => match message.map_err(refused)?.map(|message| message.kind) {
                None => return Ok(End::Closed),
                Some(Some(Theirs::Snapshot(snapshot))) => {
                    *attempt = 0;
                    if let Some(outcome) = take(snapshot, link, ends) {
                        say(&to_operator, Ours::Outcome(outcome)).await?;
                    }
                }
                Some(Some(Theirs::Question(question))) => {
                    ask(question, &ends.answers, &questions, &to_operator).await?;
                }
                // Messages of a kind that only a newer operator knows; nothing in them is needed here.
                Some(None) => ends.report.count("operator_messages_unknown"),
            },
            Some(outcome) = ends.outcomes.recv() => {
                say(&to_operator, Ours::Outcome(outcome)).await?;
                report(ends, &mut reported, &to_operator).await?;
            }
            _ = tick.tick() => {
                if link.address.rotated(&ca) {
                    return Ok(End::Rotated);
                }
                report(ends, &mut reported, &to_operator).await?;
            }
        }
    }
}

/// Hands a snapshot on, or says what is wrong with it.
fn take(message: pb::Snapshot, link: &Link, ends: &Ends) -> Option<pb::Outcome> {
    // Snapshots that came from the operator.
    ends.report.count("snapshots");
    let (hash, sequence) = (message.hash.clone(), message.sequence);
    match Snapshot::checked(message, &link.node) {
        Ok(snapshot) => {
            // Told again even if it is the same: whoever sends wants to hear.
            ends.snapshots.send_replace(Some(Arc::new(snapshot)));
            None
        }
        Err(message) => {
            // Of `snapshots`: refused before the kernel was asked: not whole, not what its hash says, or another node's.
            ends.report.count("snapshots_refused");
            tracing::error!("a snapshot is refused; what runs goes on: {message}");
            let broken = ends.report.is_broken();
            let failure = Some(failure(Refused { object: String::new(), message, broken, in_force: false }));
            Some(pb::Outcome { hash, failure, sequence })
        }
    }
}

/// Sends a report if it says something new.
async fn report(ends: &Ends, before: &mut Option<pb::Report>, to: &Sender<pb::AgentMessage>) -> Result<()> {
    let Ok(report) = ends.answers.report().await else { return Ok(()) };
    if before.as_ref() != Some(&report) {
        say(to, Ours::Report(report.clone())).await?;
        *before = Some(report);
    }
    Ok(())
}

/// Answers in a task of its own: a slow answer holds nothing up.
async fn ask(
    pb::Question { id, kind }: pb::Question,
    answers: &Answers,
    questions: &Arc<Semaphore>,
    to: &Sender<pb::AgentMessage>,
) -> Result<()> {
    let Ok(permit) = Arc::clone(questions).try_acquire_owned() else {
        let busy = Status::resource_exhausted(format!("{QUESTIONS} questions are being answered: ask again"));
        return say(to, Ours::Answer(pb::Answer { id, kind: Some(refusal(&busy)) })).await;
    };
    let (answers, to) = (answers.clone(), to.clone());
    tokio::spawn(async move {
        let kind = match answer(kind, &answers).await {
            Ok(kind) => kind,
            Err(status) => refusal(&status),
        };
        // The stream may have ended meanwhile; then nobody waits for it.
        let _ = say(&to, Ours::Answer(pb::Answer { id, kind: Some(kind) })).await;
        drop(permit);
    });
    Ok(())
}

async fn answer(question: Option<question::Kind>, answers: &Answers) -> Result<answer::Kind, Status> {
    match question {
        Some(question::Kind::Status(pb::StatusRequest {})) => answers.status().await.map(answer::Kind::Status),
        Some(question::Kind::Calls(pb::CallsRequest {})) => answers.calls().await.map(answer::Kind::Calls),
        Some(question::Kind::Explain(request)) => answers.explain(request).await.map(answer::Kind::Explain),
        None => Err(Status::unimplemented("this agent does not know the question: it is older than the operator")),
    }
}

fn refusal(status: &Status) -> answer::Kind {
    answer::Kind::Refusal(pb::Refusal { code: status.code().into(), message: status.message().to_owned() })
}

/// The first message.
fn hello(link: &Link, ends: &Ends) -> pb::Hello {
    pb::Hello {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        // Whoever reconnects while what runs is not whole has to say so again.
        config_hash: ends.report.whole(),
        kernel: kernel::release(),
        features: ends.report.features(),
        node: link.node.clone(),
        in_force: objects(&ends.report.config()).map(|object| object.to_string()).collect(),
    }
}

async fn say(to: &Sender<pb::AgentMessage>, kind: Ours) -> Result<()> {
    to.send(pb::AgentMessage { kind: Some(kind) }).await.ok().context("the connection to the operator has ended")
}

/// What the operator's refusal means for whoever reads the log.
fn refused(status: Status) -> anyhow::Error {
    let remedy = match status.code() {
        Code::Unauthenticated => {
            ": look at --token-file: its audience, its age, and whether the API server vouches for it"
        }
        Code::PermissionDenied => ": look at NODE_NAME, and whether the token is this agent's own",
        Code::Unimplemented => ": the operator is older than this agent",
        _ => "",
    };
    anyhow::anyhow!("the operator: {:?}: {}{remedy}", status.code(), status.message())
}
