//! One connection to the local API: of an agent over its unix socket, or of a cluster's operator over a port-forward.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use callgate_proto::pb::local_client::LocalClient;
use callgate_proto::{DEFAULT_API_SOCKET, LEADER_METADATA, pb};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Status, Streaming};
use tower::service_fn;

use crate::args::AgentArgs;
use crate::cluster::{Cluster, Forward};
use crate::error::{Error, Peer};

/// How long an answer may take to begin.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// A forward that breaks far away is not noticed by itself: it is pinged this often, and given this long to answer.
const PING: Duration = Duration::from_secs(3);

/// Largest answer, bytes: a list of 10,000 calls is about 2 MiB.
const LARGEST_ANSWER: usize = 64 << 20;

/// A connected client.
pub struct Client {
    local: LocalClient<Channel>,
    link: Link,
}

/// What the channel runs over.
enum Link {
    Socket(PathBuf),
    Operator(Box<(Cluster, Forward)>),
}

/// Asks, and asks the leader (once) where the operator that was asked does not lead.
macro_rules! ask {
    ($self:ident, $call:ident, $request:expr) => {{
        let request = $request;
        match $self.local.$call(request.clone()).await {
            Ok(reply) => Ok(reply.into_inner()),
            Err(status) => {
                if !$self.follow(&status).await? {
                    return Err($self.error(&status).await);
                }
                match $self.local.$call(request).await {
                    Ok(reply) => Ok(reply.into_inner()),
                    Err(status) => Err($self.error(&status).await),
                }
            }
        }
    }};
}

impl Client {
    /// Connects to whom the arguments name: an agent's socket, or a cluster. Where they name nobody: the agent of this host
    /// if its socket is there, else the cluster of the kubeconfig.
    ///
    /// # Errors
    /// `NoAgent`, `Cluster` or `Gone`, with what is in the way.
    pub async fn connect(args: &AgentArgs) -> Result<Self, Error> {
        let default = Path::new(DEFAULT_API_SOCKET);
        match (&args.api, args.cluster.is_given()) {
            (Some(socket), _) => Self::of_agent(socket).await,
            // One that may not even be looked at is there too.
            (None, false) if default.try_exists().unwrap_or(true) => Self::of_agent(default).await,
            (None, _) => Self::of_operator(Cluster::open(&args.cluster).await?).await,
        }
    }

    /// Connects to an agent's socket.
    ///
    /// # Errors
    /// `NoAgent` with what the kernel said about the socket, `Gone` where something other than an agent answers.
    pub async fn of_agent(socket: &Path) -> Result<Self, Error> {
        let stream =
            UnixStream::connect(socket).await.map_err(|source| Error::NoAgent { socket: socket.to_owned(), source })?;
        let endpoint = Endpoint::from_static("http://callgate.local").timeout(ANSWER_WITHIN);
        let link = Link::Socket(socket.to_owned());
        let local = channel(endpoint, stream).await.map_err(|message| Error::Gone { peer: link.peer(), message })?;
        Ok(Self { local, link })
    }

    /// Connects to the operator that leads.
    ///
    /// # Errors
    /// `Cluster` with what is in the way, `Gone` where the pod's port does not answer.
    pub async fn of_operator(cluster: Cluster) -> Result<Self, Error> {
        let forward = cluster.forward().await?;
        Self::over(cluster, forward).await
    }

    async fn over(cluster: Cluster, mut forward: Forward) -> Result<Self, Error> {
        let stream = forward.take_stream();
        let link = Link::Operator(Box::new((cluster, forward)));
        let gone = |message| Error::Gone { peer: link.peer(), message };
        let stream = stream.ok_or_else(|| gone("the forward has no stream".to_owned()))?;
        let endpoint = Endpoint::from_static("http://callgate.local")
            .timeout(ANSWER_WITHIN)
            .http2_keep_alive_interval(PING)
            .keep_alive_timeout(PING)
            .keep_alive_while_idle(true);
        let local = channel(endpoint, stream).await.map_err(gone)?;
        Ok(Self { local, link })
    }

    /// Who is asked, for messages.
    pub fn peer(&self) -> Peer {
        self.link.peer()
    }

    /// Namespace of pods whose namespace nobody has said.
    pub fn namespace(&self) -> &str {
        match &self.link {
            Link::Socket(_) => callgate_crds::DEFAULT_NAMESPACE,
            Link::Operator(operator) => &operator.0.namespace,
        }
    }

    /// What runs and how it is.
    ///
    /// # Errors
    /// `Gone`, `Refused`, or what is in the way to another leader.
    pub async fn status(&mut self) -> Result<pb::StatusReply, Error> {
        ask!(self, status, pb::StatusRequest {})
    }

    /// All live calls.
    ///
    /// # Errors
    /// As `status`.
    pub async fn calls(&mut self) -> Result<pb::CallList, Error> {
        ask!(self, calls, pb::CallsRequest {})
    }

    /// All live calls, again and again.
    ///
    /// # Errors
    /// As `status`.
    pub async fn watch_calls(&mut self, request: pb::WatchCallsRequest) -> Result<Streaming<pb::CallList>, Error> {
        ask!(self, watch_calls, request)
    }

    /// Which rule a packet would meet.
    ///
    /// # Errors
    /// As `status`.
    pub async fn explain(&mut self, request: pb::ExplainRequest) -> Result<pb::ExplainReply, Error> {
        ask!(self, explain, request)
    }

    /// What a failed call means.
    pub async fn error(&mut self, status: &Status) -> Error {
        let peer = self.link.peer();
        let error = Error::from_status(&peer, status);
        // The transport only knows that it broke; the node may have said why.
        match (error, &mut self.link) {
            (Error::Gone { message, .. }, Link::Operator(operator)) => {
                let message = operator.1.failure().await.unwrap_or(message);
                Error::Gone { peer, message }
            }
            (error, _) => error,
        }
    }

    /// Goes to the leader that a refusal names; whether it names one.
    async fn follow(&mut self, status: &Status) -> Result<bool, Error> {
        let Link::Operator(operator) = &self.link else { return Ok(false) };
        let Some(pod) = status.metadata().get(LEADER_METADATA).and_then(|pod| pod.to_str().ok()) else {
            return Ok(false);
        };
        let (cluster, before) = operator.as_ref();
        let forward = cluster.follow(before, pod).await?;
        *self = Self::over(cluster.clone(), forward).await?;
        Ok(true)
    }
}

impl Link {
    fn peer(&self) -> Peer {
        match self {
            Self::Socket(socket) => Peer::Agent(socket.clone()),
            Self::Operator(operator) => Peer::Operator(format!("{}/{}", operator.1.namespace, operator.1.pod)),
        }
    }
}

/// A client over this one stream: a broken connection is an error, never a silent reconnect that would hide that whoever
/// answers is another.
async fn channel<S>(endpoint: Endpoint, stream: S) -> Result<LocalClient<Channel>, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let stream = Arc::new(Mutex::new(Some(stream)));
    let connector = service_fn(move |_: Uri| {
        let taken = stream.lock().unwrap_or_else(PoisonError::into_inner).take();
        async move {
            let gone = || io::Error::new(io::ErrorKind::NotConnected, "the connection was closed");
            taken.map(TokioIo::new).ok_or_else(gone)
        }
    });
    // The endpoint's name is never looked up: the connector ignores it.
    let channel = endpoint.connect_with_connector(connector).await.map_err(|error| error.to_string())?;
    Ok(LocalClient::new(channel).max_decoding_message_size(LARGEST_ANSWER))
}
