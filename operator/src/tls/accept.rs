//! Connections with TLS, each with the certificate of its moment.

use std::fmt::Display;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use super::pending::Pending;

/// A client that does not finish its handshake in this time is dropped.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Most handshakes at once. Agents of 500 nodes come back together, each takes milliseconds; what fills this is silence.
const HANDSHAKES_AT_ONCE: usize = 512;
/// Every refusal is counted; so many are told in so long a time: strangers must not fill the log.
const TOLD: (u64, Duration) = (10, Duration::from_secs(10));

/// How handshakes ended.
#[derive(Debug, Default)]
pub struct Handshakes {
    /// Done.
    pub done: AtomicU64,
    /// Refused: plain text, another authority, an old protocol, silence, or one of too many from an address.
    pub failed: AtomicU64,
}

/// A connection after its handshake.
#[derive(Debug)]
pub struct Connection {
    stream: TlsStream<TcpStream>,
    peer: SocketAddr,
}

/// Takes connections from `listener` until the receiver of the returned stream is dropped. It never waits for whoever has
/// connected: nothing is known of him yet.
pub fn accept(
    listener: TcpListener,
    config: watch::Receiver<Arc<ServerConfig>>,
    counts: Arc<Handshakes>,
) -> impl Stream<Item = std::io::Result<Connection>> {
    accept_at_most(HANDSHAKES_AT_ONCE, listener, config, counts)
}

fn accept_at_most(
    most: usize,
    listener: TcpListener,
    config: watch::Receiver<Arc<ServerConfig>>,
    counts: Arc<Handshakes>,
) -> impl Stream<Item = std::io::Result<Connection>> {
    let (sender, connections) = mpsc::channel(16);
    tokio::spawn(async move {
        let pending = Pending::default();
        let refusals = Arc::new(Refusals { counts, lately: Mutex::new((Instant::now(), 0)) });
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = sender.closed() => return,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, mostly: one is taken back, and others may come back by themselves.
                    tracing::warn!("taking a connection: {error}");
                    pending.evict();
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            if pending.count() >= most
                && let Some(address) = pending.evict()
            {
                refusals.note(address, "too many have not finished theirs, and most of them are from this address");
            }
            let acceptor = TlsAcceptor::from(Arc::clone(&config.borrow()));
            let (sender, refusals, waiting) = (sender.clone(), Arc::clone(&refusals), pending.clone());
            pending.add(peer.ip(), |number| {
                let task = tokio::spawn(async move {
                    let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await;
                    waiting.remove(peer.ip(), number);
                    match handshake {
                        Ok(Ok(stream)) => {
                            refusals.counts.done.fetch_add(1, Ordering::Relaxed);
                            let _ = sender.send(Ok(Connection { stream, peer })).await;
                        }
                        Ok(Err(error)) => refusals.note(peer, &error.to_string()),
                        Err(_) => refusals.note(peer, "it did not finish in time"),
                    }
                });
                task.abort_handle()
            });
        }
    });
    tokio_stream::wrappers::ReceiverStream::new(connections)
}

/// Counts refusals, and tells of some.
struct Refusals {
    counts: Arc<Handshakes>,
    /// Since when it counts what it tells, and how many there were.
    lately: Mutex<(Instant, u64)>,
}

impl Refusals {
    fn note(&self, peer: impl Display, why: &str) {
        self.counts.failed.fetch_add(1, Ordering::Relaxed);
        if let Some(untold) = self.tell() {
            tracing::warn!(%peer, untold, "TLS handshake refused: {why}");
        }
    }

    /// Whether this one is told, and how many before it were not.
    fn tell(&self) -> Option<u64> {
        let mut lately = self.lately.lock().unwrap_or_else(PoisonError::into_inner);
        let (most, time) = TOLD;
        let untold = if lately.0.elapsed() < time {
            0
        } else {
            std::mem::replace(&mut *lately, (Instant::now(), 0)).1.saturating_sub(most)
        };
        lately.1 += 1;
        (lately.1 <= most).then_some(untold)
    }
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

#[cfg(test)]
mod tests;
