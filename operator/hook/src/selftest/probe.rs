//! One TCP connection attempt, and who answered it.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::net::TcpStream;

/// RFC 5737 TEST-NET-2, and the port called discard (RFC 863): nobody is there.
pub(super) const NOBODY: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 1), 9);

/// A refusal by the node comes within a millisecond; the first retransmission of a SYN is after 1 s (RFC 6298).
const PATIENCE: Duration = Duration::from_millis(1500);

/// What became of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// RST: `Reject` answers so.
    Refused,
    /// Somebody took it.
    Accepted,
    /// Silence, or a router that knows no way.
    Unanswered,
}

/// Tries once.
pub(super) async fn connect(target: SocketAddrV4) -> Result<Answer> {
    match tokio::time::timeout(PATIENCE, TcpStream::connect(target)).await {
        Err(_) => Ok(Answer::Unanswered),
        Ok(Ok(_)) => Ok(Answer::Accepted),
        Ok(Err(error)) => match error.kind() {
            ErrorKind::ConnectionRefused => Ok(Answer::Refused),
            ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::TimedOut => Ok(Answer::Unanswered),
            _ => Err(error).with_context(|| format!("connect to {target}")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_listener_accepts_and_without_it_the_kernel_refuses() {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("listen");
        let port = listener.local_addr().expect("address").port();
        let target = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
        let with = connect(target).await.expect("with");
        drop(listener);
        let without = connect(target).await.expect("without");
        assert_eq!((with, without), (Answer::Accepted, Answer::Refused));
    }
}
