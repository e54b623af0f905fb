//! The four calls of the local API.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use callgate_proto::pb;
use callgate_proto::pb::local_server::Local;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{calls, explain};
use crate::alg::Handle;
use crate::standalone::Report;

/// Between two lists of a watch that does not say.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(1);
/// The shortest time between two lists: each takes the packet path's thread from its work.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

/// Answers from the report and the ALG.
pub(super) struct Service {
    report: Arc<Report>,
    handle: Handle,
}

impl Service {
    pub(super) fn new(report: Arc<Report>, handle: Handle) -> Self {
        Self { report, handle }
    }
}

fn ended() -> Status {
    Status::aborted("the ALG has ended: the agent is stopping, or its log says why")
}

#[tonic::async_trait]
impl Local for Service {
    async fn status(&self, _: Request<pb::StatusRequest>) -> Result<Response<pb::StatusReply>, Status> {
        let mut status = self.report.status();
        let totals = self.handle.totals().await.ok_or_else(ended)?;
        status.connections = totals.connections as u64;
        status.calls = totals.calls as u64;
        let counters = totals.counters.into_iter().map(|(name, value)| pb::Counter { name, value });
        status.counters.extend(counters);
        status.counters.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Response::new(status))
    }

    async fn calls(&self, _: Request<pb::CallsRequest>) -> Result<Response<pb::CallList>, Status> {
        let (all, now) = self.handle.calls().await.ok_or_else(ended)?;
        Ok(Response::new(calls::list(all, now)))
    }

    type WatchCallsStream = Pin<Box<dyn Stream<Item = Result<pb::CallList, Status>> + Send>>;

    async fn watch_calls(
        &self,
        request: Request<pb::WatchCallsRequest>,
    ) -> Result<Response<Self::WatchCallsStream>, Status> {
        let pb::WatchCallsRequest { interval_ms, on_change } = request.into_inner();
        let interval = match interval_ms {
            0 => DEFAULT_INTERVAL,
            ms => Duration::from_millis(ms.into()).max(SHORTEST_INTERVAL),
        };
        let handle = self.handle.clone();
        // One list ahead: a watcher that does not read must not fill the memory.
        let (sender, lists) = tokio::sync::mpsc::channel(1);
        tokio::spawn(async move {
            let mut before = None;
            loop {
                let Some((all, now)) = handle.calls().await else {
                    let _ = sender.send(Err(ended())).await;
                    return;
                };
                let outline = calls::outline(&all);
                let news = !on_change || before.as_ref() != Some(&outline);
                before = Some(outline);
                if news && sender.send(Ok(calls::list(all, now))).await.is_err() {
                    return;
                }
                tokio::select! {
                    () = tokio::time::sleep(interval) => {}
                    () = sender.closed() => return,
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(lists))))
    }

    async fn explain(&self, request: Request<pb::ExplainRequest>) -> Result<Response<pb::ExplainReply>, Status> {
        explain::answer(&self.report.config(), &request.into_inner()).map(Response::new)
    }
}
