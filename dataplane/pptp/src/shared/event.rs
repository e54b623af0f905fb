//! What happened in the shared mode, for people (`Display`: one line) and for metrics (`name`, `severity`).

use std::net::Ipv4Addr;

use super::types::{ConnectError, Gone, Leg, SessionId, UpstreamId};
use crate::engine::{CallRefusal, Severity};
use crate::types::{Flow, Side};
use crate::wire::control::StopReason;

/// One call, as each of the three parties names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallNames {
    /// The client's control connection; `None` when the client is gone and only the server has to hear of it.
    pub flow: Option<Flow>,
    /// The tunnel that carries it.
    pub upstream: Option<UpstreamId>,
    /// The gateway's address towards the server.
    pub external: Ipv4Addr,
    /// The server.
    pub server: Ipv4Addr,
    /// The PNS's Call ID: what the client knows, what the server knows.
    pub pns_id: (Option<u16>, Option<u16>),
    /// The PAC's Call ID: what the client knows, what the server knows.
    pub pac_id: (Option<u16>, Option<u16>),
}

/// Why a client's session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionEnd {
    /// The client asked for it by Stop-Control-Connection-Request.
    Stopped,
    /// The client closed or reset its connection.
    Gone(Gone),
    /// A message of the client that cannot be understood, and why (the log's `reason`).
    Malformed(&'static str),
    /// Its whole first message did not come in time.
    FirstMessageTimeout,
    /// The client answers no Echo-Request.
    EchoTimeout,
    /// The client does not read what is written to it.
    SlowReader,
    /// No call and no traffic for a long time.
    Unused,
    /// The client speaks another version of the protocol.
    Version(u16),
    /// No server could be had for it.
    NoServer(StartFailure),
    /// No answer of the server within the time a client waits.
    StartTimeout,
    /// The server's connection that carried its calls ended.
    ServerGone(UpstreamEnd),
    /// The rule that allowed it is gone.
    RuleRemoved,
    /// Its service has another PptpAlg than its tunnel is of, by an edit or because one was taken back.
    AlgChanged,
    /// The gateway is being stopped.
    Shutdown,
}

/// Why a connection to a server did not come about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartFailure {
    /// TCP did not come about.
    Connect(ConnectError),
    /// Start-Control-Connection-Reply with another result than 1; result and error code as sent.
    Refused {
        /// Result code.
        result: u8,
        /// General error code.
        error: u8,
    },
    /// The server closed or reset the connection in answer to our first message.
    Ended(Gone),
    /// The server's first message cannot be understood.
    Malformed,
    /// No answer in time.
    TimedOut,
}

/// Why an established connection to a server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpstreamEnd {
    /// The server asked for it by Stop-Control-Connection-Request, with this reason.
    Stopped(StopReason),
    /// The server closed or reset it.
    Gone(Gone),
    /// The server answers no Echo-Request.
    EchoTimeout,
    /// A message of the server that cannot be understood.
    Malformed(&'static str),
    /// The server does not read what is written to it.
    SlowReader,
    /// It had no call for the linger time.
    Idle,
    /// The gateway is being stopped.
    Shutdown,
}

/// Why a call was refused here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// `maxCalls` of the PptpAlg is reached.
    MaxCalls(u32),
    /// `maxCalls` is nearly reached, and this client has so many.
    Share(u32),
    /// `Limits::calls_per_connection` is reached.
    CallsOfConnection(u32),
    /// The client has as many calls of the PptpAlg, those included that wait, as it may have Call IDs.
    CallsOfClient(u32),
    /// `Limits::call_ids_per_client` is reached.
    CallIdsOfClient(u32),
    /// Every Call ID towards this server, or of the server towards this client, is in use or was a moment ago.
    NoCallId,
    /// The server takes no further connection, and those there are full.
    ServerFull,
    /// Too many calls wait for a connection.
    TooManyWaiting(u32),
    /// The server cannot be reached, or says no.
    NoServer(StartFailure),
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
    /// Refused here.
    Refused(Refusal),
    /// No reply in time.
    SetupTimeout,
    /// No user traffic for the idle time-out.
    IdleTimeout,
    /// The client asked again for the same Call ID.
    Restarted,
    /// The server gave its Call ID to another call of the same connection.
    PacIdReused,
    /// The server gave it a Call ID that a live call of another client has.
    PacIdTaken,
    /// Its client's session ended.
    SessionEnded(SessionEnd),
    /// The connection to the server that carried it ended.
    UpstreamEnded(UpstreamEnd),
}

/// Something a person or a metric wants to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A client's whole first message is in.
    SessionStarted {
        /// Its name.
        session: SessionId,
        /// Its connection.
        flow: Flow,
        /// `namespace/name` of the rule.
        rule: String,
    },
    /// A client's session ended.
    SessionClosed {
        /// Its name.
        session: SessionId,
        /// Its connection.
        flow: Flow,
        /// Why.
        why: SessionEnd,
        /// Calls that ended with it.
        calls: u32,
    },
    /// A connection to a server is ordered.
    UpstreamOpening {
        /// Its name.
        upstream: UpstreamId,
        /// From this address.
        external: Ipv4Addr,
        /// To this server.
        server: Ipv4Addr,
    },
    /// It is up, and the server takes so many calls on it.
    UpstreamUp {
        /// Its name.
        upstream: UpstreamId,
        /// Calls that fit on it.
        channels: u16,
    },
    /// It did not come about.
    UpstreamFailed {
        /// Its name.
        upstream: UpstreamId,
        /// Why.
        why: StartFailure,
        /// How long no other is tried, in milliseconds.
        wait_ms: u64,
    },
    /// Auto: the server takes one control connection of an address only. All its clients share from now on.
    Learned {
        /// The server.
        server: Ipv4Addr,
        /// Its port.
        server_port: u16,
        /// What it has done.
        why: super::Why,
    },
    /// A connection to a server ended.
    UpstreamClosed {
        /// Its name.
        upstream: UpstreamId,
        /// Why.
        why: UpstreamEnd,
        /// Calls that ended with it.
        calls: u32,
    },
    /// A call is up.
    CallUp {
        /// The call.
        call: CallNames,
    },
    /// A call ended.
    CallDown {
        /// The call.
        call: CallNames,
        /// Why.
        why: CallEnd,
        /// GRE packets client to server over its life.
        up_packets: u64,
        /// GRE packets server to client.
        down_packets: u64,
    },
    /// A call was refused here; the client is told by Outgoing-Call-Reply.
    CallRefused {
        /// The client's connection.
        flow: Flow,
        /// The client's Call ID.
        pns_id: u16,
        /// Why.
        why: Refusal,
    },
    /// The server gave a new call a Call ID that a live call of another client has; the new one is refused on both sides.
    PacIdTaken {
        /// The connection on which it said so.
        upstream: UpstreamId,
        /// The address both calls have towards the server.
        external: Ipv4Addr,
        /// The server.
        server: Ipv4Addr,
        /// Its Call ID.
        pac_id: u16,
        /// The client whose call has it.
        holder: Ipv4Addr,
    },
    /// A message could not be understood.
    Malformed {
        /// Who sent it.
        leg: Leg,
        /// What is wrong with it (the log's `reason`).
        reason: &'static str,
        /// Whether the leg is closed for it.
        closed: bool,
    },
}

impl From<CallRefusal> for Refusal {
    fn from(why: CallRefusal) -> Self {
        match why {
            CallRefusal::NoCallId => Self::NoCallId,
            CallRefusal::CallIdsOfClient(most) => Self::CallIdsOfClient(most),
            CallRefusal::CallsOfConnection(most) => Self::CallsOfConnection(most),
            CallRefusal::MaxCalls(max) => Self::MaxCalls(max),
            CallRefusal::Share(own) => Self::Share(own),
        }
    }
}

impl Event {
    /// A stable name for metrics and for `grep`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::SessionStarted { .. } => "session_started",
            Self::SessionClosed { .. } => "session_closed",
            Self::UpstreamOpening { .. } => "tunnel_opening",
            Self::UpstreamUp { .. } => "tunnel_up",
            Self::UpstreamFailed { .. } => "tunnel_failed",
            Self::Learned { .. } => "auto_learned",
            Self::UpstreamClosed { .. } => "tunnel_closed",
            Self::CallUp { .. } => "shared_call_up",
            Self::CallDown { .. } => "shared_call_down",
            Self::CallRefused { .. } => "shared_call_refused",
            Self::PacIdTaken { .. } => "shared_pac_id_taken",
            Self::Malformed { .. } => "shared_message_malformed",
        }
    }

    /// How loud it should be told.
    pub fn severity(&self) -> Severity {
        match self {
            Self::SessionStarted { .. }
            | Self::UpstreamOpening { .. }
            | Self::UpstreamUp { .. }
            | Self::Learned { .. }
            | Self::CallUp { .. } => Severity::Info,
            Self::SessionClosed { why, .. } => why.severity(),
            Self::UpstreamClosed { why: UpstreamEnd::Idle | UpstreamEnd::Shutdown, .. } => Severity::Info,
            Self::UpstreamClosed { calls: 0, .. } => Severity::Info,
            Self::UpstreamClosed { .. } => Severity::Warn,
            Self::CallDown { why, .. } => why.severity(),
            Self::UpstreamFailed { .. }
            | Self::CallRefused { .. }
            | Self::PacIdTaken { .. }
            | Self::Malformed { .. } => Severity::Warn,
        }
    }
}

impl SessionEnd {
    fn severity(self) -> Severity {
        match self {
            Self::Stopped | Self::Gone(_) | Self::Unused | Self::Shutdown => Severity::Info,
            Self::Malformed(_)
            | Self::FirstMessageTimeout
            | Self::EchoTimeout
            | Self::SlowReader
            | Self::Version(_)
            | Self::NoServer(_)
            | Self::StartTimeout
            | Self::ServerGone(_)
            | Self::RuleRemoved
            | Self::AlgChanged => Severity::Warn,
        }
    }
}

impl CallEnd {
    fn severity(self) -> Severity {
        match self {
            Self::Cleared(_) | Self::Restarted => Severity::Info,
            Self::SessionEnded(why) => why.severity(),
            Self::NotAccepted { .. }
            | Self::Refused(_)
            | Self::SetupTimeout
            | Self::IdleTimeout
            | Self::PacIdReused
            | Self::PacIdTaken
            | Self::UpstreamEnded(_) => Severity::Warn,
        }
    }
}
