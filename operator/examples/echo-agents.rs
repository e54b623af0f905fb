//! Agents that carry out nothing and acknowledge everything: to try an operator, and to measure it with many nodes.
//!
//! `echo-agents --operator 127.0.0.1:9443 --ca-file ca.crt --tokens DIR`, where DIR has a file a node: its name is the node's,
//! its content the token. Prints a line for each snapshot: milliseconds since the start, node, hash, bytes, sources.
// A tool of developers: it may end with a panic.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use callgate_proto::pb;
use callgate_proto::pb::agent_message::Kind as Said;
use callgate_proto::pb::control_client::ControlClient;
use callgate_proto::pb::operator_message::Kind as Sent;
use clap::Parser;
use hyper_util::rt::TokioIo;
use prost::Message as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};

/// Many agents in one process.
#[derive(Debug, Clone, Parser)]
struct Args {
    /// The operator's address
    #[arg(long, value_name = "ADDRESS")]
    operator: String,
    /// Certificates to trust
    #[arg(long, value_name = "FILE")]
    ca_file: PathBuf,
    /// A file with a token for each node
    #[arg(long, value_name = "DIR")]
    tokens: PathBuf,
    /// Name in the operator's certificate
    #[arg(long, default_value = "callgate-operator.callgate-system.svc")]
    server_name: String,
    /// Live calls that each agent reports for each rule it has
    #[arg(long, default_value_t = 0)]
    calls: u64,
    /// Milliseconds between a snapshot and its acknowledgement
    #[arg(long, default_value_t = 0)]
    delay_ms: u64,
}

#[tokio::main]
async fn main() {
    let (args, start) = (Args::parse(), Instant::now());
    let mut agents = Vec::new();
    for entry in std::fs::read_dir(&args.tokens).unwrap() {
        let entry = entry.unwrap();
        let node = entry.file_name().into_string().unwrap();
        let token = std::fs::read_to_string(entry.path()).unwrap().trim().to_owned();
        agents.push(tokio::spawn(agent(args.clone(), node, token, start)));
    }
    for agent in agents {
        agent.await.unwrap();
    }
}

async fn agent(args: Args, node: String, token: String, start: Instant) {
    let mut runs = String::new();
    loop {
        if let Err(error) = attached(&args, &node, &token, start, &mut runs).await {
            println!("{} {node} {error}", start.elapsed().as_millis());
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn attached(
    args: &Args,
    node: &str,
    token: &str,
    start: Instant,
    runs: &mut String,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
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
    };
    say.send(pb::AgentMessage { kind: Some(Said::Hello(hello)) }).await?;
    let mut request = tonic::Request::new(ReceiverStream::new(messages));
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse()?);
    let mut client = ControlClient::new(channel(args).await?).max_decoding_message_size(64 << 20);
    let mut heard = client.attach(request).await?.into_inner();
    while let Some(message) = heard.message().await? {
        let kind = match message.kind {
            Some(Sent::Snapshot(snapshot)) => {
                let (bytes, config) = (snapshot.encoded_len(), snapshot.config.unwrap_or_default());
                println!("{} {node} {} {bytes} {}", start.elapsed().as_millis(), snapshot.hash, config.sources.len());
                tokio::time::sleep(Duration::from_millis(args.delay_ms)).await;
                runs.clone_from(&snapshot.hash);
                let rules = config
                    .rules
                    .iter()
                    .filter_map(|rule| rule.key.as_ref())
                    .map(|key| pb::RuleCalls { rule: format!("{}/{}", key.namespace, key.name), calls: args.calls });
                let report = pb::Report { config_hash: runs.clone(), rules: rules.collect(), ..pb::Report::default() };
                say.send(pb::AgentMessage { kind: Some(Said::Report(report)) }).await?;
                Said::Outcome(pb::Outcome { hash: snapshot.hash, failure: None })
            }
            Some(Sent::Question(question)) => {
                let kind = match question.kind {
                    Some(pb::question::Kind::Calls(_)) => pb::answer::Kind::Calls(pb::CallList::default()),
                    _ => pb::answer::Kind::Refusal(pb::Refusal { code: 12, message: "an echo".to_owned() }),
                };
                Said::Answer(pb::Answer { id: question.id, kind: Some(kind) })
            }
            None => continue,
        };
        say.send(pb::AgentMessage { kind: Some(kind) }).await?;
    }
    Ok(())
}

async fn channel(args: &Args) -> Result<Channel, Box<dyn std::error::Error + Send + Sync>> {
    let mut roots = RootCertStore::empty();
    for cert in CertificateDer::pem_file_iter(&args.ca_file)? {
        roots.add(cert?)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let (connector, args) = (TlsConnector::from(Arc::new(config)), args.clone());
    let connect = tower::service_fn(move |_| {
        let (connector, args) = (connector.clone(), args.clone());
        async move {
            let stream = TcpStream::connect(&args.operator).await?;
            let name = ServerName::try_from(args.server_name).map_err(std::io::Error::other)?;
            Ok::<_, std::io::Error>(TokioIo::new(connector.connect(name, stream).await?))
        }
    });
    Ok(Endpoint::from_static("http://operator").connect_with_connector(connect).await?)
}
