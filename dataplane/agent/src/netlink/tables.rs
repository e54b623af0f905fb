//! Tells when somebody, ourselves too, has changed nftables.

use super::Error;
use super::subscription::Subscription;

/// NFNLGRP_NFTABLES (linux/netfilter/nfnetlink.h).
const GROUP: u32 = 7;

/// A subscription in the network namespace of the thread that opened it.
pub struct Tables(Subscription);

impl Tables {
    /// Subscribes; call it inside a tokio runtime.
    ///
    /// # Errors
    /// When the kernel refuses the socket.
    pub fn open() -> Result<Self, Error> {
        Subscription::open(super::NETFILTER, &[GROUP]).map(Self)
    }

    /// Waits for the next notification; one change may cause several. Cancel-safe.
    ///
    /// # Errors
    /// When the socket fails.
    pub async fn next(&mut self) -> Result<(), Error> {
        // Where notifications were lost, there were some.
        self.0.datagram().await.map(|_| ())
    }
}
