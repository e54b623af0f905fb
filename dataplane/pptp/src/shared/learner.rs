//! `controlConnection: Auto`: which servers have shown that they take one control connection from an address only.
//!
//! ```text
//!  in-path: SCCRP result 3, or RST in answer to the first message,  ─┐ while another connection from the same
//!                                                                    ▼ external address lives
//!            Mode::PerClient ───────────────────────────────► Mode::Shared for this server, until it expires
//! ```
//!
//! Pure: it sees what the in-path mode saw, and says what was learned, when and why.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::types::{Flow, Now};

/// How a client's control connection reaches its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Mode {
    /// In the path, each its own.
    PerClient,
    /// Over a connection it shares with others.
    Shared,
}

/// A control connection of the in-path mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Connection {
    /// The gateway's address towards the server.
    pub external: Ipv4Addr,
    /// The connection as the client knows it.
    pub flow: Flow,
}

/// What the in-path mode saw of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// Start-Control-Connection-Reply with result 1.
    Started(Connection),
    /// Start-Control-Connection-Reply with another result.
    Refused {
        /// The connection it refused.
        connection: Connection,
        /// The result code.
        result: u8,
    },
    /// RST after the first message and before any answer.
    ResetAtStart(Connection),
    /// The connection has ended, whoever ended it.
    Ended(Connection),
}

/// What a server has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// It answered a second control connection with result 3, "command channel already exists".
    SecondRefused,
    /// It reset a second control connection in answer to its first message.
    SecondReset,
}

/// What is known about one server.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Learned {
    /// The server.
    pub server: Ipv4Addr,
    /// Its port.
    pub server_port: u16,
    /// What it has done, the last time.
    pub why: Why,
    /// To a connection of this PptpAlg.
    #[serde(default)]
    pub alg: String,
    /// When it first did.
    pub since: Now,
    /// When it last did.
    pub seen: Now,
    /// When this is forgotten, unless it does it again.
    pub until: Now,
}

impl Why {
    /// In words.
    pub fn text(self) -> &'static str {
        match self {
            Self::SecondRefused => "it answered a second control connection from the same address with result 3",
            Self::SecondReset => "it reset a second control connection from the same address",
        }
    }
}

/// What is known about all servers.
#[derive(Debug)]
pub struct Learner {
    expiry_ms: u64,
    live: BTreeMap<(Ipv4Addr, Ipv4Addr, u16), BTreeSet<Flow>>,
    learned: BTreeMap<(Ipv4Addr, u16), Learned>,
}

impl Learner {
    /// Knows what an earlier one had learned. `expiry_ms`: how long it is believed without being seen again; a day is a
    /// good choice, since servers are replaced and licences bought.
    pub fn new(expiry_ms: u64, learned: impl IntoIterator<Item = Learned>) -> Self {
        let learned = learned.into_iter().map(|entry| ((entry.server, entry.server_port), entry)).collect();
        Self { expiry_ms, live: BTreeMap::new(), learned }
    }

    /// How a new connection to this server is to be carried.
    pub fn mode(&self, server: Ipv4Addr, server_port: u16, now: Now) -> Mode {
        match self.learned.get(&(server, server_port)) {
            Some(entry) if entry.until > now => Mode::Shared,
            Some(_) | None => Mode::PerClient,
        }
    }

    /// Takes note of what was seen. When it shows that the server takes one connection only, that is returned: it has to
    /// be saved, and the client it was done to has to be served in the shared mode now. `alg`: its PptpAlg.
    pub fn see(&mut self, seen: Seen, alg: &str, now: Now) -> Option<Learned> {
        self.learned.retain(|_, entry| entry.until > now);
        let (connection, why) = match seen {
            Seen::Started(connection) => {
                self.live.entry(key(connection)).or_default().insert(connection.flow);
                return None;
            }
            Seen::Ended(connection) => {
                let key = key(connection);
                if let Some(flows) = self.live.get_mut(&key) {
                    flows.remove(&connection.flow);
                    if flows.is_empty() {
                        self.live.remove(&key);
                    }
                }
                return None;
            }
            Seen::Refused { connection, result: 3 } => (connection, Why::SecondRefused),
            // A server that does not want this client, or not this version, says nothing about a second connection.
            Seen::Refused { .. } => return None,
            Seen::ResetAtStart(connection) => (connection, Why::SecondReset),
        };
        let others = self.live.get(&key(connection))?;
        if others.iter().all(|flow| *flow == connection.flow) {
            return None;
        }
        Some(self.learn(connection.flow.server, connection.flow.server_port, (why, alg), now))
    }

    /// A server has been seen to take one control connection only, and under which PptpAlg: it is believed from now on.
    pub fn learn(&mut self, server: Ipv4Addr, server_port: u16, (why, alg): (Why, &str), now: Now) -> Learned {
        let since = self.learned.get(&(server, server_port)).map_or(now, |entry| entry.since);
        let until = now.after(self.expiry_ms);
        let entry = Learned { server, server_port, why, alg: alg.to_owned(), since, seen: now, until };
        self.learned.insert((server, server_port), entry.clone());
        entry
    }

    /// What is believed at `now`, by server.
    pub fn learned(&self, now: Now) -> impl Iterator<Item = Learned> + '_ {
        self.learned.values().filter(move |entry| entry.until > now).cloned()
    }

    /// Knows what an earlier one had learned, too.
    pub fn remember(&mut self, learned: impl IntoIterator<Item = Learned>) {
        self.learned.extend(learned.into_iter().map(|entry| ((entry.server, entry.server_port), entry)));
    }

    /// Forgets what was learned about a server, at somebody's wish.
    pub fn forget(&mut self, server: Ipv4Addr, server_port: u16) -> bool {
        self.learned.remove(&(server, server_port)).is_some()
    }
}

fn key(connection: Connection) -> (Ipv4Addr, Ipv4Addr, u16) {
    (connection.external, connection.flow.server, connection.flow.server_port)
}
