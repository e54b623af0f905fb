//! The people's API: the same four calls that an agent serves, about all nodes, made of what the agents answer.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use callgate_compile::explain::{meant, tell_missing};
use callgate_proto::pb::local_server::{Local, LocalServer};
use callgate_proto::pb::{answer, question};
use callgate_proto::{LEADER_METADATA, pb};
use futures::future::join_all;
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::Stream;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Response, Status};

use crate::control::Hub;
use crate::facts::{Settings, cluster_nets};
use crate::publish::Published;
use crate::watch::Watched;

mod explain;
mod merge;

/// Between two lists of a watch that does not say.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(1);
/// The shortest time between two lists: each asks every agent.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(500);

/// What answers are made of.
#[derive(Clone)]
pub struct Desk {
    /// The agents.
    pub hub: Arc<Hub>,
    /// What was compiled last; nothing while another operator leads.
    pub published: watch::Receiver<Option<Arc<Published>>>,
    /// Of the command line.
    pub settings: Settings,
    /// The facts.
    pub watched: Watched,
    /// Name of the pod that leads.
    pub leader: watch::Receiver<String>,
}

/// Serves until it is dropped.
pub async fn serve(listener: TcpListener, desk: Desk) {
    let service = LocalServer::new(desk);
    let server = tonic::transport::Server::builder().add_service(service);
    if let Err(error) = server.serve_with_incoming(TcpListenerStream::new(listener)).await {
        tracing::error!("the API for people has ended: {error}");
    }
}

impl Desk {
    fn published(&self) -> Result<Arc<Published>, Status> {
        let latest = self.published.borrow().clone();
        latest.ok_or_else(|| elsewhere(&self.leader.borrow()))
    }

    /// Everybody's calls.
    async fn all_calls(&self) -> Result<pb::CallList, Status> {
        let published = self.published()?;
        let ask = |node: String| async move {
            let answer = self.hub.ask(&node, question::Kind::Calls(pb::CallsRequest {})).await;
            (node, answer)
        };
        let mut lists = BTreeMap::new();
        let mut missing = BTreeMap::new();
        for (node, answer) in join_all(self.hub.attached().into_iter().map(ask)).await {
            match answer {
                Ok(answer::Kind::Calls(list)) => drop(lists.insert(node, list)),
                Ok(answer::Kind::Status(_) | answer::Kind::Explain(_) | answer::Kind::Refusal(_)) => {
                    drop(missing.insert(node, "its agent answered something else".to_owned()));
                }
                Err(status) => drop(missing.insert(node, status.message().to_owned())),
            }
        }
        let taken = Timestamp::now().as_millisecond();
        // Nodes that have something to do and no agent: what they carry is not known.
        let busy = self.hub.board.latest();
        let missing = self.hub.with_fleet(|fleet| merge::missing(missing, &lists, &busy, fleet));
        Ok(merge::calls(lists, missing, &published.world.read(), taken))
    }
}

#[tonic::async_trait]
impl Local for Desk {
    async fn status(&self, _: Request<pb::StatusRequest>) -> Result<Response<pb::StatusReply>, Status> {
        let published = self.published()?;
        let wanted = self.hub.board.latest();
        let (nets, told) = {
            let facts = self.watched.facts();
            let told = published.compiled.statuses.keys().map(|object| {
                let status = facts.told(object).map(|told| told.status.clone()).unwrap_or_default();
                (object.clone(), status)
            });
            (cluster_nets(&facts, &self.settings.cluster_cidrs), told.collect::<BTreeMap<_, _>>())
        };
        Ok(Response::new(self.hub.with_fleet(|fleet| merge::status(&told, &wanted, fleet, &nets))))
    }

    async fn calls(&self, _: Request<pb::CallsRequest>) -> Result<Response<pb::CallList>, Status> {
        self.all_calls().await.map(Response::new)
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
        let service = self.clone();
        let (sender, lists) = mpsc::channel(1);
        tokio::spawn(async move {
            let mut before = None;
            loop {
                let list = service.all_calls().await;
                let (outline, failed) = (list.as_ref().ok().map(merge::outline), list.is_err());
                let news = !on_change || before != outline;
                before = outline;
                if (news || failed) && sender.send(list).await.is_err() {
                    return;
                }
                if failed {
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
        let published = self.published()?;
        let mut request = request.into_inner();
        let (origin, meant) = {
            let world = published.world.read();
            let origin = explain::origin(&world, &request.from)?;
            let meant = meant(&world, &published.compiled.statuses, Some(&origin.pod), origin.address);
            (origin, meant)
        };
        request.from = Ipv4Addr::to_string(&origin.address);
        let asked = self.hub.ask(&origin.node, question::Kind::Explain(request.clone())).await;
        let mut reply = match asked {
            Ok(answer::Kind::Explain(reply)) => reply,
            Ok(answer::Kind::Status(_) | answer::Kind::Calls(_) | answer::Kind::Refusal(_)) => {
                return Err(Status::internal(format!("the agent of node {} answered something else", origin.node)));
            }
            // Without its agent: what it should do, and that this is not what it says itself.
            Err(error) if error.code() == tonic::Code::Unavailable => {
                let wanted = self.hub.board.latest().remove(&origin.node).ok_or(error)?;
                let why = self.hub.with_fleet(|fleet| merge::why_missing(fleet.get(&origin.node)));
                explain::from_wanted(&wanted.config, &request, &format!("node {}: {why}", origin.node))?
            }
            Err(error) => return Err(error),
        };
        tell_missing(&mut reply, meant);
        (reply.node, reply.from_pod) = (origin.node, origin.pod.to_string());
        Ok(Response::new(reply))
    }
}

/// What an operator says that has nothing compiled: who leads, where that is known.
fn elsewhere(leader: &str) -> Status {
    if leader.is_empty() {
        return Status::unavailable("nothing is compiled yet: ask again in a moment");
    }
    let mut metadata = MetadataMap::new();
    // Names of pods are ASCII.
    if let Ok(leader) = leader.parse() {
        metadata.insert(LEADER_METADATA, leader);
    }
    let message = format!("another operator leads: ask pod {leader}");
    Status::with_metadata(Code::FailedPrecondition, message, metadata)
}

#[cfg(test)]
mod tests;
