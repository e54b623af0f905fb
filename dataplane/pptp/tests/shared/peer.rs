//! A scripted PPTP server: it checks that whoever calls it behaves, and answers as its moods say.

use std::collections::{BTreeMap, BTreeSet};

use callgate_pptp::shared::{Gone, UpstreamId};

use super::messages;

/// How the server ends a call it was asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clears {
    /// Call-Disconnect-Notify with its own id (RFC 2637).
    Book,
    /// Call-Disconnect-Notify with the client's id (accel-ppp).
    WithPnsId,
    /// Closes the whole connection (pptpd).
    Closes,
    /// Says nothing.
    Silent,
}

/// What it does with one connection too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Surplus {
    /// Start-Control-Connection-Reply with this result.
    Result(u8),
    /// RST.
    Resets,
    /// FIN.
    Closes,
}

/// What comes back to the gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Back {
    Says(Vec<u8>),
    Ends(Gone),
}

#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) channels: u16,
    pub(crate) connections: usize,
    pub(crate) surplus: Surplus,
    pub(crate) clears: Clears,
    /// Call requests are not answered by themselves.
    pub(crate) mute: bool,
    /// No message at all is answered.
    pub(crate) dead: bool,
    /// Each connection counts its ids from here.
    pub(crate) first_pac: Option<u16>,
    next_pac: u16,
    /// Of each connection: what it was told, and its calls, PAC id to PNS id.
    pub(crate) heard: BTreeMap<UpstreamId, Vec<Vec<u8>>>,
    pub(crate) calls: BTreeMap<UpstreamId, BTreeMap<u16, u16>>,
    /// Connections it has ended: what is said to them meanwhile reaches nobody.
    ended: BTreeSet<UpstreamId>,
    /// Most connections at once, ever.
    pub(crate) most: usize,
}

impl Server {
    pub(crate) fn new(channels: u16) -> Self {
        Self {
            channels,
            connections: usize::MAX,
            surplus: Surplus::Result(3),
            clears: Clears::Book,
            mute: false,
            dead: false,
            first_pac: None,
            next_pac: 0,
            heard: BTreeMap::new(),
            calls: BTreeMap::new(),
            ended: BTreeSet::new(),
            most: 0,
        }
    }

    /// A TCP connection is up.
    pub(crate) fn connect(&mut self, id: UpstreamId) {
        self.heard.insert(id, Vec::new());
    }

    /// A connection is over.
    pub(crate) fn gone(&mut self, id: UpstreamId) {
        self.ended.insert(id);
        self.calls.remove(&id);
    }

    /// Calls over all connections.
    pub(crate) fn call_count(&self) -> usize {
        self.calls.values().map(BTreeMap::len).sum()
    }

    /// Hears one message; what it says to it.
    pub(crate) fn hear(&mut self, id: UpstreamId, message: &[u8]) -> Vec<Back> {
        let heard = self.heard.get_mut(&id).expect("said before the connection was up");
        let first = heard.is_empty();
        heard.push(message.to_vec());
        let kind = message[9];
        assert_eq!(first, kind == 1, "the first message, and only that, asks for the control connection");
        if self.dead || self.ended.contains(&id) {
            return Vec::new();
        }
        match kind {
            1 if self.calls.len() >= self.connections => match self.surplus {
                Surplus::Result(result) => {
                    let mut reply = messages::start_reply();
                    reply[14] = result;
                    vec![Back::Says(reply)]
                }
                Surplus::Resets => vec![Back::Ends(Gone::Reset)],
                Surplus::Closes => vec![Back::Ends(Gone::Finished)],
            },
            1 => {
                self.calls.insert(id, BTreeMap::new());
                self.most = self.most.max(self.calls.len());
                vec![Back::Says(self.start_reply())]
            }
            3 => {
                self.gone(id);
                vec![Back::Says(messages::stop_reply()), Back::Ends(Gone::Finished)]
            }
            5 => vec![Back::Says(messages::message(6, 20, &[(12, &message[12..16]), (16, &[1])]))],
            7 if self.mute => Vec::new(),
            7 => self.accept(id, pns(message)),
            12 => self.clear(id, pns(message)),
            10 if message[16] == 1 => {
                let pac = u16::from_be_bytes([message[14], message[15]]);
                let calls = self.calls.get_mut(&id).expect("an answered connection");
                assert_eq!(calls.insert(pac, pns(message)), None, "an incoming call is accepted once");
                vec![Back::Says(messages::incoming_connected(pns(message)))]
            }
            4 | 6 | 8 | 10 | 15 => Vec::new(),
            other => panic!("a client never says type {other}"),
        }
    }

    /// Answers, late, the first message of this connection.
    pub(crate) fn hear_first_again(&mut self, id: UpstreamId) -> Back {
        self.calls.insert(id, BTreeMap::new());
        Back::Says(self.start_reply())
    }

    fn start_reply(&self) -> Vec<u8> {
        let mut reply = messages::start_reply();
        reply[24..26].copy_from_slice(&self.channels.to_be_bytes());
        reply
    }

    /// Accepts the call that was asked for with this PNS id.
    pub(crate) fn accept(&mut self, id: UpstreamId, pns: u16) -> Vec<Back> {
        let live: Vec<u16> = self.calls.values().flat_map(|calls| calls.values().copied()).collect();
        assert!(!live.contains(&pns), "Call ID {pns} names two live calls");
        let calls = self.calls.get_mut(&id).expect("a call before the answer to the first message");
        assert!(calls.len() < usize::from(self.channels), "more calls than channels");
        let used: BTreeSet<u16> = calls.keys().copied().collect();
        let pac = match self.first_pac {
            Some(first) => (first..).find(|pac| !used.contains(pac)).unwrap(),
            None => {
                self.next_pac = self.next_pac.wrapping_add(1);
                self.next_pac
            }
        };
        calls.insert(pac, pns);
        vec![Back::Says(messages::outgoing_reply(pac, pns, 1))]
    }

    fn clear(&mut self, id: UpstreamId, pns: u16) -> Vec<Back> {
        let calls = self.calls.get_mut(&id).expect("Call-Clear-Request on a connection that is not answered");
        let pac = calls.iter().find(|(_, known)| **known == pns).map(|(pac, _)| *pac);
        let pac = pac.expect("Call-Clear-Request about a call that is not there");
        match self.clears {
            Clears::Silent => return Vec::new(),
            Clears::Closes => {
                self.gone(id);
                return vec![Back::Ends(Gone::Finished)];
            }
            Clears::Book | Clears::WithPnsId => {}
        }
        calls.remove(&pac);
        let named = if self.clears == Clears::Book { pac } else { pns };
        vec![Back::Says(messages::disconnect_notify(named))]
    }
}

fn pns(message: &[u8]) -> u16 {
    u16::from_be_bytes([message[12], message[13]])
}
