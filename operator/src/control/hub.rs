//! What sessions share with the rest of the operator: the board, the fleet, a way to ask an attached agent.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use callgate_proto::pb;
use callgate_proto::pb::question::Kind as Asked;
use tokio::sync::{mpsc, oneshot, watch};
use tonic::{Code, Status};

use crate::fleet::Fleet;
use crate::metrics::Metrics;
use crate::moment::Moment;
use crate::publish::Board;

/// A question on its way to an agent.
#[derive(Debug)]
pub struct Ask {
    /// What is asked.
    pub question: Asked,
    /// Where the answer goes.
    pub reply: oneshot::Sender<pb::answer::Kind>,
}

/// A way to the session of an attached agent. Dropping it ends the session.
#[derive(Debug)]
struct Line {
    stream: u64,
    asks: mpsc::Sender<Ask>,
}

/// Shared by all.
pub struct Hub {
    /// Every node's latest snapshot.
    pub board: Board,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Whoever holds `lines` may take this one too, and not the other way round.
    fleet: Mutex<Fleet>,
    lines: Mutex<BTreeMap<String, Line>>,
    /// Goes up whenever the fleet changes.
    changed: watch::Sender<u64>,
    streams: AtomicU64,
}

/// An agent that does not answer a question in this time is left out.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

impl Hub {
    /// Nobody is attached yet.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            board: Board::default(),
            metrics,
            fleet: Mutex::default(),
            lines: Mutex::default(),
            changed: watch::channel(0).0,
            streams: AtomicU64::new(1),
        }
    }

    /// Looks into the fleet.
    pub fn with_fleet<R>(&self, look: impl FnOnce(&Fleet) -> R) -> R {
        look(&self.fleet())
    }

    /// Changes the fleet, and tells who waits for that.
    pub fn change<R>(&self, change: impl FnOnce(&mut Fleet) -> R) -> R {
        let result = change(&mut self.fleet());
        self.changed.send_modify(|count| *count += 1);
        result
    }

    /// Changes what is only counted: nobody waits for that, and with many agents it comes all the time.
    pub fn note(&self, change: impl FnOnce(&mut Fleet)) {
        change(&mut self.fleet());
    }

    /// Hears of changes of the fleet.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Nodes whose agents are attached.
    pub fn attached(&self) -> Vec<String> {
        self.lines().keys().cloned().collect()
    }

    /// Registers a stream of `node`, which ends any other of that node. Its number, and the questions for it.
    pub(crate) fn attach(&self, node: &str, hello: pb::Hello) -> (u64, mpsc::Receiver<Ask>) {
        let (asks, questions) = mpsc::channel(16);
        // Held until the fleet knows: of two streams at once the one that has the line is the one that is attached.
        let mut lines = self.lines();
        let stream = self.streams.fetch_add(1, Ordering::Relaxed);
        if lines.insert(node.to_owned(), Line { stream, asks }).is_some() {
            tracing::warn!(node, "a second stream of this node: the first one ends");
        }
        self.change(|fleet| fleet.attach(node, stream, hello, Moment::now()));
        self.metrics.agents.set(lines.len() as i64);
        (stream, questions)
    }

    /// A stream has ended.
    pub(super) fn detach(&self, node: &str, stream: u64) {
        let mut lines = self.lines();
        if lines.get(node).is_some_and(|line| line.stream == stream) {
            lines.remove(node);
        }
        self.metrics.agents.set(lines.len() as i64);
        drop(lines);
        self.change(|fleet| fleet.detach(node, stream, Moment::now()));
    }

    /// Whether a stream of this node is there, whichever.
    pub(super) fn has_stream(&self, node: &str) -> bool {
        self.lines().contains_key(node)
    }

    /// Ends every session: the operator is stopping.
    pub fn hang_up(&self) {
        self.lines().clear();
    }

    /// Asks the agent of a node.
    ///
    /// # Errors
    /// UNAVAILABLE where it is not attached or does not answer; otherwise what it refuses with.
    pub async fn ask(&self, node: &str, question: Asked) -> Result<pb::answer::Kind, Status> {
        let absent = || Status::unavailable(format!("the agent of node {node} is not attached"));
        let asks = self.lines().get(node).map(|line| line.asks.clone()).ok_or_else(absent)?;
        let (reply, answer) = oneshot::channel();
        let asked = async {
            asks.send(Ask { question, reply }).await.map_err(|_| absent())?;
            answer.await.map_err(|_| absent())
        };
        let silent = || Status::unavailable(format!("the agent of node {node} did not answer in time"));
        match tokio::time::timeout(ANSWER_TIMEOUT, asked).await.map_err(|_| silent())?? {
            pb::answer::Kind::Refusal(refusal) => Err(Status::new(Code::from_i32(refusal.code), refusal.message)),
            answer @ (pb::answer::Kind::Status(_) | pb::answer::Kind::Calls(_) | pb::answer::Kind::Explain(_)) => {
                Ok(answer)
            }
        }
    }

    fn fleet(&self) -> MutexGuard<'_, Fleet> {
        self.fleet.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lines(&self) -> MutexGuard<'_, BTreeMap<String, Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::thread;

    use super::*;

    #[test]
    fn of_streams_of_a_node_that_attach_at_the_same_moment_the_one_that_has_the_line_is_attached() {
        let hub = Hub::new(Arc::default());
        for _ in 0..500 {
            let together = Barrier::new(4);
            let attach = || {
                together.wait();
                hub.attach("a", pb::Hello::default())
            };
            let streams: Vec<_> = thread::scope(|scope| {
                let threads: Vec<_> = (0..4).map(|_| scope.spawn(attach)).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            // Those without the line are told to end.
            let (there, ended): (Vec<_>, Vec<_>) =
                streams.into_iter().partition(|(_, questions)| questions.sender_strong_count() > 0);
            ended.iter().for_each(|(stream, _)| hub.detach("a", *stream));
            let there: Vec<u64> = there.into_iter().map(|(stream, _)| stream).collect();
            let attached = hub.with_fleet(|fleet| fleet.get("a").and_then(|agent| agent.stream));
            assert_eq!((there, hub.attached()), (attached.into_iter().collect(), vec!["a".to_owned()]));
        }
    }
}
