//! Agents that attach over real TLS: who is let in, who is not, and what those who are get.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use callgate_compile::Since;
use callgate_compile::world::World;
use callgate_proto::model::NodeConfig;
use callgate_proto::pb;
use callgate_proto::pb::agent_message::Kind as Said;
use callgate_proto::pb::control_client::ControlClient;
use callgate_proto::pb::operator_message::Kind as Sent;
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status, Streaming};

use super::*;
use crate::metrics::Metrics;
use crate::mock::{Log, api_server};
use crate::tls::{Authority, Lifetimes, server_config};

const NAME: &str = "callgate-operator.callgate-system.svc";
/// A test waits no longer than this for what must come.
const SOON: Duration = Duration::from_secs(10);

/// An operator's server, with an API server behind it that knows these tokens.
struct Operator {
    authority: Authority,
    tls: watch::Sender<Arc<ServerConfig>>,
    address: std::net::SocketAddr,
    hub: Arc<Hub>,
    reviews: Log,
}

/// The API server's view of a token; node "a" and "b" have good ones.
fn review(token: &str) -> Value {
    let good = |node: &str| {
        json!({"authenticated": true, "audiences": ["callgate-operator"], "user": {
            "username": "system:serviceaccount:callgate-system:callgate-agent",
            "extra": {"authentication.kubernetes.io/node-name": [node]}}})
    };
    match token {
        "token-of-a" => good("a"),
        "token-of-b" => good("b"),
        "for-the-api-server" => {
            let error = "[invalid bearer token, token audiences [\"https://kubernetes\"] is invalid]";
            json!({"authenticated": false, "error": error})
        }
        "expired" => json!({"authenticated": false, "error": "service account token has expired"}),
        "of-a-pod" => {
            let mut other = good("a");
            other["user"]["username"] = json!("system:serviceaccount:pos:default");
            other
        }
        _ => json!({"authenticated": false}),
    }
}

async fn operator() -> Operator {
    let (client, reviews) = api_server(|asked| {
        let mut answer = asked.body.clone();
        answer["status"] = review(asked.body["spec"]["token"].as_str().unwrap());
        (201, answer)
    });
    let authority = Authority::new(Timestamp::now(), Lifetimes::default()).unwrap();
    let (tls, configs) = watch::channel(served_by(&authority));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let metrics = Arc::new(Metrics::default());
    let handshakes = Arc::clone(&metrics.handshakes);
    let hub = Arc::new(Hub::new(metrics));
    let expected = Expected {
        audience: "callgate-operator".to_owned(),
        user: "system:serviceaccount:callgate-system:callgate-agent".to_owned(),
    };
    let guard = Guard::new(client, expected);
    tokio::spawn(serve(listener, configs, handshakes, guard, Arc::clone(&hub), std::future::pending()));
    Operator { authority, tls, address, hub, reviews }
}

fn served_by(authority: &Authority) -> Arc<ServerConfig> {
    server_config(&authority.issue(&[NAME.to_owned()], Timestamp::now(), Lifetimes::default()).unwrap()).unwrap()
}

impl Operator {
    /// A channel of a client that trusts `bundle`.
    async fn channel(&self, bundle: &str) -> Result<Channel, tonic::transport::Error> {
        self.channel_from("127.0.0.1", bundle).await
    }

    /// The same from this address.
    async fn channel_from(&self, from: &str, bundle: &str) -> Result<Channel, tonic::transport::Error> {
        let from: std::net::SocketAddr = format!("{from}:0").parse().unwrap();
        let mut roots = RootCertStore::empty();
        for cert in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
            roots.add(cert.unwrap()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let (connector, address) = (TlsConnector::from(Arc::new(config)), self.address);
        let connect = tower::service_fn(move |_| {
            let connector = connector.clone();
            async move {
                let socket = TcpSocket::new_v4()?;
                socket.bind(from)?;
                let stream = socket.connect(address).await?;
                let stream = connector.connect(ServerName::try_from(NAME).unwrap(), stream).await?;
                Ok::<_, std::io::Error>(TokioIo::new(stream))
            }
        });
        Endpoint::from_static("http://operator").connect_with_connector(connect).await
    }

    /// An agent that runs on `node`, says hello and has this token.
    async fn attach(&self, node: &str, token: Option<&str>) -> Result<Agent, Status> {
        self.attach_from("127.0.0.1", node, token).await
    }

    /// The same from this address.
    async fn attach_from(&self, from: &str, node: &str, token: Option<&str>) -> Result<Agent, Status> {
        let channel = self.channel_from(from, &self.authority.bundle()).await.unwrap();
        Self::attach_by(channel, node, token).await
    }

    /// The same over this connection.
    async fn attach_by(channel: Channel, node: &str, token: Option<&str>) -> Result<Agent, Status> {
        let (say, messages) = mpsc::channel(8);
        let hello = pb::Hello { node: node.to_owned(), version: "test".to_owned(), ..pb::Hello::default() };
        say.send(pb::AgentMessage { kind: Some(Said::Hello(hello)) }).await.unwrap();
        let mut request = Request::new(ReceiverStream::new(messages));
        if let Some(token) = token {
            request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        let heard = ControlClient::new(channel).attach(request).await?.into_inner();
        Ok(Agent { say, heard })
    }

    /// Puts up a snapshot for each of these nodes; its hash.
    fn publish(&self, node: &str, net: &str) -> String {
        let config =
            NodeConfig { node: node.to_owned(), cluster_nets: vec![net.parse().unwrap()], ..NodeConfig::default() };
        let latest = self.hub.board.latest().into_iter().map(|(name, snapshot)| (name, Arc::clone(&snapshot.config)));
        let mut nodes: std::collections::BTreeMap<String, Arc<NodeConfig>> = latest.collect();
        nodes.insert(node.to_owned(), Arc::new(config.clone()));
        self.hub.board.publish(&World::cluster(), &nodes, &Since::Everything);
        config.content_hash()
    }

    /// Waits until the fleet is so.
    async fn until(&self, is: impl Fn(&crate::fleet::Fleet) -> bool) {
        let mut changes = self.hub.changes();
        let wait = async {
            while !self.hub.with_fleet(&is) {
                changes.changed().await.unwrap();
            }
        };
        tokio::time::timeout(SOON, wait).await.unwrap();
    }
}

struct Agent {
    say: mpsc::Sender<pb::AgentMessage>,
    heard: Streaming<pb::OperatorMessage>,
}

impl Agent {
    async fn hear(&mut self) -> Result<Option<pb::OperatorMessage>, Status> {
        tokio::time::timeout(SOON, self.heard.message()).await.unwrap()
    }

    async fn snapshot(&mut self) -> pb::Snapshot {
        match self.hear().await.unwrap().unwrap().kind.unwrap() {
            Sent::Snapshot(snapshot) => snapshot,
            Sent::Question(question) => panic!("a question: {question:?}"),
        }
    }

    async fn answer(&self, kind: Said) {
        self.say.send(pb::AgentMessage { kind: Some(kind) }).await.unwrap();
    }
}

/// The code, and how often the reason was counted.
async fn refused(operator: &Operator, node: &str, token: Option<&str>, reason: &str) -> (Code, u64) {
    let Err(status) = operator.attach(node, token).await else { panic!("let in") };
    (status.code(), operator.hub.metrics.refusals(reason))
}

#[tokio::test]
async fn no_token_expired_wrong_audience_another_account_and_another_nodes_token_are_refused_and_counted() {
    let operator = operator().await;
    let told = [
        refused(&operator, "a", None, "no_token").await,
        refused(&operator, "a", Some("expired"), "not_authenticated").await,
        refused(&operator, "a", Some("for-the-api-server"), "not_authenticated").await,
        refused(&operator, "a", Some("invented"), "not_authenticated").await,
        refused(&operator, "a", Some("of-a-pod"), "not_an_agent").await,
        refused(&operator, "b", Some("token-of-a"), "other_node").await,
    ];
    let expected = [
        (Code::Unauthenticated, 1),
        (Code::Unauthenticated, 1),
        (Code::Unauthenticated, 2),
        (Code::Unauthenticated, 3),
        (Code::PermissionDenied, 1),
        (Code::PermissionDenied, 1),
    ];
    assert_eq!(told, expected);
    assert_eq!(operator.hub.attached(), Vec::<String>::new());
}

#[tokio::test]
async fn plain_tcp_and_a_client_that_trusts_another_authority_do_not_get_through() {
    let operator = operator().await;
    let plain = Endpoint::from_shared(format!("http://{}", operator.address)).unwrap().connect().await;
    let plain = match plain {
        Ok(channel) => {
            let (say, messages) = mpsc::channel::<pb::AgentMessage>(1);
            let attached = ControlClient::new(channel).attach(ReceiverStream::new(messages)).await;
            drop(say);
            attached.is_err()
        }
        Err(_) => true,
    };
    assert!(plain);
    let other = Authority::new(Timestamp::now(), Lifetimes::default()).unwrap();
    assert!(operator.channel(&other.bundle()).await.is_err());
    // The server sees the client's alert a moment after the client has given up.
    let failed = &operator.hub.metrics.handshakes.failed;
    let wait = async {
        while failed.load(Ordering::Relaxed) < 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, wait).await.unwrap();
    assert_eq!(operator.hub.metrics.handshakes.done.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn an_agent_gets_its_own_nodes_snapshot_and_nothing_else() {
    let operator = operator().await;
    let (a, _) = (operator.publish("a", "10.0.0.0/8"), operator.publish("b", "11.0.0.0/8"));
    let mut agent = operator.attach("a", Some("token-of-a")).await.unwrap();
    let snapshot = agent.snapshot().await;
    assert_eq!((&snapshot.hash, snapshot.config.unwrap().node.as_str()), (&a, "a"));
    operator.publish("b", "12.0.0.0/8");
    let next = operator.publish("a", "13.0.0.0/8");
    assert_eq!(agent.snapshot().await.hash, next);
}

#[tokio::test]
async fn what_an_agent_says_is_known_of_its_node() {
    let operator = operator().await;
    let hash = operator.publish("a", "10.0.0.0/8");
    let mut agent = operator.attach("a", Some("token-of-a")).await.unwrap();
    agent.snapshot().await;
    agent.answer(Said::Report(pb::Report { calls: 7, ..pb::Report::default() })).await;
    agent.answer(Said::Outcome(pb::Outcome { hash: hash.clone(), failure: None, sequence: 0 })).await;
    operator.until(|fleet| fleet.get("a").is_some_and(|a| a.running == hash && a.report.calls == 7)).await;
    drop(agent);
    operator.until(|fleet| fleet.get("a").is_some_and(|a| a.stream.is_none())).await;
}

#[tokio::test]
async fn a_second_stream_of_a_node_ends_the_first() {
    let operator = operator().await;
    operator.publish("a", "10.0.0.0/8");
    let mut first = operator.attach("a", Some("token-of-a")).await.unwrap();
    first.snapshot().await;
    let mut second = operator.attach("a", Some("token-of-a")).await.unwrap();
    assert_eq!(first.hear().await.unwrap_err().code(), Code::Aborted);
    second.snapshot().await;
    assert_eq!(operator.hub.attached(), ["a"]);
}

#[tokio::test]
async fn an_operator_that_ends_tells_agents_so() {
    let operator = operator().await;
    operator.publish("a", "10.0.0.0/8");
    let mut agent = operator.attach("a", Some("token-of-a")).await.unwrap();
    agent.snapshot().await;
    operator.hub.hang_up();
    let end = agent.hear().await.unwrap_err();
    assert_eq!((end.code(), end.message()), (Code::Unavailable, "the operator is stopping"));
}

#[tokio::test]
async fn a_token_is_shown_to_the_api_server_once_and_not_for_every_stream() {
    let operator = operator().await;
    for _ in 0..3 {
        operator.attach("a", Some("token-of-a")).await.unwrap();
    }
    assert_eq!(operator.reviews.lock().unwrap().len(), 1);
    let asked = operator.reviews.lock().unwrap()[0].clone();
    assert_eq!(asked.body["spec"], json!({"token": "token-of-a", "audiences": ["callgate-operator"]}));
}

#[tokio::test]
async fn a_connection_on_which_three_streams_were_refused_is_closed() {
    let operator = operator().await;
    let channel = operator.channel(&operator.authority.bundle()).await.unwrap();
    let connections = || operator.hub.metrics.handshakes.done.load(Ordering::Relaxed);
    let ask = || async { assert!(Operator::attach_by(channel.clone(), "a", None).await.is_err()) };
    for _ in 0..3 {
        ask().await;
    }
    assert_eq!((connections(), operator.hub.metrics.refusals("no_token")), (1, 3));
    // The client connects anew when it has noticed.
    let wait = async {
        while connections() == 1 {
            ask().await;
        }
    };
    tokio::time::timeout(SOON, wait).await.unwrap();
}

#[tokio::test]
async fn tokens_of_strangers_are_shown_to_the_api_server_four_at_a_time_and_agents_do_not_wait_for_them() {
    let operator = Arc::new(operator().await);
    let (began, mut asking) = (std::time::Instant::now(), tokio::task::JoinSet::new());
    for number in 0..12 {
        let operator = Arc::clone(&operator);
        asking.spawn(async move { operator.attach("a", Some(&format!("invented-{number}"))).await.is_err() });
    }
    operator.attach_from("127.0.0.9", "a", Some("token-of-a")).await.unwrap();
    assert!(asking.len() > 4, "an agent from elsewhere has waited for strangers");
    assert_eq!(asking.join_all().await, [true; 12]);
    assert!(began.elapsed() >= Duration::from_secs(2), "a second after each four");
}

#[tokio::test]
async fn a_question_finds_its_answer_and_an_absent_agent_is_told() {
    let operator = operator().await;
    let mut agent = operator.attach("a", Some("token-of-a")).await.unwrap();
    let hub = Arc::clone(&operator.hub);
    let kind = pb::question::Kind::Calls(pb::CallsRequest {});
    let asking = tokio::spawn(async move { hub.ask("a", kind).await });
    let Some(Sent::Question(question)) = agent.hear().await.unwrap().unwrap().kind else { panic!("no question") };
    let list = pb::CallList { taken_unix_ms: 5, ..pb::CallList::default() };
    let kind = Some(pb::answer::Kind::Calls(list.clone()));
    agent.answer(Said::Answer(pb::Answer { id: question.id, kind })).await;
    assert_eq!(asking.await.unwrap().unwrap(), pb::answer::Kind::Calls(list));
    let absent = operator.hub.ask("b", pb::question::Kind::Calls(pb::CallsRequest {})).await;
    assert_eq!(absent.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn certificates_of_a_new_authority_are_served_while_streams_of_the_old_one_live_on() {
    let operator = operator().await;
    operator.publish("a", "10.0.0.0/8");
    let mut old = operator.attach("a", Some("token-of-a")).await.unwrap();
    old.snapshot().await;
    let new = Authority::new(Timestamp::now(), Lifetimes::default()).unwrap();
    operator.tls.send_replace(served_by(&new));
    assert!(operator.channel(&operator.authority.bundle()).await.is_err());
    // Who has read both, as agents have by then, gets through before and after.
    let both = format!("{}{}", operator.authority.bundle(), new.bundle());
    assert!(operator.channel(&both).await.is_ok());
    let next = operator.publish("a", "11.0.0.0/8");
    assert_eq!(old.snapshot().await.hash, next);
}
