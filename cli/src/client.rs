//! One connection to an agent's local API over its unix socket.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use callgate_proto::pb::local_client::LocalClient;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

use crate::error::Error;

/// How long an agent may take to begin an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// A connected client and the socket it speaks to, for messages.
#[derive(Debug, Clone)]
pub struct Client {
    /// The generated client.
    pub local: LocalClient<Channel>,
    socket: PathBuf,
}

impl Client {
    /// Connects to `socket`.
    ///
    /// # Errors
    /// `NoAgent` with what the kernel said about the socket, `Gone` where something other than an agent answers.
    pub async fn connect(socket: &Path) -> Result<Self, Error> {
        let stream =
            UnixStream::connect(socket).await.map_err(|source| Error::NoAgent { socket: socket.to_owned(), source })?;
        // The channel gets this one stream: a broken connection is an error here, never a silent reconnect that
        // would hide a restarted agent.
        let stream = Arc::new(Mutex::new(Some(stream)));
        let connector = service_fn(move |_: Uri| {
            let taken = stream.lock().unwrap_or_else(PoisonError::into_inner).take();
            async move {
                let gone = || io::Error::new(io::ErrorKind::NotConnected, "the agent closed the connection");
                taken.map(TokioIo::new).ok_or_else(gone)
            }
        });
        // The name is never looked up: the connector ignores it.
        let channel = Endpoint::from_static("http://callgate.local")
            .timeout(ANSWER_WITHIN)
            .connect_with_connector(connector)
            .await
            .map_err(|e| Error::Gone { socket: socket.to_owned(), message: e.to_string() })?;
        Ok(Self { local: LocalClient::new(channel), socket: socket.to_owned() })
    }

    /// What a failed call means.
    pub fn error(&self, status: &tonic::Status) -> Error {
        Error::from_status(&self.socket, status)
    }
}
