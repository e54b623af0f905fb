//! One control connection: addresses, both streams, what each side last said about itself.

use std::net::Ipv4Addr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::event::CloseReason;
use super::record::Unsaved;
use super::view::ConnectionState;
use crate::stream::Stream;
use crate::types::{Flow, Now, Policy, Side, is_default};
use crate::wire::{Seq, tcp};

/// What the next segment made in a side's name is modelled on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Peer {
    /// Its last window, unscaled.
    pub(crate) window: u16,
    /// Its last timestamp value and echo, where the connection uses them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) timestamps: Option<(u32, u32)>,
    /// Its last type of service.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) tos: u8,
}

/// The part of a connection that changes with its messages, and is saved with each of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ConnectionData {
    pub(crate) state: ConnectionState,
    /// Client to server.
    pub(crate) up: Stream,
    /// Server to client; `None` until its SYN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) down: Option<Stream>,
    pub(crate) client: Peer,
    pub(crate) server: Peer,
    /// The client's Start-Control-Connection-Request was whole and valid.
    pub(crate) started: bool,
    /// The server has said that it takes one call at a time (Max Channels).
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) one_call: bool,
    /// Who sent FIN first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) first_fin: Option<Side>,
    /// When the TCP handshake was complete.
    #[serde(default)]
    pub(crate) connected: Now,
    /// When the last segment came from the client and from the server.
    pub(crate) seen: (Now, Now),
    /// We have said goodbye to both sides: when it is reset unless they close before, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) leaving: Option<(Now, CloseReason)>,
}

/// A connection as the engine holds it.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) id: u64,
    pub(crate) flow: Flow,
    pub(crate) external: Ipv4Addr,
    pub(crate) external_port: u16,
    pub(crate) policy: Arc<Policy>,
    /// The client's initial sequence number.
    pub(crate) client_isn: Seq,
    pub(crate) created: Now,
    pub(crate) data: ConnectionData,
    /// What of it the journal does not have.
    pub(crate) unsaved: Unsaved,
    /// The number its next call gets in the journal.
    pub(crate) next_call: u32,
    /// No time-out of silence strikes before this (after a restart).
    pub(crate) grace: Now,
    /// When the first FIN came: from then on nobody waits for a message. Not saved.
    pub(crate) finished: Option<Now>,
    /// When it ended; it stays for retransmissions.
    pub(crate) ended: Option<Ended>,
    /// The deadline its entry in the timer queue has.
    pub(crate) armed: Option<Now>,
    /// Whether it counts among those waiting for their first message.
    pub(crate) half_open: bool,
}

/// The end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) at: Now,
    /// By RST: who did not hear it, is told again. Otherwise retransmissions of FIN still pass.
    pub(crate) by_reset: bool,
}

/// Who is told of the end of a connection by RST.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reset {
    Nobody,
    Only(Side),
    Both,
}

impl Reset {
    /// Whether this side is told.
    pub(crate) fn tells(self, side: Side) -> bool {
        match self {
            Self::Nobody => false,
            Self::Only(told) => told == side,
            Self::Both => true,
        }
    }
}

/// The other side.
pub(crate) fn other(side: Side) -> Side {
    match side {
        Side::Client => Side::Server,
        Side::Server => Side::Client,
    }
}

impl Connection {
    /// The stream a side sends.
    pub(crate) fn stream(&mut self, from: Side) -> Option<&mut Stream> {
        match from {
            Side::Client => Some(&mut self.data.up),
            Side::Server => self.data.down.as_mut(),
        }
    }

    /// What a side last said about itself.
    pub(crate) fn peer(&mut self, side: Side) -> &mut Peer {
        match side {
            Side::Client => &mut self.data.client,
            Side::Server => &mut self.data.server,
        }
    }

    /// A segment came from this side.
    pub(crate) fn heard(&mut self, from: Side, segment: &tcp::Packet<&[u8]>, tos: u8, now: Now) {
        match from {
            Side::Client => self.data.seen.0 = now,
            Side::Server => self.data.seen.1 = now,
        }
        let timestamps = tcp::options::timestamps(segment.options());
        let peer = self.peer(from);
        // A segment that was overtaken must not take the clock back: the other side would drop what is modelled on it
        // (RFC 7323, protection against wrapped sequence numbers).
        let overtaken = |(new, _): (u32, u32), (old, _): (u32, u32)| (new.wrapping_sub(old) as i32) < 0;
        if timestamps.zip(peer.timestamps).is_some_and(|(new, old)| overtaken(new, old)) {
            return;
        }
        *peer = Peer { window: segment.window(), timestamps: timestamps.or(peer.timestamps), tos };
    }

    /// When the last segment came, and which side has been silent for longer.
    pub(crate) fn silence(&self) -> (Now, Side) {
        let (client, server) = self.data.seen;
        (client.max(server), if client <= server { Side::Client } else { Side::Server })
    }

    /// An acknowledgement for `to` on the other side's behalf, ahead of the other side's own. It echoes the latest clock
    /// of `to`: an old echo would make `to` believe in a long round trip.
    pub(crate) fn acknowledgement(&mut self, to: Side) -> Option<Vec<u8>> {
        let seq = self.stream(other(to))?.out_next();
        let kept = *self.peer(other(to));
        if let (Some((clock, _)), Some((latest, _))) = (kept.timestamps, self.peer(to).timestamps) {
            self.peer(other(to)).timestamps = Some((clock, latest));
        }
        let packet = self.segment(to, seq, tcp::Flags::ACK, &[]);
        *self.peer(other(to)) = kept;
        packet
    }

    /// A segment for `to` in the other side's name, acknowledging what it has been acknowledged.
    pub(crate) fn segment(&mut self, to: Side, seq: Seq, flags: tcp::Flags, payload: &[u8]) -> Option<Vec<u8>> {
        let ack = self.stream(to).map_or(Seq(0), |stream| stream.in_acked());
        self.segment_acknowledging(to, seq, ack, flags, payload)
    }

    /// As `segment`, with this acknowledgement number.
    pub(crate) fn segment_acknowledging(
        &mut self,
        to: Side,
        seq: Seq,
        ack: Seq,
        flags: tcp::Flags,
        payload: &[u8],
    ) -> Option<Vec<u8>> {
        let peer = *self.peer(other(to));
        let ((src, src_port), (dst, dst_port)) = self.ends(to);
        let timestamps = if flags.contains(tcp::Flags::RST) { None } else { peer.timestamps };
        let header = tcp::Repr { src_port, dst_port, seq, ack, flags, window: peer.window, timestamps };
        let ip = crate::wire::ipv4::Repr {
            src,
            dst,
            protocol: crate::wire::ipv4::PROTOCOL_TCP,
            tos: peer.tos,
            ttl: super::TTL,
            id: 0,
            dont_fragment: true,
            payload_len: 0,
        };
        tcp::datagram(&ip, &header, payload).ok()
    }

    /// Source and destination of a segment for `to`.
    pub(crate) fn ends(&self, to: Side) -> ((Ipv4Addr, u16), (Ipv4Addr, u16)) {
        let Flow { client, client_port, server, server_port } = self.flow;
        match to {
            Side::Client => ((server, server_port), (client, client_port)),
            Side::Server => ((self.external, self.external_port), (server, server_port)),
        }
    }
}
