//! Tells when links, addresses or routes have changed.

use rtnetlink::MulticastGroup::{Ipv4Ifaddr, Ipv4Route, Ipv4Rule, Link};
use rtnetlink::packet_route::RouteNetlinkMessage as Message;

use super::Error;
use super::news::{News, Payload};

/// What has changed since the last one; several changes may be folded into one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Change {
    /// A link came, went, or changed its state.
    pub links: bool,
    /// An IPv4 address came or went.
    pub addresses: bool,
    /// An IPv4 route or rule came or went.
    pub routes: bool,
    /// Notifications were lost: assume that everything changed. More are lost until what waits is read, and that tells more
    /// changes: who looks at everything after each of them misses nothing.
    pub lost: bool,
}

impl Change {
    fn fold(&mut self, payload: &Payload) {
        match payload {
            Payload::InnerMessage(Message::NewLink(_) | Message::DelLink(_)) => self.links = true,
            Payload::InnerMessage(Message::NewAddress(_) | Message::DelAddress(_)) => self.addresses = true,
            Payload::InnerMessage(
                Message::NewRoute(_) | Message::DelRoute(_) | Message::NewRule(_) | Message::DelRule(_),
            ) => self.routes = true,
            Payload::Overrun(_) => self.lost = true,
            _ => {}
        }
    }
}

/// A subscription in the network namespace of the thread that opened it.
pub struct Changes(News);

impl Changes {
    /// Subscribes; call it inside a tokio runtime.
    ///
    /// # Errors
    /// When the kernel refuses the socket or a group.
    pub fn open() -> Result<Self, Error> {
        News::open(&[Link, Ipv4Ifaddr, Ipv4Route, Ipv4Rule]).map(Self)
    }

    /// Waits for the next change. Cancel-safe.
    ///
    /// # Errors
    /// When the socket has failed.
    pub async fn next(&mut self) -> Result<Change, Error> {
        loop {
            let mut change = Change::default();
            change.fold(&self.0.next().await?);
            while let Some(payload) = self.0.read_already() {
                change.fold(&payload);
            }
            if change != Change::default() {
                return Ok(change);
            }
        }
    }
}
