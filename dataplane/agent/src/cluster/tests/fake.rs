//! An operator in this process: its CA, its certificate, and what every agent that attaches says.

use callgate_proto::pb;
use callgate_proto::pb::agent_message::Kind as Ours;
use callgate_proto::pb::control_server::{Control, ControlServer};
use callgate_proto::pb::operator_message::Kind as Theirs;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};

/// The name in the operator's certificate.
pub(crate) const NAME: &str = "callgate-operator.callgate.svc";

/// Longest time for an agent to say something.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// A token that is refused.
pub(crate) const EXPIRED: &str = "expired-token";

/// A CA.
pub(crate) struct Authority {
    params: CertificateParams,
    key: KeyPair,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        Self { params, key: KeyPair::generate().unwrap() }
    }

    /// Its certificate.
    pub(crate) fn pem(&self) -> String {
        self.params.self_signed(&self.key).unwrap().pem()
    }

    /// A certificate for the operator, and its key.
    fn identity(&self) -> Identity {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![NAME.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &Issuer::from_params(&self.params, &self.key)).unwrap();
        Identity::from_pem(certificate.pem(), key.serialize_pem())
    }
}

/// One agent that has attached.
pub(crate) struct Stream {
    /// Its `authorization`.
    pub(crate) authorization: String,
    from_agent: Streaming<pb::AgentMessage>,
    to_agent: mpsc::Sender<Result<pb::OperatorMessage, Status>>,
}

impl Stream {
    /// What it says next; `None` at its end.
    pub(crate) async fn next(&mut self) -> Option<Ours> {
        let message = tokio::time::timeout(PATIENCE, self.from_agent.message()).await;
        message.unwrap().unwrap_or(None).map(|message| message.kind.unwrap())
    }

    /// What it says next that is no report.
    pub(crate) async fn next_but_reports(&mut self) -> Option<Ours> {
        loop {
            match self.next().await {
                Some(Ours::Report(_)) => {}
                other => return other,
            }
        }
    }

    pub(crate) async fn tell(&self, kind: Theirs) {
        self.to_agent.send(Ok(pb::OperatorMessage { kind: Some(kind) })).await.unwrap();
    }

    /// A message of a kind that this version does not know.
    pub(crate) async fn tell_something_new(&self) {
        self.to_agent.send(Ok(pb::OperatorMessage { kind: None })).await.unwrap();
    }
}

struct Fake(mpsc::Sender<Stream>);

#[tonic::async_trait]
impl Control for Fake {
    type AttachStream = ReceiverStream<Result<pb::OperatorMessage, Status>>;

    async fn attach(
        &self,
        request: Request<Streaming<pb::AgentMessage>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let authorization = request.metadata().get("authorization").map(|value| value.to_str().unwrap().to_owned());
        let authorization = authorization.unwrap_or_default();
        if authorization.contains(EXPIRED) {
            return Err(Status::unauthenticated("the token is expired"));
        }
        let (to_agent, messages) = mpsc::channel(16);
        let stream = Stream { authorization, from_agent: request.into_inner(), to_agent };
        self.0.send(stream).await.map_err(|_| Status::aborted("the test is over"))?;
        Ok(Response::new(ReceiverStream::new(messages)))
    }
}

/// Serves on this port (0: any), which is returned.
pub(crate) async fn serve(
    port: u16,
    authority: &Authority,
    streams: mpsc::Sender<Stream>,
) -> (u16, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let tls = ServerTlsConfig::new().identity(authority.identity());
    let server = Server::builder().tls_config(tls).unwrap().add_service(ControlServer::new(Fake(streams)));
    let served = tokio::spawn(async move {
        // A client that trusts another CA ends its own connection, not the server.
        let _ = server.serve_with_incoming(TcpListenerStream::new(listener)).await;
    });
    (port, served)
}
