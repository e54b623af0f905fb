//! What happened, for people (`Display`: one line) and for metrics (`name`, `severity`).

use std::fmt;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::types::{Flow, Refusal, Side};

/// How loud a log line should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Ordinary life.
    Info,
    /// Somebody is refused, cut off, or misbehaves.
    Warn,
}

/// One call, as each of the three parties names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallIds {
    /// The control connection.
    pub flow: Flow,
    /// The gateway's address towards the server.
    pub external: Ipv4Addr,
    /// The PNS's Call ID as the client chose it.
    pub pns_id: u16,
    /// The Call ID the server knows in its place.
    pub translated_id: u16,
    /// The PAC's (server's) Call ID, once it is known.
    pub pac_id: Option<u16>,
}

/// Why a SYN was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenRefusal {
    /// The shell said no.
    NotAdmitted(Refusal),
    /// `maxSessions` of the service is reached.
    MaxSessions(u32),
    /// `maxSessions` is nearly reached, and this client has so many.
    ShareOfSessions(u32),
    /// Connections of this client to this server ended without their first message; none is let through for so many ms.
    KeptServerWaiting(u64),
    /// `Limits::max_connections` is reached.
    MaxConnections(u32),
    /// Too many connections of this client wait for their first message.
    HalfOpenClient(u32),
    /// Too many connections to this server wait for their first message.
    HalfOpenServer(u32),
    /// `Limits::ports_per_client` is reached.
    PortsOfClient(u32),
    /// Every external port towards this server is in use or in quarantine.
    NoPort,
}

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CloseReason {
    /// FIN in both directions; who began.
    Finished(Side),
    /// RST from this side.
    Reset(Side),
    /// The server did not complete the handshake, or the client gave up.
    NotEstablished,
    /// The whole first message did not come within the time-out.
    FirstMessageTimeout,
    /// A message that cannot be passed on came from this side.
    Malformed(Side),
    /// No control traffic for the echo time-out; who had been silent for longer.
    EchoTimeout(Side),
    /// No call and no traffic.
    Unused,
    /// One side had closed and the other never did.
    HalfClosed,
    /// A side does not acknowledge what is sent to it.
    Unresponsive(Side),
    /// The rule, service or ALG that allowed it is gone.
    RuleRemoved,
    /// The gateway is being stopped.
    Shutdown,
    /// The client is gone; its address may be somebody else's now.
    ClientGone,
    /// A new SYN with the same addresses and ports.
    Replaced,
}

/// Why a call was refused by the gateway itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallRefusal {
    /// All 65,536 Call IDs of this (external address, server) are live or in quarantine.
    NoCallId,
    /// `Limits::call_ids_per_client` is reached.
    CallIdsOfClient(u32),
    /// `Limits::calls_per_connection` is reached.
    CallsOfConnection(u32),
    /// `maxCalls` of the PptpAlg is reached.
    MaxCalls(u32),
    /// `maxCalls` is nearly reached, and this client has so many.
    Share(u32),
}

/// Why a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallEnd {
    /// Call-Clear-Request, or Call-Disconnect-Notify.
    Cleared(Side),
    /// The reply did not say "connected"; result and error code as sent.
    NotAccepted {
        /// Result code of the reply.
        result: u8,
        /// General error code of the reply.
        error: u8,
    },
    /// No reply within the set-up time-out.
    SetupTimeout,
    /// No user traffic for the idle time-out; who had been silent for longer.
    IdleTimeout(Side),
    /// The client asked again for the same Call ID.
    Restarted,
    /// The PAC gave its Call ID to another call.
    PacIdReused,
    /// The PAC gave it a Call ID that a live call of another client has.
    PacIdTaken,
    /// Stop-Control-Connection-Request from this side.
    Stopped(Side),
    /// Its control connection ended.
    ConnectionClosed(CloseReason),
}

/// Something a person or a metric wants to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A SYN was admitted and passed on.
    Opened {
        /// The connection.
        flow: Flow,
        /// External address.
        external: Ipv4Addr,
        /// External TCP port.
        external_port: u16,
        /// `namespace/name` of the rule.
        rule: String,
    },
    /// A SYN was refused.
    Refused {
        /// The connection.
        flow: Flow,
        /// Why.
        why: OpenRefusal,
    },
    /// A connection ended.
    Closed {
        /// The connection.
        flow: Flow,
        /// Why.
        reason: CloseReason,
        /// Calls that ended with it.
        calls: u32,
    },
    /// A call is up: its reply said "connected".
    CallUp {
        /// The call.
        call: CallIds,
    },
    /// A call ended.
    CallDown {
        /// The call.
        call: CallIds,
        /// Why.
        reason: CallEnd,
        /// GRE packets client to server over its life.
        up_packets: u64,
        /// GRE packets server to client.
        down_packets: u64,
    },
    /// A call was refused by the gateway; the client is told by Outgoing-Call-Reply.
    CallRefused {
        /// The connection it was asked for on.
        flow: Flow,
        /// The client's Call ID.
        pns_id: u16,
        /// Why.
        why: CallRefusal,
    },
    /// A control message could not be understood.
    Malformed {
        /// The connection.
        flow: Flow,
        /// Who sent it.
        from: Side,
        /// What is wrong with it, in a few words (the log's `reason`).
        reason: &'static str,
        /// Whether the connection is closed for it.
        closed: bool,
    },
    /// Two live connections of one client got the same PAC Call ID; the newer has the GRE from now on.
    PacIdCollision {
        /// The older call, which loses the way up.
        older: CallIds,
    },
    /// The server gave a new call a Call ID that a live call of another client has; the new one is refused on both sides.
    PacIdTaken {
        /// The new call's connection.
        flow: Flow,
        /// The address both calls have towards the server.
        external: Ipv4Addr,
        /// The server's Call ID.
        pac_id: u16,
        /// The client whose call has it.
        holder: Ipv4Addr,
    },
    /// A packet claims to belong to something it does not. Rate-limited; counters count all.
    Dropped {
        /// Which side it came from.
        from: Side,
        /// Its source address.
        source: Ipv4Addr,
        /// Its destination address.
        destination: Ipv4Addr,
        /// What was wrong, in a few words.
        what: &'static str,
    },
}

impl Event {
    /// A stable name for metrics and for `grep`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Opened { .. } => "connection_opened",
            Self::Refused { .. } => "connection_refused",
            Self::Closed { .. } => "connection_closed",
            Self::CallUp { .. } => "call_up",
            Self::CallDown { .. } => "call_down",
            Self::CallRefused { .. } => "call_refused",
            Self::Malformed { .. } => "message_malformed",
            Self::PacIdCollision { .. } => "pac_id_collision",
            Self::PacIdTaken { .. } => "pac_id_taken",
            Self::Dropped { .. } => "packet_dropped",
        }
    }

    /// How loud it should be told.
    pub fn severity(&self) -> Severity {
        match self {
            Self::Opened { .. } | Self::CallUp { .. } => Severity::Info,
            Self::Closed { reason, .. } => reason.severity(),
            Self::CallDown { reason, .. } => reason.severity(),
            Self::Refused { .. }
            | Self::CallRefused { .. }
            | Self::Malformed { .. }
            | Self::PacIdCollision { .. }
            | Self::PacIdTaken { .. }
            | Self::Dropped { .. } => Severity::Warn,
        }
    }
}

impl CloseReason {
    fn severity(self) -> Severity {
        match self {
            Self::Finished(_)
            | Self::Reset(_)
            | Self::NotEstablished
            | Self::Unused
            | Self::Shutdown
            | Self::ClientGone
            | Self::Replaced => Severity::Info,
            Self::FirstMessageTimeout
            | Self::Malformed(_)
            | Self::EchoTimeout(_)
            | Self::HalfClosed
            | Self::Unresponsive(_)
            | Self::RuleRemoved => Severity::Warn,
        }
    }
}

impl CallEnd {
    fn severity(self) -> Severity {
        match self {
            Self::Cleared(_) | Self::Restarted | Self::Stopped(_) => Severity::Info,
            Self::ConnectionClosed(reason) => reason.severity(),
            Self::NotAccepted { .. }
            | Self::SetupTimeout
            | Self::IdleTimeout(_)
            | Self::PacIdReused
            | Self::PacIdTaken => Severity::Warn,
        }
    }
}

fn side(side: Side) -> &'static str {
    match side {
        Side::Client => "client",
        Side::Server => "server",
    }
}

impl fmt::Display for CallIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { flow, external, pns_id, translated_id, pac_id } = self;
        write!(f, "{} call {pns_id} (outside {external} call {translated_id}) to {} call ", flow.client, flow.server)?;
        match pac_id {
            Some(id) => write!(f, "{id}"),
            None => f.write_str("not known yet"),
        }
    }
}

impl fmt::Display for OpenRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAdmitted(Refusal::NoRule) => f.write_str("no NAT rule with a PPTP ALG matches"),
            Self::NotAdmitted(Refusal::NoRoute) => f.write_str("no route to the server, or no address on it"),
            Self::MaxSessions(n) => write!(f, "the service's maxSessions of {n} is reached"),
            Self::ShareOfSessions(n) => {
                write!(f, "the service's maxSessions is nearly reached, and this client has its share of it: {n}")
            }
            Self::KeptServerWaiting(ms) => write!(
                f,
                "connections of this client to this server ended without a first message, and it serves nobody else while it waits \
                 for one: refused for {ms} ms more"
            ),
            Self::MaxConnections(n) => write!(f, "this node carries {n} control connections, its limit"),
            Self::HalfOpenClient(n) => write!(f, "{n} connections of this client wait for their first message"),
            Self::HalfOpenServer(n) => write!(f, "{n} connections to this server wait for their first message"),
            Self::PortsOfClient(n) => write!(f, "this client has {n} external ports, in use or resting, its limit"),
            Self::NoPort => f.write_str("every external port towards this server is in use or was a moment ago"),
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finished(by) => write!(f, "closed by the {}", side(*by)),
            Self::Reset(by) => write!(f, "reset by the {}", side(*by)),
            Self::NotEstablished => f.write_str("never established"),
            Self::FirstMessageTimeout => f.write_str("the client's first message did not come in time"),
            Self::Malformed(by) => write!(f, "malformed message from the {}", side(*by)),
            Self::EchoTimeout(by) => write!(f, "echoTimeout: no control traffic, the {} silent for longest", side(*by)),
            Self::Unused => f.write_str("no call and no traffic"),
            Self::HalfClosed => f.write_str("one side closed, the other never did"),
            Self::Unresponsive(by) => write!(f, "the {} acknowledges nothing any more", side(*by)),
            Self::RuleRemoved => f.write_str("the rule that allowed it is gone"),
            Self::Shutdown => f.write_str("the gateway is being stopped"),
            Self::ClientGone => f.write_str("the client is gone; its address may be somebody else's now"),
            Self::Replaced => f.write_str("replaced by a new connection from the same port"),
        }
    }
}

impl fmt::Display for CallRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCallId => f.write_str("every Call ID towards this server is in use or was a moment ago"),
            Self::CallIdsOfClient(n) => write!(f, "this client has {n} Call IDs, in use or resting, its limit"),
            Self::CallsOfConnection(n) => write!(f, "this control connection has {n} calls, its limit"),
            Self::MaxCalls(n) => write!(f, "the PptpAlg's maxCalls of {n} is reached"),
            Self::Share(n) => {
                write!(f, "the PptpAlg's maxCalls is nearly reached, and this client has its share of it: {n}")
            }
        }
    }
}

impl fmt::Display for CallEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cleared(by) => write!(f, "cleared by the {}", side(*by)),
            Self::NotAccepted { result, error } => write!(f, "not accepted: result {result}, error {error}"),
            Self::SetupTimeout => f.write_str("no reply to the call request in time"),
            Self::IdleTimeout(by) => write!(f, "idleTimeout: no user traffic, the {} silent for longest", side(*by)),
            Self::Restarted => f.write_str("the client asked for it anew"),
            Self::PacIdReused => f.write_str("the server gave its Call ID to another call"),
            Self::PacIdTaken => f.write_str("the server gave it a Call ID that another client's call has"),
            Self::Stopped(by) => write!(f, "Stop-Control-Connection-Request from the {}", side(*by)),
            Self::ConnectionClosed(reason) => write!(f, "control connection ended: {reason}"),
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Opened { flow, external, external_port, rule } => {
                write!(f, "connection opened: {flow} as {external}:{external_port} by rule {rule}")
            }
            Self::Refused { flow, why } => write!(f, "connection refused: {flow}: {why}"),
            Self::Closed { flow, reason, calls } => {
                write!(f, "connection closed: {flow}: {reason} (calls ended with it: {calls})")
            }
            Self::CallUp { call } => write!(f, "call up: {call}"),
            Self::CallDown { call, reason, up_packets, down_packets } => {
                write!(f, "call down: {call}: {reason} (GRE packets up {up_packets}, down {down_packets})")
            }
            Self::CallRefused { flow, pns_id, why } => write!(f, "call refused: {flow} call {pns_id}: {why}"),
            Self::Malformed { flow, from, reason, closed } => {
                let what = if *closed { "connection closed" } else { "not closed for it" };
                write!(f, "malformed message: {flow} from the {}: {reason}; {what}", side(*from))
            }
            Self::PacIdCollision { older } => {
                write!(f, "same PAC Call ID twice for one client: {older} loses the way to the server")
            }
            Self::PacIdTaken { flow, external, pac_id, holder } => write!(
                f,
                "call refused: {flow}: the server gave it Call ID {pac_id}, which a live call of {holder} from the same address \
                 {external} has"
            ),
            Self::Dropped { from, source, destination, what } => {
                write!(f, "packet dropped: {source} -> {destination} from the {} side: {what}", side(*from))
            }
        }
    }
}
