//! Tells when links, addresses or routes have changed.

use futures::channel::mpsc::UnboundedReceiver;
use futures::{FutureExt, StreamExt};
use rtnetlink::MulticastGroup::{Ipv4Ifaddr, Ipv4Route, Ipv4Rule, Link};
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload as Payload};
use rtnetlink::packet_route::RouteNetlinkMessage as Message;
use rtnetlink::proto::Connection;
use rtnetlink::sys::SocketAddr;

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
    /// Notifications were lost: assume that everything changed. More are lost until what waits is read, and that tells more
    /// changes: who looks at everything after each of them misses nothing.
    pub lost: bool,
}

impl Change {
    fn fold(&mut self, message: &NetlinkMessage<Message>) {
        match &message.payload {
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
pub struct Changes {
    /// Read only while somebody waits for a change: what comes meanwhile stays in the kernel, which bounds it.
    connection: Connection<Message>,
    messages: UnboundedReceiver<(NetlinkMessage<Message>, SocketAddr)>,
}

impl Changes {
    /// Subscribes; call it inside a tokio runtime.
    ///
    /// # Errors
    /// When the kernel refuses the socket or a group.
    pub fn open() -> Result<Self, Error> {
        let opened = rtnetlink::new_multicast_connection(&[Link, Ipv4Ifaddr, Ipv4Route, Ipv4Rule]);
        let (connection, _, messages) = opened.map_err(Error::socket)?;
        Ok(Self { connection, messages })
    }

    /// Waits for the next change. Cancel-safe.
    ///
    /// # Errors
    /// When the socket has failed.
    pub async fn next(&mut self) -> Result<Change, Error> {
        loop {
            let first = tokio::select! {
                biased;
                message = self.messages.next() => message,
                () = &mut self.connection => None,
            };
            let Some((first, _)) = first else { return Err(Error::Protocol("the subscription ended")) };
            let mut change = Change::default();
            change.fold(&first);
            while let Some(Some((message, _))) = self.messages.next().now_or_never() {
                change.fold(&message);
            }
            if change != Change::default() {
                return Ok(change);
            }
        }
    }
}
