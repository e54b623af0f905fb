//! A local API of fixed answers on a socket in a temporary directory, and commands run against it.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

pub mod fixtures;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use callgate_proto::pb;
use callgate_proto::pb::local_server::{Local, LocalServer};
use clap::Parser as _;
use kubectl_callgate::Io;
use kubectl_callgate::args::Cli;
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::Stream;
use tokio_stream::wrappers::{UnboundedReceiverStream, UnixListenerStream};
use tonic::transport::Server;
use tonic::{Request, Response, Status};

/// 2026-11-21T10:00:00Z.
pub const NOW: i64 = 1_795_255_200_000;

/// Lists a watch sends.
pub type Lists = mpsc::UnboundedReceiver<Result<pb::CallList, Status>>;

/// What the fixed agent answers; an absent answer is `Unimplemented`.
#[derive(Default)]
pub struct Answers {
    pub status: Option<pb::StatusReply>,
    pub calls: Option<pb::CallList>,
    pub explain: Option<Result<pb::ExplainReply, Status>>,
    /// Lists for the one watch that is expected.
    pub watch: Mutex<Option<Lists>>,
    /// What was asked.
    pub asked: Mutex<Vec<String>>,
}

impl Answers {
    fn note(&self, request: &impl std::fmt::Debug) {
        self.asked.lock().unwrap().push(format!("{request:?}"));
    }
}

struct Agent(Arc<Answers>);

fn absent() -> Status {
    Status::unimplemented("no answer prepared")
}

#[tonic::async_trait]
impl Local for Agent {
    async fn status(&self, _: Request<pb::StatusRequest>) -> Result<Response<pb::StatusReply>, Status> {
        self.0.status.clone().map(Response::new).ok_or_else(absent)
    }

    async fn calls(&self, _: Request<pb::CallsRequest>) -> Result<Response<pb::CallList>, Status> {
        self.0.calls.clone().map(Response::new).ok_or_else(absent)
    }

    type WatchCallsStream = Pin<Box<dyn Stream<Item = Result<pb::CallList, Status>> + Send>>;

    async fn watch_calls(
        &self,
        request: Request<pb::WatchCallsRequest>,
    ) -> Result<Response<Self::WatchCallsStream>, Status> {
        self.0.note(request.get_ref());
        let lists = self.0.watch.lock().unwrap().take().ok_or_else(absent)?;
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(lists))))
    }

    async fn explain(&self, request: Request<pb::ExplainRequest>) -> Result<Response<pb::ExplainReply>, Status> {
        self.0.note(request.get_ref());
        self.0.explain.clone().ok_or_else(absent)?.map(Response::new)
    }
}

/// A directory for a socket, removed at the end of the test.
pub struct Place {
    dir: TempDir,
}

impl Place {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("api.sock")
    }

    /// A text with the socket's path replaced by `SOCKET`.
    pub fn plain(&self, text: &str) -> String {
        text.replace(self.socket().to_str().unwrap(), "SOCKET")
    }
}

/// A running agent on threads of its own.
pub struct Running {
    pub answers: Arc<Answers>,
    runtime: Option<Runtime>,
}

impl Drop for Running {
    /// Ends the agent and every connection to it at once; the socket's file stays, as after kill -9.
    fn drop(&mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }
}

/// Serves `answers` on `socket` from now on.
pub fn serve(socket: &Path, answers: Answers) -> Running {
    let _ = std::fs::remove_file(socket);
    let listener = std::os::unix::net::UnixListener::bind(socket).unwrap();
    listener.set_nonblocking(true).unwrap();
    let answers = Arc::new(answers);
    let service = LocalServer::new(Agent(answers.clone()));
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.spawn(async move {
        let incoming = UnixListenerStream::new(UnixListener::from_std(listener).unwrap());
        Server::builder().add_service(service).serve_with_incoming(incoming).await.unwrap();
    });
    Running { answers, runtime: Some(runtime) }
}

/// What a finished command left behind.
#[derive(Debug, PartialEq, Eq)]
pub struct Finished {
    pub code: u8,
    pub out: String,
    pub err: String,
}

/// Runs a command line (words are separated by spaces) to its end.
pub async fn command(line: &str) -> Finished {
    let cli = Cli::try_parse_from(line.split(' ')).unwrap();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut io = Io { out: &mut out, err: &mut err, terminal: false, now_unix_ms: NOW };
    let code = kubectl_callgate::run(&cli, &mut io).await;
    Finished { code, out: String::from_utf8(out).unwrap(), err: String::from_utf8(err).unwrap() }
}

/// A writer whose writes can be awaited one by one; an error once nobody reads any more.
struct Wire(mpsc::UnboundedSender<String>, String);

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.1.push_str(std::str::from_utf8(bytes).unwrap());
        // Whole lines only, as a person would see them.
        if self.1.ends_with('\n') {
            let text = std::mem::take(&mut self.1);
            self.0.send(text).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A command that goes on.
pub struct Watching {
    pub out: mpsc::UnboundedReceiver<String>,
    pub err: mpsc::UnboundedReceiver<String>,
    pub code: JoinHandle<u8>,
}

/// Starts a command line that does not end by itself.
pub fn watch(line: &str, terminal: bool) -> Watching {
    let cli = Cli::try_parse_from(line.split(' ')).unwrap();
    let (to_out, out) = mpsc::unbounded_channel();
    let (to_err, err) = mpsc::unbounded_channel();
    let code = tokio::spawn(async move {
        let (mut out, mut err) = (Wire(to_out, String::new()), Wire(to_err, String::new()));
        let mut io = Io { out: &mut out, err: &mut err, terminal, now_unix_ms: NOW };
        kubectl_callgate::run(&cli, &mut io).await
    });
    Watching { out, err, code }
}
