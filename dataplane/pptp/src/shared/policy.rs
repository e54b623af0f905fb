//! What a change of configuration, or the end of the gateway, means for what lives.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use super::calls::Call;
use super::ends::Farewell;
use super::event::{SessionEnd, StartFailure, UpstreamEnd};
use super::group::{SessionState, UpstreamState};
use super::types::{SessionId, UpstreamId};
use super::{Cx, Shared};
use crate::engine::Engine;
use crate::types::{Now, Policy};
use crate::wire::control::StopReason;

impl Shared {
    /// After a change of configuration: `look_up` gives for a policy in use, asked once, its new text, or `None` when the rule is gone.
    /// Sessions whose rule is gone, or whose PptpAlg is another, end and are told; the connections to servers stay for the others.
    pub fn set_policies(&mut self, look_up: &mut dyn FnMut(&Policy) -> Option<Policy>, engine: &mut Engine, now: Now) {
        let cx = &mut Cx { engine, now };
        // The policy is kept beside its answer, so that its place in memory is not used for another meanwhile.
        let mut answers: BTreeMap<*const Policy, (Arc<Policy>, Result<Policy, SessionEnd>)> = BTreeMap::new();
        let mut look_up = |old: &Arc<Policy>| {
            let ask = || match look_up(old) {
                Some(new) if new.alg == old.alg => (Arc::clone(old), Ok(new)),
                Some(_) => (Arc::clone(old), Err(SessionEnd::AlgChanged)),
                None => (Arc::clone(old), Err(SessionEnd::RuleRemoved)),
            };
            answers.entry(Arc::as_ptr(old)).or_insert_with(ask).1.clone()
        };
        let ids: Vec<SessionId> = self.sessions.keys().copied().collect();
        for id in ids {
            let Some(session) = self.sessions.get(&id) else { continue };
            if matches!(session.state, SessionState::Leaving(_)) {
                continue;
            }
            let old = session.policy.clone();
            match look_up(&old) {
                Ok(new) if new == *old => {}
                Ok(new) => self.replace_policy(id, &old, new, cx),
                Err(why) => self.leave(id, why, cx),
            }
        }
        let ids: Vec<UpstreamId> = self.upstreams.keys().copied().collect();
        for id in ids {
            let Some(upstream) = self.upstreams.get(&id) else { continue };
            let old = upstream.policy.clone();
            // Whose rule has opened it may be long gone: what its PptpAlg says is the same for all who use it.
            let of = self.groups.get(&upstream.group).and_then(|group| group.sessions.first());
            let new = match of.and_then(|session| self.sessions.get(session)) {
                Some(session) => session.policy.clone(),
                None => match look_up(&old) {
                    Ok(new) => self.policies.intern(new),
                    Err(_) => continue,
                },
            };
            if *new == *old {
                continue;
            }
            if let Some(upstream) = self.upstreams.get_mut(&id) {
                upstream.policy = new;
            }
            self.arm_upstream(id);
        }
        drop(answers);
        self.settle(cx);
    }

    /// These clients are gone, and their sessions are closed: whatever is not over yet is counted to nobody, so that whoever has
    /// such an address next does not answer for it.
    pub fn disown(&mut self, gone: &BTreeSet<Ipv4Addr>) {
        let theirs = |call: &Call| call.lent_to.is_some_and(|client| gone.contains(&client));
        let of: Vec<u32> = self.calls.iter().filter(|(_, call)| theirs(call)).map(|(index, _)| index).collect();
        for index in of {
            if let Some(call) = self.calls.get_mut(index) {
                call.lent_to = None;
            }
        }
    }

    fn replace_policy(&mut self, id: SessionId, old: &Policy, new: Policy, cx: &mut Cx<'_>) {
        let new = self.policies.intern(new);
        if let Some(client) = self.sessions.get(&id).map(|session| session.flow.client) {
            cx.engine.uncount_session(&old.service, client);
            cx.engine.count_session(&new.service, client);
        }
        let calls: Vec<u32> = self.calls.of_session(id).collect();
        for index in calls {
            if let Some(call) = self.calls.get_mut(index) {
                call.policy = new.clone();
            }
            self.arm_call(index);
        }
        if let Some(session) = self.sessions.get_mut(&id) {
            session.policy = new;
        }
        self.arm_session(id);
    }

    /// The gateway is being stopped: all are told. What is not closed by itself is reset after the farewell time.
    pub fn shut_down(&mut self, engine: &mut Engine, now: Now) {
        let cx = &mut Cx { engine, now };
        let ids: Vec<SessionId> = self.sessions.keys().copied().collect();
        for id in ids {
            // Who is told already has its time.
            let leaving = self.sessions.get(&id).is_some_and(|of| matches!(of.state, SessionState::Leaving(_)));
            if !leaving {
                self.leave(id, SessionEnd::Shutdown, cx);
            }
        }
        let ids: Vec<(UpstreamId, UpstreamState)> = self.upstreams.iter().map(|(&id, of)| (id, of.state)).collect();
        for (id, state) in ids {
            match state {
                UpstreamState::Connecting | UpstreamState::Starting => {
                    self.start_failed(id, StartFailure::TimedOut, Farewell::Reset, cx);
                }
                UpstreamState::Open => {
                    let farewell = Farewell::Stop(StopReason::StopLocalShutdown);
                    self.end_upstream(id, UpstreamEnd::Shutdown, farewell, cx);
                }
                UpstreamState::Stopping => {}
            }
        }
        self.settle(cx);
    }

    /// A session ends by our own will: it is told if it was ever answered.
    fn leave(&mut self, id: SessionId, why: SessionEnd, cx: &mut Cx<'_>) {
        let answered = self.sessions.get(&id).is_some_and(|session| session.state == SessionState::Open);
        let farewell = if answered { Farewell::Stop(StopReason::StopLocalShutdown) } else { Farewell::Reset };
        self.end_session(id, why, farewell, cx);
    }
}
