//! Tells when links, addresses or routes have changed.

use super::Error;
use super::subscription::Subscription;

/// Multicast groups (linux/rtnetlink.h): links, IPv4 addresses, IPv4 routes, IPv4 rules.
const GROUPS: [u32; 4] = [1, 5, 7, 8];

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
pub struct Changes(Subscription);

impl Changes {
    /// Subscribes; call it inside a tokio runtime.
    pub fn open() -> Result<Self, Error> {
        Subscription::open(super::ROUTE, &GROUPS).map(Self)
    }

    /// Waits for the next change. Cancel-safe.
    pub async fn next(&mut self) -> Result<Change, Error> {
        loop {
            let Some(datagram) = self.0.datagram().await? else {
                return Ok(Change { lost: true, ..Change::default() });
            };
            let mut change = Change::default();
            let mut rest = &datagram[..];
            while let Some(header) = rest.get(..16) {
                match u16::from_ne_bytes([header[4], header[5]]) {
                    16 | 17 => change.links = true,
                    20 | 21 => change.addresses = true,
                    24 | 25 | 32 | 33 => change.routes = true,
                    _ => {}
                }
                let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
                rest = rest.get(length.max(16).next_multiple_of(4)..).unwrap_or_default();
            }
            if change != Change::default() {
                return Ok(change);
            }
        }
    }
}
