//! Every number and name that shapes the shared mode, with its default and the reason for it.

use serde::{Deserialize, Serialize};

use crate::wire::control::{GeneralError, StartReply, StartRequest, StartResult};

/// RFC 2637's only version.
pub(super) const VERSION: u16 = 0x0100;

/// How one end introduces itself in its first message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Framings: bit 0 asynchronous, bit 1 synchronous.
    pub framing: u32,
    /// Bearers: bit 0 analogue, bit 1 digital.
    pub bearer: u32,
    /// Max Channels: 0 by the book from the side that calls.
    pub max_channels: u16,
    /// Firmware revision.
    pub firmware: u16,
    /// Host name, at most 63 octets of it are sent.
    pub host: String,
    /// Vendor, at most 63 octets of it are sent.
    pub vendor: String,
}

/// Bounds and habits of the shared mode. Durations in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// How we introduce ourselves to servers.
    pub to_server: Identity,
    /// How we introduce ourselves to clients; `None`: as the server has done to us, but with 65,535 channels, since a
    /// client's calls need not share one connection.
    pub to_client: Option<Identity>,
    /// Calls taken to fit on one connection to a server that says Max Channels 0. The book has a PAC say how many; one a
    /// connection is right with every server.
    pub channels_if_zero: u16,
    /// Connections to one server under way at the same time; pptpd accepts them one after another.
    pub max_connecting: u32,
    /// Connections to one server altogether, for each external address and PptpAlg.
    pub max_upstreams: u32,
    /// Calls waiting for a connection, for each server, external address and PptpAlg. Beyond it they are refused.
    pub max_waiting: u32,
    /// Tries to reach a server before those who wait are told.
    pub attempts: u32,
    /// Wait after the first failed try; doubled for each further one. Up to half of it is taken off at random.
    pub backoff_ms: u64,
    /// The longest wait between two tries.
    pub backoff_max_ms: u64,
    /// How long no further connection is tried after a server has refused one beside those it has.
    pub refusal_ms: u64,
    /// From a connection's order to Start-Control-Connection-Reply (a busy pptpd takes 10 s for each client before).
    pub start_timeout_ms: u64,
    /// How long a client waits for its Start-Control-Connection-Reply before it is refused.
    pub client_start_timeout_ms: u64,
    /// How long a connection without any call is kept for the next one.
    pub linger_ms: u64,
    /// How long a leg we have said goodbye to has before it is reset.
    pub farewell_ms: u64,
    /// How long a server has to confirm the end of a call.
    pub clear_timeout_ms: u64,
    /// Octets that may wait for a client that reads slowly. A client has 220 octets for each call and event at most.
    pub max_unwritten: usize,
    /// Octets that may wait for a server before it is asked for no further call: a hundred requests. Clients together must not
    /// be able to end a connection of all by what they ask for.
    pub crowded: usize,
    /// Octets that may wait for a server at all. Beyond `crowded` clients add the ends of their calls only, 16 octets for each of
    /// 65,535; so it takes a server that asks much and does not read.
    pub max_unwritten_server: usize,
    /// How long a reader may take nothing at all.
    pub write_timeout_ms: u64,
    /// Fragmented GRE packets whose way is remembered.
    pub fragment_entries: u32,
    /// How long it is believed that a server takes one control connection only, without seeing it again: a day, since servers
    /// are replaced and licences bought.
    pub learned_ms: u64,
}

impl Default for Identity {
    fn default() -> Self {
        Self { framing: 3, bearer: 3, max_channels: 0, firmware: 1, host: "callgate".into(), vendor: "Callgate".into() }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            to_server: Identity::default(),
            to_client: None,
            channels_if_zero: 1,
            max_connecting: 8,
            max_upstreams: 24_000,
            max_waiting: 4_096,
            attempts: 3,
            backoff_ms: 500,
            backoff_max_ms: 30_000,
            refusal_ms: 60_000,
            start_timeout_ms: 30_000,
            client_start_timeout_ms: 45_000,
            linger_ms: 60_000,
            farewell_ms: 2_000,
            clear_timeout_ms: 10_000,
            max_unwritten: 64 * 1024,
            crowded: 16 * 1024,
            max_unwritten_server: 2 * 1024 * 1024,
            write_timeout_ms: 30_000,
            fragment_entries: 1_024,
            learned_ms: 86_400_000,
        }
    }
}

impl Config {
    /// Our first message to a server.
    pub(super) fn start_request(&self) -> StartRequest {
        let Identity { framing, bearer, max_channels, firmware, ref host, ref vendor } = self.to_server;
        StartRequest {
            reserved0: 0,
            version: VERSION,
            reserved1: 0,
            framing,
            bearer,
            max_channels,
            firmware,
            host: padded(host),
            vendor: padded(vendor),
        }
    }

    /// Our answer to a client's first message; `server`: what the server has answered us, if it has.
    pub(super) fn start_reply(
        &self,
        server: Option<&StartReply>,
        result: StartResult,
        error: GeneralError,
    ) -> StartReply {
        let as_server = server.filter(|_| self.to_client.is_none());
        let own = self.to_client.as_ref().unwrap_or(&self.to_server);
        StartReply {
            reserved0: 0,
            version: VERSION,
            result,
            error,
            framing: as_server.map_or(own.framing, |reply| reply.framing),
            bearer: as_server.map_or(own.bearer, |reply| reply.bearer),
            max_channels: self.to_client.as_ref().map_or(u16::MAX, |own| own.max_channels),
            firmware: as_server.map_or(own.firmware, |reply| reply.firmware),
            host: as_server.map_or_else(|| padded(&own.host), |reply| reply.host),
            vendor: as_server.map_or_else(|| padded(&own.vendor), |reply| reply.vendor),
        }
    }
}

/// The text with zeros behind it, at least one.
fn padded(text: &str) -> [u8; 64] {
    let mut field = [0; 64];
    for (to, from) in field.iter_mut().take(63).zip(text.bytes()) {
        *to = from;
    }
    field
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_is_cut_and_still_ends_with_zero() {
        let field = padded(&"x".repeat(80));
        assert_eq!((field[62], field[63]), (b'x', 0));
    }

    #[test]
    fn a_client_sees_the_server_unless_it_is_configured_otherwise() {
        let mut config = Config::default();
        let server = StartReply {
            host: padded("head office"),
            framing: 1,
            ..config.start_reply(None, StartResult::Ok, GeneralError::None)
        };
        let reply = config.start_reply(Some(&server), StartResult::Ok, GeneralError::None);
        assert_eq!((reply.host, reply.framing, reply.max_channels), (padded("head office"), 1, 65_535));
        config.to_client = Some(Identity { host: "gate".into(), max_channels: 9, ..Identity::default() });
        let reply = config.start_reply(Some(&server), StartResult::Ok, GeneralError::None);
        assert_eq!((reply.host, reply.framing, reply.max_channels), (padded("gate"), 3, 9));
    }
}
