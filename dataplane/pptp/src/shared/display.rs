//! The events of the shared mode as lines for people.

use std::fmt;

use super::event::{CallEnd, CallNames, Event, Refusal, SessionEnd, StartFailure, UpstreamEnd};
use super::types::{ConnectError, Gone, Leg};
use crate::types::Side;

/// An id that may not be known yet.
struct Id(Option<u16>);

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(id) => write!(f, "{id}"),
            None => f.write_str("-"),
        }
    }
}

impl fmt::Display for CallNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.flow {
            Some(flow) => write!(f, "{}", flow.client)?,
            None => f.write_str("(client gone)")?,
        }
        write!(f, " call {}/{} ", Id(self.pns_id.0), Id(self.pac_id.0))?;
        match self.upstream {
            Some(upstream) => write!(f, "in {upstream}")?,
            None => f.write_str("in no tunnel yet")?,
        }
        let (external, server) = (self.external, self.server);
        write!(f, " ({external} to {server}) as {}/{}", Id(self.pns_id.1), Id(self.pac_id.1))
    }
}

impl fmt::Display for Gone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Finished => "closed it",
            Self::Reset => "reset it",
        })
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused => "the server refuses TCP connections",
            Self::TimedOut => "the server does not answer",
            Self::Unreachable => "the server cannot be reached",
            Self::Local => "no external port is free",
            Self::PortsOfClient => "the client has as many external ports as it may have, in use or resting",
        })
    }
}

impl fmt::Display for Leg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(session) => write!(f, "{session}"),
            Self::Upstream(upstream) => write!(f, "{upstream}"),
        }
    }
}

impl fmt::Display for StartFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(why) => write!(f, "{why}"),
            Self::Refused { result, error } => write!(f, "the server says no: result {result}, error {error}"),
            Self::Ended(gone) => write!(f, "the server {gone} in answer to the first message"),
            Self::Malformed => f.write_str("the server's first message cannot be understood"),
            Self::TimedOut => f.write_str("no Start-Control-Connection-Reply in time"),
        }
    }
}

impl fmt::Display for UpstreamEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped(reason) => {
                write!(f, "Stop-Control-Connection-Request of the server, reason {}", u8::from(*reason))
            }
            Self::Gone(gone) => write!(f, "the server {gone}"),
            Self::EchoTimeout => f.write_str("echoTimeout: the server answers no Echo-Request"),
            Self::Malformed(reason) => write!(f, "malformed message of the server: {reason}"),
            Self::SlowReader => f.write_str("the server does not read what is sent to it"),
            Self::Idle => f.write_str("no call any more"),
            Self::Shutdown => f.write_str("the gateway is being stopped"),
        }
    }
}

impl fmt::Display for SessionEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped => f.write_str("Stop-Control-Connection-Request of the client"),
            Self::Gone(gone) => write!(f, "the client {gone}"),
            Self::Malformed(reason) => write!(f, "malformed message of the client: {reason}"),
            Self::FirstMessageTimeout => f.write_str("the client's first message did not come in time"),
            Self::EchoTimeout => f.write_str("echoTimeout: the client answers no Echo-Request"),
            Self::SlowReader => f.write_str("the client does not read what is sent to it"),
            Self::Unused => f.write_str("no call and no traffic"),
            Self::Version(version) => write!(f, "the client speaks version {version:#06x}, not 0x0100"),
            Self::NoServer(why) => write!(f, "{why}"),
            Self::StartTimeout => f.write_str("no connection to the server in time"),
            Self::ServerGone(why) => write!(f, "its tunnel ended: {why}"),
            Self::RuleRemoved => f.write_str("the rule that allowed it is gone"),
            Self::AlgChanged => f.write_str("its service's algRef is not the PptpAlg that its tunnel is of"),
            Self::Shutdown => f.write_str("the gateway is being stopped"),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MaxCalls(n) => write!(f, "the PptpAlg's maxCalls of {n} is reached"),
            Self::Share(n) => write!(f, "calls are scarce, and the client has its share of them: {n}"),
            Self::CallsOfConnection(n) => write!(f, "its control connection has {n} calls, its limit"),
            Self::CallsOfClient(n) => write!(f, "the client has {n} calls, its limit"),
            Self::CallIdsOfClient(n) => write!(f, "the client has {n} Call IDs, in use or resting, its limit"),
            Self::NoCallId => f.write_str("every Call ID is in use or was a moment ago"),
            Self::ServerFull => f.write_str("the server takes no further connection, and those there are full"),
            Self::TooManyWaiting(n) => write!(f, "{n} calls wait for a connection to the server"),
            Self::NoServer(why) => write!(f, "{why}"),
        }
    }
}

impl fmt::Display for CallEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cleared(Side::Client) => f.write_str("cleared by the client"),
            Self::Cleared(Side::Server) => f.write_str("cleared by the server"),
            Self::NotAccepted { result, error } => write!(f, "not accepted: result {result}, error {error}"),
            Self::Refused(why) => write!(f, "refused: {why}"),
            Self::SetupTimeout => f.write_str("no reply to the call request in time"),
            Self::IdleTimeout => f.write_str("idleTimeout: no user traffic"),
            Self::Restarted => f.write_str("the client asked for it anew"),
            Self::PacIdReused => f.write_str("the server gave its Call ID to another call"),
            Self::PacIdTaken => f.write_str("the server gave it a Call ID that another client's call has"),
            Self::SessionEnded(why) => write!(f, "its session ended: {why}"),
            Self::UpstreamEnded(why) => write!(f, "its tunnel ended: {why}"),
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SessionStarted { session, flow, rule } => write!(f, "{session} started: {flow} by rule {rule}"),
            Self::SessionClosed { session, flow, why, calls } => {
                write!(f, "{session} closed: {flow}: {why} (calls ended with it: {calls})")
            }
            Self::UpstreamOpening { upstream, external, server } => {
                write!(f, "{upstream} opening: {external} to {server}")
            }
            Self::UpstreamUp { upstream, channels } => write!(f, "{upstream} up: takes {channels} calls"),
            Self::UpstreamFailed { upstream, why, wait_ms } => {
                write!(f, "{upstream} failed: {why}; no other is tried for {wait_ms} ms")
            }
            Self::Learned { server, server_port, why } => {
                write!(
                    f,
                    "clients of {server} port {server_port} share a control connection from now on: {}",
                    why.text()
                )
            }
            Self::UpstreamClosed { upstream, why, calls } => {
                write!(f, "{upstream} closed: {why} (calls ended with it: {calls})")
            }
            Self::CallUp { call } => write!(f, "call up: {call}"),
            Self::CallDown { call, why, up_packets, down_packets } => {
                write!(f, "call down: {call}: {why} (GRE packets up {up_packets}, down {down_packets})")
            }
            Self::CallRefused { flow, pns_id, why } => write!(f, "call refused: {flow} call {pns_id}: {why}"),
            Self::PacIdTaken { upstream, external, server, pac_id, holder } => write!(
                f,
                "call refused: {upstream}: server {server} gave it Call ID {pac_id}, which a live call of {holder} from the same \
                 address {external} has"
            ),
            Self::Malformed { leg, reason, closed } => {
                let what = if *closed { "closed" } else { "ignored" };
                write!(f, "malformed message of {leg}: {reason}; {what}")
            }
        }
    }
}
