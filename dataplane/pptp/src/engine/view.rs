//! Connections and calls as people see them: plain values, sorted.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

use crate::types::{Flow, Now};

/// Which side asked for a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CallDirection {
    /// The client, by Outgoing-Call-Request (types 7 and 8).
    Outgoing,
    /// The server, by Incoming-Call-Request (types 9, 10 and 11).
    Incoming,
}

/// How far a call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CallState {
    /// The request was passed on, the reply has not come.
    Requested,
    /// An incoming call was accepted by the client, Incoming-Call-Connected has not come.
    Accepted,
    /// GRE flows.
    Up,
}

/// Live calls counted by the names of what allows them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CallsByObject {
    /// By rule.
    pub rules: BTreeMap<String, u64>,
    /// By service.
    pub services: BTreeMap<String, u64>,
    /// By ALG.
    pub algs: BTreeMap<String, u64>,
}

/// How far a control connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConnectionState {
    /// TCP handshake under way.
    Opening,
    /// TCP is up, the first message is not complete.
    AwaitingStart,
    /// Messages pass.
    Established,
    /// FIN from one side.
    Closing,
    /// Over; only retransmissions pass.
    Closed,
}

/// GRE of one call in one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Packets passed on.
    pub packets: u64,
    /// Bytes of them, IPv4 headers included.
    pub bytes: u64,
    /// Packets that never reached the gateway, by gaps in the GRE sequence numbers.
    pub lost: u64,
}

impl AddAssign for Traffic {
    fn add_assign(&mut self, more: Self) {
        self.packets += more.packets;
        self.bytes += more.bytes;
        self.lost += more.lost;
    }
}

/// One call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallView {
    /// The control connection as the client knows it.
    pub flow: Flow,
    /// The gateway's address towards the server.
    pub external: Ipv4Addr,
    /// The gateway's TCP port towards the server.
    pub external_port: u16,
    /// The PNS's Call ID as the client chose it; `None` while an incoming call is not answered.
    pub pns_id: Option<u16>,
    /// The Call ID the server knows in its place.
    pub translated_id: Option<u16>,
    /// The PAC's Call ID as the client knows it; `None` while an outgoing call is not answered.
    pub pac_id: Option<u16>,
    /// The PAC's Call ID as the server chose it: the same, but for some calls of the shared mode.
    pub pac_id_outside: Option<u16>,
    /// The tunnel that carries it in the shared mode; `None` while it waits for one, and in the in-path mode.
    pub tunnel: Option<u64>,
    /// Who asked for it.
    pub direction: CallDirection,
    /// How far it is.
    pub state: CallState,
    /// Client to server.
    pub up: Traffic,
    /// Server to client.
    pub down: Traffic,
    /// When it was asked for.
    pub created: Now,
    /// When GRE of it was last passed on, in either direction (when it was asked for, before that).
    pub last_seen: Now,
    /// `namespace/name` of the rule.
    pub rule: String,
    /// `namespace/name` of the service.
    pub service: String,
    /// `namespace/name` of the PptpAlg.
    pub alg: String,
}

/// One control connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionView {
    /// Number of the connection; no other that lives has it, nor any other of the same process.
    pub id: u64,
    /// The connection as the client knows it.
    pub flow: Flow,
    /// The gateway's address towards the server.
    pub external: Ipv4Addr,
    /// The gateway's TCP port towards the server.
    pub external_port: u16,
    /// How far it is.
    pub state: ConnectionState,
    /// Its live calls.
    pub calls: u32,
    /// When its SYN came.
    pub created: Now,
    /// When its last segment came.
    pub last_seen: Now,
    /// `namespace/name` of the rule.
    pub rule: String,
    /// `namespace/name` of the service.
    pub service: String,
    /// `namespace/name` of the PptpAlg.
    pub alg: String,
}
