//! Connections with TLS, each with the certificate of its moment.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

/// A client that does not finish its handshake in this time is dropped.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Handshakes at once: each costs a signature, and agents of 500 nodes come back together.
const HANDSHAKES_AT_ONCE: usize = 64;

/// How handshakes ended.
#[derive(Debug, Default)]
pub struct Handshakes {
    /// Done.
    pub done: AtomicU64,
    /// Refused: plain text, another authority, an old protocol, or silence.
    pub failed: AtomicU64,
}

/// A connection after its handshake.
#[derive(Debug)]
pub struct Connection {
    stream: TlsStream<TcpStream>,
    peer: SocketAddr,
}

/// Takes connections from `listener` until the receiver of the returned stream is dropped.
pub fn accept(
    listener: TcpListener,
    config: watch::Receiver<Arc<ServerConfig>>,
    counts: Arc<Handshakes>,
) -> impl Stream<Item = std::io::Result<Connection>> {
    let (sender, connections) = mpsc::channel(16);
    tokio::spawn(async move {
        let permits = Arc::new(Semaphore::new(HANDSHAKES_AT_ONCE));
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = sender.closed() => return,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, mostly: wait for some to come back.
                    tracing::warn!("taking a connection: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
            let acceptor = TlsAcceptor::from(Arc::clone(&config.borrow()));
            let (sender, counts) = (sender.clone(), Arc::clone(&counts));
            tokio::spawn(async move {
                let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await;
                drop(permit);
                match handshake {
                    Ok(Ok(stream)) => {
                        counts.done.fetch_add(1, Ordering::Relaxed);
                        let _ = sender.send(Ok(Connection { stream, peer })).await;
                    }
                    Ok(Err(error)) => refused(&counts, peer, &error.to_string()),
                    Err(_) => refused(&counts, peer, "it did not finish in time"),
                }
            });
        }
    });
    tokio_stream::wrappers::ReceiverStream::new(connections)
}

fn refused(counts: &Handshakes, peer: SocketAddr, why: &str) {
    counts.failed.fetch_add(1, Ordering::Relaxed);
    tracing::warn!(%peer, "TLS handshake refused: {why}");
}

impl Connected for Connection {
    type ConnectInfo = SocketAddr;

    fn connect_info(&self) -> SocketAddr {
        self.peer
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
