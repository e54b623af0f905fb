//! The words the engine and its shell exchange: time, sides, flows, policies, commands.

use std::fmt;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

/// Milliseconds on a clock that never goes back and outlives the process (CLOCK_BOOTTIME in the agent).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Now(pub u64);

/// Whether a field of a record need not be written: what is not there is read as the default.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// The two ends of a connection through the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Side {
    /// The pod.
    Client,
    /// The partner's PPTP server.
    Server,
}

/// A control connection as the client knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Flow {
    /// The pod's address.
    pub client: Ipv4Addr,
    /// The pod's TCP port.
    pub client_port: u16,
    /// The server's address.
    pub server: Ipv4Addr,
    /// The server's TCP port, usually 1723.
    pub server_port: u16,
}

/// What a rule, its service and its PptpAlg say about a connection. Durations in milliseconds, 0 is never/without limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// `namespace/name` of the IpRule.
    pub rule: String,
    /// `namespace/name` of the Service.
    pub service: String,
    /// `namespace/name` of the PptpAlg.
    pub alg: String,
    /// Longest silence of the control connection.
    pub echo_timeout_ms: u64,
    /// Longest silence of a call's user traffic.
    pub idle_timeout_ms: u64,
    /// Concurrent calls over all connections of `alg`.
    pub max_calls: u32,
    /// Concurrent control connections over all rules that use `service`.
    pub max_sessions: u32,
    /// Close a connection at its first malformed message.
    pub strict: bool,
}

/// A Call ID as each side of the gateway knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdPair {
    /// On the client's side.
    pub client: u16,
    /// On the server's side.
    pub server: u16,
}

/// The way the GRE of one call takes: all that has to be known to carry it without the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallPath {
    /// The pod.
    pub client: Ipv4Addr,
    /// The gateway's address towards the server.
    pub external: Ipv4Addr,
    /// The server.
    pub server: Ipv4Addr,
    /// The PNS's (client's) Call ID: in GRE of the server.
    pub pns: IdPair,
    /// The PAC's (server's) Call ID: in GRE of the client.
    pub pac: IdPair,
}

/// A connection that may be opened, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// The gateway's address on the way to the server.
    pub external: Ipv4Addr,
    /// What applies to it.
    pub policy: Policy,
}

/// Why a connection may not be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Refusal {
    /// No NAT rule with a PPTP ALG matches.
    NoRule,
    /// There is no route to the server, or no address on it.
    NoRoute,
}

/// Asked once for each new connection, when its SYN arrives. The shell looks up rules and routes here.
pub trait Admit {
    /// Whether this connection may be opened, with which policy and external address.
    fn admit(&mut self, flow: Flow) -> Result<Admission, Refusal>;
}

/// What became of one packet handed to the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The packet, as rewritten in place, goes out to this side (after the commands queued so far).
    Forward(Side),
    /// Nothing more to do with it: dropped and counted, held, or answered by commands.
    Consumed,
}

/// One effect the shell has to carry out, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Make this durable before carrying out any later command.
    Persist(crate::Change),
    /// Send one IPv4 packet through the kernel's routing.
    Send {
        /// Which side it goes to.
        to: Side,
        /// The whole packet from its IPv4 header on, checksums complete.
        packet: Vec<u8>,
    },
    /// GRE of this call may pass beside the engine from now on. It need not: what comes to the engine is passed on as ever.
    /// May be said again of a path that is open.
    OpenPath(CallPath),
    /// It must not any more, from before the next command is carried out.
    ClosePath(CallPath),
    /// Something a person or a metric wants to know.
    Note(crate::Event),
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{} -> {}:{}", self.client, self.client_port, self.server, self.server_port)
    }
}

impl Now {
    /// This long after `self`.
    pub fn after(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds since `earlier`; 0 if it is not earlier.
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}
