//! `Auto`: a session's connections to the server are its own, until the server has shown that it takes one of an address only.
//!
//! ```text
//!  session A ── group of A ── connection 1   ✓                     A ─┐
//!  session B ── group of B ── connection 2   refused, while 1 ─►   B ─┴─ group of all ── connection 1
//!                                            lives: B joins A
//! ```
//!
//! The server has refused because of connection 1, and would again: only that connection can carry B's calls, at once.

use super::event::{Event, StartFailure};
use super::group::{GroupId, GroupKey};
use super::time::Owner;
use super::types::{Gone, SessionId};
use super::{Learned, Shared, Why};
use crate::types::{Flow, Now};

impl Shared {
    /// This session has connections to the server of its own, as long as the server takes them. To be said before its first
    /// octets.
    pub fn keep_apart(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.apart = true;
        }
    }

    /// What is known about servers at `now`, by server.
    pub fn learned(&self, now: Now) -> impl Iterator<Item = Learned> + '_ {
        self.learner.learned(now)
    }

    /// Knows what an earlier one had learned.
    pub fn remember(&mut self, learned: impl IntoIterator<Item = Learned>) {
        self.learner.remember(learned);
    }

    pub(super) fn is_apart(&self, id: SessionId, flow: Flow, now: Now) -> bool {
        let apart = self.sessions.get(&id).is_some_and(|session| session.apart);
        apart && !self.learner.shares(flow.server, flow.server_port, now)
    }

    /// After the first connection of a session, or of those that share, has failed: if that shows that the server takes one connection
    /// only, all sessions of it share from now on. The group they share.
    pub(super) fn share_after(&mut self, group: GroupId, why: StartFailure, now: Now) -> Option<GroupId> {
        let why = match why {
            StartFailure::Refused { result: 3, .. } => Why::SecondRefused,
            StartFailure::Ended(Gone::Reset) => Why::SecondReset,
            StartFailure::Refused { .. }
            | StartFailure::Ended(Gone::Finished)
            | StartFailure::Connect(_)
            | StartFailure::Malformed
            | StartFailure::TimedOut => return None,
        };
        let base = GroupKey { own: None, ..self.groups.get(&group)?.key.clone() };
        let alike: Vec<GroupId> = self
            .by_key
            .range(base.clone()..)
            .take_while(|(other, _)| GroupKey { own: None, ..(*other).clone() } == base)
            .map(|(_, &id)| id)
            .collect();
        let another_lives = alike.iter().any(|id| self.groups.get(id).is_some_and(|of| !of.open.is_empty()));
        if !another_lives {
            return None;
        }
        let (server, server_port) = (base.server, base.server_port);
        self.learner.learn(server, server_port, (why, &base.alg), now);
        self.note(Event::Learned { server, server_port, why });
        let shared = self.join(base);
        for id in alike.into_iter().filter(|id| *id != shared) {
            self.merge(id, shared);
        }
        if let Some(of) = self.groups.get_mut(&shared) {
            of.full_until = Some(now.after(self.config.refusal_ms));
            (of.failures, of.not_before) = (0, None);
        }
        Some(shared)
    }

    /// Everything of one group is the other's.
    fn merge(&mut self, from: GroupId, to: GroupId) {
        let Some(old) = self.groups.remove(&from) else { return };
        self.by_key.remove(&old.key);
        if let Some(armed) = old.armed {
            self.timers.clear(armed, Owner::Group(from));
        }
        for id in &old.sessions {
            if let Some(session) = self.sessions.get_mut(id) {
                session.group = Some(to);
            }
        }
        for id in &old.upstreams {
            if let Some(upstream) = self.upstreams.get_mut(id) {
                upstream.group = to;
            }
        }
        // A call has a session, a connection to the server, or both. One merge looks at what it moves and at nothing else: as many
        // groups are merged as there are clients.
        let of_sessions = old.sessions.iter().flat_map(|id| self.calls.of_session(*id));
        let of_upstreams = old.upstreams.iter().flat_map(|id| self.calls.of_upstream(*id));
        let calls: Vec<u32> = of_sessions.chain(of_upstreams).collect();
        for index in calls {
            if let Some(call) = self.calls.get_mut(index).filter(|call| call.group == from) {
                call.group = to;
            }
        }
        if let Some(of) = self.groups.get_mut(&to) {
            // `append` would build each set anew.
            of.sessions.extend(old.sessions);
            of.pending.extend(old.pending);
            of.upstreams.extend(old.upstreams);
            of.open.extend(old.open);
            of.free.extend(old.free);
            of.crowded.extend(old.crowded);
            of.waiting.extend(old.waiting);
            of.server = of.server.or(old.server);
            of.channels = of.channels.or(old.channels);
        }
        self.dirty.remove(&from);
        self.dirty.insert(to);
    }
}
