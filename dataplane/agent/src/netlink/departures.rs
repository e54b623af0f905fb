//! Tells which links have gone and which neighbours have spoken, one by one and at once.

use std::net::Ipv4Addr;

use futures::StreamExt;
use futures::channel::mpsc::UnboundedReceiver;
use rtnetlink::MulticastGroup::{Link, Neigh};
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload as Payload};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage as Message};
use rtnetlink::proto::Connection;
use rtnetlink::sys::SocketAddr;

use super::{Error, doors};

/// What has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Departure {
    /// The link with this number is no more. Numbers are not given out again for a very long time.
    Gone(u32),
    /// It is known who has this address, perhaps anew.
    Spoke(Ipv4Addr),
    /// Notifications were lost: any link may have gone.
    Lost,
}

/// A subscription in the network namespace of the thread that opened it.
pub(crate) struct Departures {
    /// Read only while somebody waits; the kernel bounds what waits.
    connection: Connection<Message>,
    messages: UnboundedReceiver<(NetlinkMessage<Message>, SocketAddr)>,
}

impl Departures {
    /// Subscribes; call it inside a tokio runtime.
    ///
    /// # Errors
    /// When the kernel refuses the socket or a group.
    pub(crate) fn open() -> Result<Self, Error> {
        let (connection, _, messages) = rtnetlink::new_multicast_connection(&[Link, Neigh]).map_err(Error::socket)?;
        Ok(Self { connection, messages })
    }

    /// Waits for the next one. Cancel-safe.
    ///
    /// # Errors
    /// When the socket has failed.
    pub(crate) async fn next(&mut self) -> Result<Departure, Error> {
        loop {
            let message = tokio::select! {
                biased;
                message = self.messages.next() => message,
                () = &mut self.connection => None,
            };
            let Some((message, _)) = message else { return Err(Error::Protocol("the subscription ended")) };
            if let Some(departure) = read(message.payload) {
                return Ok(departure);
            }
        }
    }
}

fn read(payload: Payload<Message>) -> Option<Departure> {
    match payload {
        // A port that leaves its bridge is told with the bridge's family, and may live on.
        Payload::InnerMessage(Message::DelLink(link)) if link.header.interface_family == AddressFamily::Unspec => {
            Some(Departure::Gone(link.header.index))
        }
        Payload::InnerMessage(message) => doors::address(&doors::neighbour(message)?).map(Departure::Spoke),
        Payload::Overrun(_) => Some(Departure::Lost),
        _ => None,
    }
}
