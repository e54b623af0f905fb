//! Tells which links have gone and which neighbours have spoken, one by one and at once.

use std::net::Ipv4Addr;

use rtnetlink::MulticastGroup::{Link, Neigh};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage as Message};

use super::news::{News, Payload};
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
pub(crate) struct Departures(News);

impl Departures {
    /// Subscribes; call it inside a tokio runtime.
    ///
    /// # Errors
    /// When the kernel refuses the socket or a group.
    pub(crate) fn open() -> Result<Self, Error> {
        News::open(&[Link, Neigh]).map(Self)
    }

    /// Waits for the next one. Cancel-safe.
    ///
    /// # Errors
    /// When the socket has failed.
    pub(crate) async fn next(&mut self) -> Result<Departure, Error> {
        loop {
            if let Some(departure) = read(self.0.next().await?) {
                return Ok(departure);
            }
        }
    }
}

fn read(payload: Payload) -> Option<Departure> {
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
