//! The words the shared mode and its shell exchange: legs, inputs about them, commands.

use std::fmt;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::types::Side;

/// A client's control connection, which ends here. Never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionId(pub u64);

/// A control connection of ours to a server: a tunnel. Never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct UpstreamId(pub u64);

/// A TCP connection the shell holds for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Leg {
    /// Accepted from a client, in the server's name.
    Client(SessionId),
    /// Opened to a server, from the external address.
    Upstream(UpstreamId),
}

/// How the other end of a leg has ended it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Gone {
    /// FIN: it says nothing more.
    Finished,
    /// RST, or the kernel gave up.
    Reset,
}

/// Why a connection to a server did not come about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ConnectError {
    /// RST in answer to SYN.
    Refused,
    /// No answer in time.
    TimedOut,
    /// No route, or an ICMP error says so.
    Unreachable,
    /// No external port is free, or the socket could not be made.
    Local,
    /// `Limits::ports_per_client` is reached.
    PortsOfClient,
}

/// One effect the shell has to carry out, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Open a control connection from `external` (and our port range) to the server, without delay (TCP_NODELAY), and say
    /// `upstream_connected` or `upstream_failed`.
    Open {
        /// Its name from now on.
        upstream: UpstreamId,
        /// The address to bind to.
        external: Ipv4Addr,
        /// The server.
        server: Ipv4Addr,
        /// Its port.
        server_port: u16,
        /// Auto: whose alone it is; its port is counted to it.
        client: Option<Ipv4Addr>,
    },
    /// One write of exactly one message, never joined with another (accel-ppp leaves a second one lying, pptpd wants the
    /// first 12 octets together). When the kernel has taken it, say `written`.
    Write {
        /// Where to.
        leg: Leg,
        /// The message.
        message: Vec<u8>,
    },
    /// Close the leg when everything before is written. It is forgotten here: nothing about it needs to be said any more.
    Close {
        /// Which.
        leg: Leg,
    },
    /// Reset the leg at once. It is forgotten here.
    Reset {
        /// Which.
        leg: Leg,
    },
    /// Make this durable, into the in-path engine's journal, before carrying out any later command.
    Persist(crate::Change),
    /// Send one IPv4 packet through the kernel's routing.
    Send {
        /// Which side it goes to.
        to: Side,
        /// The whole packet, checksums complete.
        packet: Vec<u8>,
    },
    /// Something a person or a metric wants to know.
    Note(super::Event),
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "session {}", self.0)
    }
}

impl fmt::Display for UpstreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tunnel {}", self.0)
    }
}
