//! The four calls of the local API.

use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use callgate_proto::pb;
use callgate_proto::pb::local_server::Local;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{calls, explain, status};
use crate::alg::Handle;
use crate::kernel::Counters;
use crate::standalone::{Report, SharedKernel};

/// Between two lists of a watch that does not say.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(1);
/// The shortest time between two lists: each takes the packet path's thread from its work.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

/// Answers from the report and the ALG.
pub(super) struct Service {
    report: Arc<Report>,
    handle: Handle,
    kernel: SharedKernel,
}

impl Service {
    pub(super) fn new(report: Arc<Report>, handle: Handle, kernel: SharedKernel) -> Self {
        Self { report, handle, kernel }
    }

    /// What the kernel counts; nothing while it is being stopped.
    async fn kernel_counters(&self) -> Counters {
        let kernel = Arc::clone(&self.kernel);
        // A large configuration may be on its way into the kernel: wait for it elsewhere.
        let read = tokio::task::spawn_blocking(move || {
            let mut guard = kernel.lock().unwrap_or_else(PoisonError::into_inner);
            guard.as_mut().map(|shared| shared.kernel.counters())
        });
        match read.await {
            Ok(Some(Ok(counters))) => counters,
            Ok(Some(Err(error))) => {
                tracing::warn!("{error}");
                Counters::default()
            }
            Ok(None) | Err(_) => Counters::default(),
        }
    }
}

fn ended() -> Status {
    Status::aborted("the ALG has ended: the agent is stopping, or its log says why")
}

#[tonic::async_trait]
impl Local for Service {
    async fn status(&self, _: Request<pb::StatusRequest>) -> Result<Response<pb::StatusReply>, Status> {
        let totals = self.handle.totals().await.ok_or_else(ended)?;
        Ok(Response::new(status::reply(&self.report, totals, &self.kernel_counters().await)))
    }

    async fn calls(&self, _: Request<pb::CallsRequest>) -> Result<Response<pb::CallList>, Status> {
        let (all, now) = self.handle.calls().await.ok_or_else(ended)?;
        Ok(Response::new(calls::list(all, now, &self.report.holders())))
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
        let (handle, report) = (self.handle.clone(), Arc::clone(&self.report));
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
                if news && sender.send(Ok(calls::list(all, now, &report.holders()))).await.is_err() {
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
        let (report, request) = (Arc::clone(&self.report), request.into_inner());
        let answer = tokio::task::spawn_blocking(move || explain::answer(&report, &request, &mut explain::Kernel));
        answer.await.map_err(|error| Status::internal(error.to_string()))?.map(Response::new)
    }
}
