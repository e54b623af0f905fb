//! The four calls of the local API.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use callgate_proto::pb;
use callgate_proto::pb::local_server::Local;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::answers::{Answers, ended};
use super::calls;

/// Between two lists of a watch that does not say.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(1);
/// The shortest time between two lists: each takes the packet path's thread from its work.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

/// Gives the answers over gRPC.
pub(super) struct Service(pub(super) Answers);

#[tonic::async_trait]
impl Local for Service {
    async fn status(&self, _: Request<pb::StatusRequest>) -> Result<Response<pb::StatusReply>, Status> {
        self.0.status().await.map(Response::new)
    }

    async fn calls(&self, _: Request<pb::CallsRequest>) -> Result<Response<pb::CallList>, Status> {
        self.0.calls().await.map(Response::new)
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
        let (handle, report) = (self.0.handle.clone(), Arc::clone(&self.0.report));
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
        self.0.explain(request.into_inner()).await.map(Response::new)
    }
}
