//! What NETLINK_ROUTE tells of itself, message by message.

use futures::channel::mpsc::UnboundedReceiver;
use futures::{FutureExt, StreamExt};
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage as Message;
use rtnetlink::proto::Connection;
use rtnetlink::sys::SocketAddr;

use super::Error;

/// A message, or `Overrun` where some were lost.
pub(super) type Payload = NetlinkPayload<Message>;

/// A subscription in the network namespace of the thread that opened it.
pub(super) struct News {
    /// Read only while somebody waits: what comes meanwhile stays in the kernel, which bounds it.
    connection: Connection<Message>,
    messages: UnboundedReceiver<(NetlinkMessage<Message>, SocketAddr)>,
}

impl News {
    /// Subscribes; call it inside a tokio runtime.
    ///
    /// # Errors
    /// When the kernel refuses the socket or a group.
    pub(super) fn open(groups: &[MulticastGroup]) -> Result<Self, Error> {
        let (connection, _, messages) = rtnetlink::new_multicast_connection(groups).map_err(Error::socket)?;
        Ok(Self { connection, messages })
    }

    /// Waits for the next one. Cancel-safe.
    ///
    /// # Errors
    /// When the socket has failed.
    pub(super) async fn next(&mut self) -> Result<Payload, Error> {
        let message = tokio::select! {
            biased;
            message = self.messages.next() => message,
            () = &mut self.connection => None,
        };
        message.map(|(message, _)| message.payload).ok_or(Error::Protocol("the subscription ended"))
    }

    /// The next of those that have been read already.
    pub(super) fn read_already(&mut self) -> Option<Payload> {
        self.messages.next().now_or_never().flatten().map(|(message, _)| message.payload)
    }
}
