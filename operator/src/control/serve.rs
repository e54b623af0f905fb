//! The gRPC server: who is let in, and what he is given.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use callgate_proto::pb;
use callgate_proto::pb::agent_message::Kind as Said;
use callgate_proto::pb::control_server::{Control, ControlServer};
use futures::Stream;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

use super::session::Session;
use super::{Guard, Hub, Refusal};
use crate::strangers::Limit;
use crate::tls::{Handshakes, Peer, accept};

/// An agent that is let in and says nothing in this time is dropped.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection whose other end has gone without a word is noticed after these two together.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(10));
/// Largest message of an agent, bytes: a list of 10,000 calls is about 2 MiB.
const LARGEST_MESSAGE: usize = 32 << 20;

/// Most streams of one connection. An agent has one.
const STREAMS: u32 = 4;

/// The service.
struct Service {
    guard: Guard,
    hub: Arc<Hub>,
    /// Of lines about refusals: each is counted.
    told: Limit,
}

/// Serves agents until `stop` resolves.
///
/// # Errors
/// When the listener fails for good.
pub async fn serve(
    listener: TcpListener,
    tls: watch::Receiver<Arc<ServerConfig>>,
    handshakes: Arc<Handshakes>,
    guard: Guard,
    hub: Arc<Hub>,
    stop: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    let board = Arc::clone(&hub);
    let nodes = move || board.board.nodes();
    let service =
        ControlServer::new(Service { guard, hub, told: Limit::default() }).max_decoding_message_size(LARGEST_MESSAGE);
    Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE.0))
        .http2_keepalive_timeout(Some(KEEPALIVE.1))
        .max_concurrent_streams(STREAMS)
        .add_service(service)
        .serve_with_incoming_shutdown(accept(nodes, listener, tls, handshakes), stop)
        .await
}

impl Service {
    /// The node of whoever asks, and the first thing it said.
    async fn admit(
        &self,
        peer: &Peer,
        request: Request<Streaming<pb::AgentMessage>>,
    ) -> Result<(String, pb::Hello, Streaming<pb::AgentMessage>), Refusal> {
        let node = self.guard.node(peer.address().ip(), request.metadata()).await?;
        let mut incoming = request.into_inner();
        let first = tokio::time::timeout(HELLO_TIMEOUT, incoming.message()).await;
        let Ok(Ok(Some(pb::AgentMessage { kind: Some(Said::Hello(hello)) }))) = first else {
            return Err(Refusal::NoHello);
        };
        if hello.node != node {
            return Err(Refusal::OtherNode { token: node, agent: hello.node });
        }
        Ok((node, hello, incoming))
    }
}

#[tonic::async_trait]
impl Control for Service {
    type AttachStream = Pin<Box<dyn Stream<Item = Result<pb::OperatorMessage, Status>> + Send>>;

    async fn attach(
        &self,
        request: Request<Streaming<pb::AgentMessage>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let peer = request.extensions().get::<Peer>().cloned();
        let peer = peer.ok_or_else(|| Status::internal("a connection that nobody has taken"))?;
        let (node, hello, incoming) = self.admit(&peer, request).await.map_err(|refusal| {
            self.hub.metrics.refused(refusal.label());
            if let Some(untold) = self.told.tell() {
                let (peer, reason) = (peer.address(), refusal.label());
                tracing::warn!(%peer, reason, untold, "an agent was refused: {refusal}");
            }
            peer.refused();
            Status::from(&refusal)
        })?;
        let proof = peer.prove();
        tracing::info!(peer = %peer.address(), node, version = hello.version, runs = hello.config_hash, "agent attached");
        let (outgoing, messages) = mpsc::channel(1);
        let (stream, asks) = self.hub.attach(&node, hello);
        let session = Session { hub: Arc::clone(&self.hub), node, stream, asks, outgoing };
        tokio::spawn(async move {
            session.run(incoming).await;
            drop(proof);
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(messages))))
    }
}
