//! The link to the operator against an operator in this process, over real TLS.
//!
//! ```text
//!  Operator (source) ◄─ link, session ◄── TLS on 127.0.0.1 ──► Fake ─► Stream: what one agent said, and what to tell it
//! ```

mod fake;
mod protocol;
mod tls;

use std::sync::Arc;
use std::time::Duration;

use callgate_proto::pb;
use callgate_proto::pb::agent_message::Kind as Ours;
use callgate_proto::pb::operator_message::Kind as Theirs;
use tempfile::TempDir;
use tokio::sync::mpsc;

use self::fake::{Authority, Stream};
use super::connect::Address;
use super::link::Link;
use super::operator::Operator;
use super::store::Store;
use crate::alg::scripted;
use crate::api::Answers;
use crate::kernel::Options;
use crate::run::{Refused, Report, Source};

/// Longest time for anything to happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// The node all this is about.
const NODE: &str = "node-a";

/// An agent's link and the operator it finds.
struct Lab {
    dir: TempDir,
    authority: Authority,
    port: u16,
    server: tokio::task::JoinHandle<()>,
    streams: mpsc::Receiver<Stream>,
    sender: mpsc::Sender<Stream>,
    report: Arc<Report>,
    source: Operator,
}

impl Lab {
    /// An operator that is there, and an agent that knows its CA and has a token.
    async fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let authority = Authority::new("first");
        let (sender, streams) = mpsc::channel(16);
        let (port, server) = fake::serve(0, &authority, sender.clone()).await;
        std::fs::write(dir.path().join("ca.pem"), authority.pem()).unwrap();
        std::fs::write(dir.path().join("token"), "first-token\n").unwrap();
        let report = Arc::new(Report::new(Options::default(), None, Vec::new()));
        let link = Link {
            address: Address {
                operator: format!("127.0.0.1:{port}"),
                server_name: Some(fake::NAME.to_owned()),
                ca_file: dir.path().join("ca.pem"),
                token_file: dir.path().join("token"),
            },
            node: NODE.to_owned(),
            interval: Duration::from_millis(5),
        };
        let mut source = Operator::new(Store::new(dir.path(), NODE), link, false);
        let kernel = Arc::default();
        source.attached(Answers::new(&report, scripted::handle(), &kernel), &report);
        Self { dir, authority, port, server, streams, sender, report, source }
    }

    /// The operator is gone and another one is there, with a certificate of `authority`.
    async fn replace(&mut self, authority: Authority) {
        self.server.abort();
        let _ = (&mut self.server).await;
        self.authority = authority;
        (_, self.server) = fake::serve(self.port, &self.authority, self.sender.clone()).await;
    }

    /// The next stream of the agent, with its hello.
    async fn attached(&mut self) -> (Stream, pb::Hello) {
        let stream = tokio::time::timeout(PATIENCE, self.streams.recv()).await;
        let mut stream = stream.expect("no agent attached in time").unwrap();
        match stream.next().await {
            Some(Ours::Hello(hello)) => (stream, hello),
            other => panic!("not hello: {other:?}"),
        }
    }

    /// Carries out what is wanted next, with this result.
    async fn carry_out(&mut self, result: Result<(), Refused>) -> crate::run::Wanted {
        tokio::time::timeout(PATIENCE, self.source.news()).await.expect("nothing new in time");
        let wanted = self.source.wanted().await.unwrap();
        self.source.before(&wanted).unwrap();
        self.source.outcome(&wanted, result);
        wanted
    }

    /// Waits until this has been counted so often.
    async fn counted(&self, name: &str, times: u64) {
        let reached = async {
            while self.count(name) < times {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, reached).await.unwrap_or_else(|_| panic!("{name}: {}", self.count(name)));
    }

    fn count(&self, name: &str) -> u64 {
        let status = self.report.status();
        status.counters.iter().find(|counter| counter.name == name).map_or(0, |counter| counter.value)
    }
}
