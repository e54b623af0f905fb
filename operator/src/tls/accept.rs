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
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use super::peer::Peer;
use crate::strangers::{Crowd, Limit};

/// A client that does not finish its handshake in this time is dropped.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Most connections on which no agent is attached, where there are not many nodes. What fills this is silence.
const STRANGERS: usize = 512;
/// As many for each node: all agents come back together, and one that waits for its turn must not be closed for those that come after
/// it. Two, for whoever begins anew.
const OF_NODE: usize = 2;
/// Between two looks for those who have been strangers for too long.
const LOOK: Duration = Duration::from_secs(1);
/// After a connection that could not be taken.
const PAUSE: Duration = Duration::from_millis(100);

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
    peer: Ending,
}

/// Tells the peer when the connection ends, however it does.
#[derive(Debug)]
struct Ending(Peer);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.gone();
    }
}

/// Takes connections from `listener` until the receiver of the returned stream is dropped. It never waits for whoever has
/// connected: nothing is known of him yet. On which of them an agent is attached, `Peer` is told. `nodes` says how many nodes there are.
pub fn accept(
    nodes: impl Fn() -> usize + Send + 'static,
    listener: TcpListener,
    config: watch::Receiver<Arc<ServerConfig>>,
    counts: Arc<Handshakes>,
) -> impl Stream<Item = std::io::Result<Connection>> {
    accept_at_most(move || strangers(nodes()), listener, config, counts)
}

/// How many there may be at so many nodes.
fn strangers(nodes: usize) -> usize {
    nodes.saturating_mul(OF_NODE).max(STRANGERS)
}

fn accept_at_most(
    most: impl Fn() -> usize + Send + 'static,
    listener: TcpListener,
    config: watch::Receiver<Arc<ServerConfig>>,
    counts: Arc<Handshakes>,
) -> impl Stream<Item = std::io::Result<Connection>> {
    let (sender, connections) = mpsc::channel(16);
    tokio::spawn(async move {
        let (crowd, untaken) = (Crowd::new("a connection without an agent was", most()), Limit::default());
        let refusals = Arc::new(Refusals { counts, told: Limit::default() });
        let mut look = tokio::time::interval(LOOK);
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = look.tick() => {
                    crowd.expire("no agent has attached on it in time");
                    continue;
                }
                () = sender.closed() => return,
            };
            let (stream, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, mostly: one is taken back, and others may come back by themselves.
                    if let Some(untold) = untaken.tell() {
                        tracing::warn!(untold, "taking a connection: {error}");
                    }
                    crowd.evict("others cannot be taken, and most of them are from this address");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            let acceptor = TlsAcceptor::from(Arc::clone(&config.borrow()));
            let (sender, refusals) = (sender.clone(), Arc::clone(&refusals));
            crowd.holds(most());
            let peer = Ending(Peer::new(address, &crowd));
            tokio::spawn(async move {
                let handshake = tokio::select! {
                    handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)) => handshake,
                    // The crowd has told why.
                    () = peer.0.closing().wait() => return refusals.count(),
                };
                match handshake {
                    Ok(Ok(stream)) => {
                        refusals.counts.done.fetch_add(1, Ordering::Relaxed);
                        let _ = sender.send(Ok(Connection { stream, peer })).await;
                    }
                    Ok(Err(error)) => refusals.note(address, &error.to_string()),
                    Err(_) => refusals.note(address, "it did not finish in time"),
                }
            });
        }
    });
    tokio_stream::wrappers::ReceiverStream::new(connections)
}

/// Counts refusals, and tells of some.
struct Refusals {
    counts: Arc<Handshakes>,
    told: Limit,
}

impl Refusals {
    fn count(&self) {
        self.counts.failed.fetch_add(1, Ordering::Relaxed);
    }

    fn note(&self, peer: SocketAddr, why: &str) {
        self.count();
        if let Some(untold) = self.told.tell() {
            tracing::warn!(%peer, untold, "TLS handshake refused: {why}");
        }
    }
}

impl Connection {
    /// An error when it is to end: whoever serves it gives it up then.
    fn check(&self, cx: &Context<'_>) -> std::io::Result<()> {
        match self.peer.0.closing().poll(cx) {
            Poll::Ready(()) => Err(std::io::ErrorKind::ConnectionAborted.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.0.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
