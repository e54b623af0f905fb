//! `controlConnection: Auto`: which servers have shown that they take one control connection from an address only, when and how. What
//! shows it is said in `auto`.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::types::Now;

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
pub(super) struct Learner {
    expiry_ms: u64,
    learned: BTreeMap<(Ipv4Addr, u16), Learned>,
}

impl Learner {
    /// Knows of none. `expiry_ms`: how long it is believed without being seen again.
    pub(super) fn new(expiry_ms: u64) -> Self {
        Self { expiry_ms, learned: BTreeMap::new() }
    }

    /// Whether clients of this server are known to have to share a connection.
    pub(super) fn shares(&self, server: Ipv4Addr, server_port: u16, now: Now) -> bool {
        self.learned.get(&(server, server_port)).is_some_and(|entry| entry.until > now)
    }

    /// A server has been seen to take one control connection only, and under which PptpAlg: it is believed from now on.
    pub(super) fn learn(&mut self, server: Ipv4Addr, server_port: u16, (why, alg): (Why, &str), now: Now) {
        self.learned.retain(|_, entry| entry.until > now);
        let since = self.learned.get(&(server, server_port)).map_or(now, |entry| entry.since);
        let until = now.after(self.expiry_ms);
        let entry = Learned { server, server_port, why, alg: alg.to_owned(), since, seen: now, until };
        self.learned.insert((server, server_port), entry);
    }

    /// What is believed at `now`, by server.
    pub(super) fn learned(&self, now: Now) -> impl Iterator<Item = Learned> + '_ {
        self.learned.values().filter(move |entry| entry.until > now).cloned()
    }

    /// Knows what an earlier one had learned, too.
    pub(super) fn remember(&mut self, learned: impl IntoIterator<Item = Learned>) {
        self.learned.extend(learned.into_iter().map(|entry| ((entry.server, entry.server_port), entry)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 9);

    #[test]
    fn what_was_learned_expires_unless_it_is_seen_again_and_survives_a_restart() {
        let mut learner = Learner::new(100);
        let known = |since, seen| Learned {
            server: SERVER,
            server_port: 1723,
            why: Why::SecondReset,
            alg: "pos/alg".into(),
            since: Now(since),
            seen: Now(seen),
            until: Now(seen + 100),
        };
        learner.learn(SERVER, 1723, (Why::SecondRefused, "pos/alg"), Now(10));
        learner.learn(SERVER, 1723, (Why::SecondReset, "pos/alg"), Now(60));
        let learned: Vec<Learned> = learner.learned(Now(60)).collect();
        assert_eq!(learned, [known(10, 60)]);
        let text = serde_json::to_string(&learned).unwrap();
        let mut restored = Learner::new(100);
        restored.remember(serde_json::from_str::<Vec<Learned>>(&text).unwrap());
        assert_eq!([1723, 1724].map(|port| restored.shares(SERVER, port, Now(159))), [true, false]);
        assert_eq!((restored.shares(SERVER, 1723, Now(160)), restored.learned(Now(160)).count()), (false, 0));
        restored.learn(SERVER, 1723, (Why::SecondReset, "pos/alg"), Now(500));
        assert_eq!(
            restored.learned(Now(500)).collect::<Vec<_>>(),
            [known(500, 500)],
            "it is forgotten what was before"
        );
    }
}
