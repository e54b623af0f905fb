//! An agent that carries out nothing and acknowledges everything, over the same TLS and gRPC as a real one.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use callgate_proto::pb;
use callgate_proto::pb::agent_message::Kind as Said;
use callgate_proto::pb::control_client::ControlClient;
use callgate_proto::pb::operator_message::Kind as Sent;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};

pub(crate) type Failed = Box<dyn std::error::Error + Send + Sync>;

/// Whom agents dial, and how they answer.
#[derive(Debug, Clone)]
pub(crate) struct Dial {
    /// The operator's address.
    pub(crate) operator: String,
    /// Name in its certificate.
    pub(crate) server_name: String,
    pub(crate) tls: Arc<ClientConfig>,
    /// Live calls that each agent reports for each rule it has.
    pub(crate) calls: u64,
    /// Between a snapshot and its acknowledgement.
    pub(crate) delay: Duration,
}

/// Trusts the certificates in a file.
pub(crate) fn tls(ca_file: &Path) -> Result<Arc<ClientConfig>, Failed> {
    let mut roots = RootCertStore::empty();
    for cert in CertificateDer::pem_file_iter(ca_file)? {
        roots.add(cert?)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

/// Attaches and answers until the stream ends; `heard` is told of every snapshot and when it came. `runs` is the hash of what runs.
pub(crate) async fn attached(
    dial: &Dial,
    node: &str,
    token: &str,
    runs: &mut String,
    mut heard: impl FnMut(Instant, &pb::Snapshot),
) -> Result<(), Failed> {
    let (say, messages) = mpsc::channel(8);
    let hello = pb::Hello {
        node: node.to_owned(),
        version: "echo".to_owned(),
        config_hash: runs.clone(),
        kernel: "none".to_owned(),
        features: vec![pb::Feature {
            name: "kernel".to_owned(),
            available: false,
            detail: "an echo has none".to_owned(),
        }],
        in_force: Vec::new(),
    };
    say.send(pb::AgentMessage { kind: Some(Said::Hello(hello)) }).await?;
    let mut request = tonic::Request::new(ReceiverStream::new(messages));
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse()?);
    let mut client = ControlClient::new(channel(dial).await?).max_decoding_message_size(64 << 20);
    let mut incoming = client.attach(request).await?.into_inner();
    while let Some(message) = incoming.message().await? {
        let kind = match message.kind {
            Some(Sent::Snapshot(snapshot)) => {
                heard(Instant::now(), &snapshot);
                if !dial.delay.is_zero() {
                    tokio::time::sleep(dial.delay).await;
                }
                runs.clone_from(&snapshot.hash);
                say.send(pb::AgentMessage { kind: Some(Said::Report(report(&snapshot, dial.calls))) }).await?;
                Said::Outcome(pb::Outcome { hash: snapshot.hash, failure: None, sequence: snapshot.sequence })
            }
            Some(Sent::Question(question)) => {
                let kind = match question.kind {
                    Some(pb::question::Kind::Calls(_)) => pb::answer::Kind::Calls(pb::CallList::default()),
                    Some(pb::question::Kind::Status(_) | pb::question::Kind::Explain(_)) | None => {
                        pb::answer::Kind::Refusal(pb::Refusal { code: 12, message: "an echo".to_owned() })
                    }
                };
                Said::Answer(pb::Answer { id: question.id, kind: Some(kind) })
            }
            None => continue,
        };
        say.send(pb::AgentMessage { kind: Some(kind) }).await?;
    }
    Ok(())
}

/// The same number of live calls for each rule.
fn report(snapshot: &pb::Snapshot, calls: u64) -> pb::Report {
    let rules = snapshot.config.iter().flat_map(|config| &config.rules).filter_map(|rule| rule.key.as_ref());
    let mut rules: Vec<pb::RuleCalls> =
        rules.map(|key| pb::RuleCalls { rule: format!("{}/{}", key.namespace, key.name), calls }).collect();
    rules.retain(|rule| rule.calls > 0);
    rules.sort_by(|a, b| a.rule.cmp(&b.rule));
    let total = rules.iter().map(|rule| rule.calls).sum();
    pb::Report { config_hash: snapshot.hash.clone(), rules, calls: total, ..pb::Report::default() }
}

async fn channel(dial: &Dial) -> Result<Channel, Failed> {
    let (connector, dial) = (TlsConnector::from(Arc::clone(&dial.tls)), dial.clone());
    let connect = tower::service_fn(move |_| {
        let (connector, dial) = (connector.clone(), dial.clone());
        async move {
            let stream = TcpStream::connect(&dial.operator).await?;
            let name = ServerName::try_from(dial.server_name).map_err(std::io::Error::other)?;
            Ok::<_, std::io::Error>(TokioIo::new(connector.connect(name, stream).await?))
        }
    });
    Ok(Endpoint::from_static("http://operator").connect_with_connector(connect).await?)
}
