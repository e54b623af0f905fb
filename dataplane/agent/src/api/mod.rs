//! The local API: gRPC on a unix socket that only root can open.
//!
//! ```text
//!  kubectl-callgate ─► socket (0600) ─► Local { Status, Calls, WatchCalls, Explain } ─► report, ALG handle, compile::explain
//! ```

mod calls;
mod explain;
mod service;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use callgate_proto::pb::local_server::LocalServer;
use tokio::net::UnixListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::UnixListenerStream;

use crate::alg::Handle;
use crate::standalone::Report;

/// Serves until the returned task is aborted. A socket nobody listens on is replaced.
///
/// # Errors
/// When another agent serves there, or the socket cannot be made.
pub async fn serve(socket: &Path, report: Arc<Report>, handle: Handle) -> Result<JoinHandle<()>> {
    let what = || format!("--api {}", socket.display());
    if let Some(parent) = socket.parent() {
        std::fs::create_dir_all(parent).with_context(what)?;
    }
    if tokio::net::UnixStream::connect(socket).await.is_ok() {
        anyhow::bail!("{}: another agent serves there; stop that one, or name another socket", what());
    }
    let _ = std::fs::remove_file(socket);
    let listener = UnixListener::bind(socket).with_context(what)?;
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600)).with_context(what)?;
    let service = LocalServer::new(service::Service::new(report, handle));
    let server =
        tonic::transport::Server::builder().add_service(service).serve_with_incoming(UnixListenerStream::new(listener));
    Ok(tokio::spawn(async move {
        if let Err(error) = server.await {
            tracing::error!("the local API has ended: {error}");
        }
    }))
}
