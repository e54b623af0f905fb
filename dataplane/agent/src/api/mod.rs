//! The local API: gRPC on a unix socket that only root can open.
//!
//! ```text
//!  kubectl-callgate ─► socket (0600) ─► Local { Status, Calls, WatchCalls, Explain } ─┐
//!  operator ─► cluster (Question) ────────────────────────────────────────────────────┴► Answers ─► report, ALG, kernel
//! ```

mod answers;
mod calls;
mod explain;
mod service;
mod shared;
mod status;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use callgate_proto::pb::local_server::LocalServer;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::UnixListenerStream;

pub use answers::Answers;

/// Opens the socket, mode 0600. One that nobody listens on any more is replaced; missing directories are made.
///
/// # Errors
/// When another agent serves there, or the socket cannot be made.
pub async fn bind(socket: &Path) -> Result<UnixListener> {
    let what = || format!("--api {}", socket.display());
    if let Some(parent) = socket.parent() {
        std::fs::create_dir_all(parent).with_context(what)?;
    }
    if UnixStream::connect(socket).await.is_ok() {
        anyhow::bail!("{}: another agent serves there; stop that one, or name another socket", what());
    }
    // Under another name until its mode is right; renaming also replaces a stale one.
    let mut name = socket.as_os_str().to_owned();
    name.push(".new");
    let _ = std::fs::remove_file(&name);
    let listener = UnixListener::bind(&name).with_context(what)?;
    std::fs::set_permissions(&name, std::fs::Permissions::from_mode(0o600)).with_context(what)?;
    std::fs::rename(&name, socket).with_context(what)?;
    Ok(listener)
}

/// Serves until the returned task is aborted.
pub fn serve(listener: UnixListener, answers: Answers) -> JoinHandle<()> {
    let service = LocalServer::new(service::Service(answers));
    let server =
        tonic::transport::Server::builder().add_service(service).serve_with_incoming(UnixListenerStream::new(listener));
    tokio::spawn(async move {
        if let Err(error) = server.await {
            tracing::error!("the local API has ended: {error}");
        }
    })
}

#[cfg(test)]
mod tests;
