//! From plain values, written by another process, to a living state: everything is checked before anything is believed.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Shared;
use super::calls::{Call, CallSizes, Clearing, Stage};
use super::frozen::{Frozen, FrozenCall, FrozenGroup, FrozenLine, FrozenSession, FrozenUpstream, ThawError, VERSION};
use super::gre::Fragments;
use super::group::{Group, GroupId, GroupKey, Session, SessionState, Upstream, UpstreamState};
use super::line::Line;
use super::types::{Command, Leg, SessionId, UpstreamId};
use crate::engine::random::Random;
use crate::engine::{CallDirection, Engine, Traffic};
use crate::types::{Now, Policy};
use crate::wire::control::{IncomingCallRequest, OutgoingCallRequest, StartReply};

/// Numbers from here on are nobody's: they would run out.
const FAR: u64 = 1 << 62;

/// What is being put together.
struct Thaw {
    next: Shared,
    policies: Vec<Arc<Policy>>,
    /// How long nobody was there, ms.
    gap: u64,
}

impl Shared {
    /// Goes on where another one was frozen; `self` is new, knows servers at most, and is as before when there is an error. Nobody was
    /// there meanwhile, so no silence counts for that time: deadlines are put off by it.
    ///
    /// Returns the legs there have to be; those that are not there have to be reported as closed. Connections to servers that were
    /// being opened are ordered anew.
    ///
    /// # Errors
    /// When the state cannot be understood, or its Call IDs are somebody else's.
    pub fn thaw(&mut self, frozen: Frozen, engine: &mut Engine, now: Now) -> Result<Vec<Leg>, ThawError> {
        if frozen.version != VERSION {
            return Err(ThawError::Version(frozen.version));
        }
        if frozen.at > now {
            return Err(ThawError::Future(frozen.at.since(now)));
        }
        let mut next = Self::new(self.config.clone(), self.limits.clone(), frozen.random);
        next.random = Random::new(frozen.random);
        next.fragments = Fragments::after(frozen.last_fragment);
        let (next_id, next_group, next_serial) = frozen.next;
        (next.next_id, next.next_group) = (next_id, next_group);
        next.remember(self.learner.learned(now).chain(frozen.learned));
        if next_id > FAR || next_group > 1 << 30 || next_serial > FAR {
            return Err(wrong("the next number of something"));
        }
        let policies = frozen.policies.into_iter().map(|policy| next.policies.intern(policy)).collect();
        let mut thaw = Thaw { next, policies, gap: now.since(frozen.at) };
        frozen.groups.into_iter().try_for_each(|group| thaw.group(group))?;
        frozen.sessions.into_iter().try_for_each(|session| thaw.session(session))?;
        frozen.upstreams.into_iter().try_for_each(|upstream| thaw.upstream(upstream))?;
        thaw.calls(frozen.calls, frozen.free, next_serial)?;
        for rest in frozen.resting {
            thaw.next.calls.put_rest((rest.client, rest.server, rest.id), rest.until);
        }
        let mut next = thaw.next;
        next.borrow_ids(engine, now)?;
        next.count_in(engine);
        next.arm_all();
        let legs = next.legs_after_thaw();
        *self = next;
        Ok(legs)
    }

    /// Takes the Call IDs towards servers from the engine: all of them, or none.
    fn borrow_ids(&self, engine: &mut Engine, now: Now) -> Result<(), ThawError> {
        let ids = self.calls.iter().filter_map(|(_, call)| Some(((call.external, call.server), call.lent()?)));
        let mut borrowed = Vec::new();
        for (pair, (id, client)) in ids {
            if !engine.lend_this_call_id(pair, id, client) {
                for (pair, lent) in borrowed {
                    engine.rest_call_id(pair, lent, 0, now);
                }
                return Err(ThawError::Taken(format!("Call ID {id} from {} to {}", pair.0, pair.1)));
            }
            borrowed.push((pair, (id, client)));
        }
        Ok(())
    }

    /// Sessions and calls count against the limits of both modes.
    fn count_in(&mut self, engine: &mut Engine) {
        for session in self.sessions.values() {
            match session.state {
                SessionState::AwaitingStart => *self.half_open.entry(session.flow.client).or_default() += 1,
                SessionState::Pending(_) | SessionState::Open => {}
                SessionState::Leaving(_) => continue,
            }
            engine.count_session(&session.policy.service, session.flow.client);
        }
        let mut indices = Vec::new();
        for (index, call) in self.calls.iter() {
            indices.push(index);
            if let Some((_, client)) = call.client {
                engine.count_call(&call.policy.alg, client);
            }
        }
        indices.into_iter().for_each(|index| self.hold_pac(index, engine));
    }

    fn arm_all(&mut self) {
        let sessions: Vec<SessionId> = self.sessions.keys().copied().collect();
        sessions.into_iter().for_each(|id| self.arm_session(id));
        let upstreams: Vec<UpstreamId> = self.upstreams.keys().copied().collect();
        for id in upstreams {
            self.refresh_free(id);
            self.arm_upstream(id);
        }
        let calls: Vec<u32> = self.calls.iter().map(|(index, _)| index).collect();
        calls.into_iter().for_each(|index| self.arm_call(index));
        let groups: Vec<GroupId> = self.groups.keys().copied().collect();
        groups.into_iter().for_each(|id| self.arm_group(id));
    }

    /// Legs that have to be there; those that were being opened are ordered.
    fn legs_after_thaw(&mut self) -> Vec<Leg> {
        let mut legs: Vec<Leg> = self.sessions.keys().map(|&id| Leg::Client(id)).collect();
        for (&id, upstream) in &self.upstreams {
            match upstream.state {
                UpstreamState::Connecting => {
                    let Some(of) = self.groups.get(&upstream.group) else { continue };
                    let (external, server, server_port) = (of.key.external, of.key.server, of.key.server_port);
                    let client = self.owner(id);
                    self.commands.push_back(Command::Open { upstream: id, external, server, server_port, client });
                }
                UpstreamState::Starting | UpstreamState::Open | UpstreamState::Stopping => {
                    legs.push(Leg::Upstream(id));
                }
            }
        }
        legs
    }
}

impl Thaw {
    fn later(&self, at: Now) -> Now {
        at.after(self.gap)
    }

    fn policy(&self, place: usize, whose: &str) -> Result<Arc<Policy>, ThawError> {
        self.policies.get(place).cloned().ok_or_else(|| wrong(format!("the policy of {whose}")))
    }

    fn line(&self, line: FrozenLine) -> Result<Line, ThawError> {
        if line.unwritten as u64 > FAR {
            return Err(wrong("what waits to be written"));
        }
        let mut new = Line::new(self.later(line.heard));
        (new.input, new.unwritten) = (line.input, line.unwritten);
        (new.progress, new.probed) = (self.later(line.progress), line.probed.map(|at| self.later(at)));
        Ok(new)
    }

    fn group(&mut self, of: FrozenGroup) -> Result<(), ThawError> {
        let id = GroupId(of.id);
        let whose = format!("group {}", of.id);
        let key = GroupKey {
            external: of.external,
            server: of.server,
            server_port: of.server_port,
            alg: of.alg,
            own: of.own,
        };
        let mut group = Group::new(key.clone());
        let answer = of.answer.map(|bytes| StartReply::parse(&bytes)).transpose();
        group.server = answer.map_err(|_| wrong(format!("the server's answer of {whose}")))?;
        (group.channels, group.failures) = (of.channels, of.failures);
        (group.not_before, group.full_until) = (of.not_before, of.full_until);
        let fresh = of.id < self.next.next_group
            && self.next.by_key.insert(key, id).is_none()
            && self.next.groups.insert(id, group).is_none();
        if fresh { Ok(()) } else { Err(wrong(whose)) }
    }

    fn session(&mut self, of: FrozenSession) -> Result<(), ThawError> {
        let id = of.id;
        let policy = self.policy(of.policy, &id.to_string())?;
        let state = match of.state {
            SessionState::AwaitingStart | SessionState::Open => of.state,
            SessionState::Pending(since) => SessionState::Pending(self.later(since)),
            SessionState::Leaving(until) => SessionState::Leaving(self.later(until)),
        };
        let group = of.group.map(GroupId);
        match (state, group.map(|group| self.next.groups.get_mut(&group))) {
            (SessionState::AwaitingStart | SessionState::Leaving(_), None) => {}
            (SessionState::Pending(_) | SessionState::Open, Some(Some(group)))
                if (group.key.external, group.key.server) == (of.external, of.flow.server) =>
            {
                group.sessions.insert(id);
                if state != SessionState::Open {
                    group.pending.insert(id);
                }
            }
            (_, None | Some(_)) => return Err(wrong(format!("the group of {id}"))),
        }
        let created = if state == SessionState::AwaitingStart { self.later(of.created) } else { of.created };
        let session = Session {
            flow: of.flow,
            external: of.external,
            policy,
            group,
            state,
            created,
            apart: of.apart,
            early: of.early,
            line: self.line(of.line)?,
        };
        let fresh = id.0 < self.next.next_id && self.next.sessions.insert(id, session).is_none();
        if fresh { Ok(()) } else { Err(wrong(id.to_string())) }
    }

    fn upstream(&mut self, of: FrozenUpstream) -> Result<(), ThawError> {
        let (id, group) = (of.id, GroupId(of.group));
        let policy = self.policy(of.policy, &id.to_string())?;
        sound(of.carried.0, &id.to_string())?;
        sound(of.carried.1, &id.to_string())?;
        let upstream = Upstream {
            group,
            policy,
            state: of.state,
            since: if of.state == UpstreamState::Open { of.since } else { self.later(of.since) },
            channels: of.channels,
            load: 0,
            idle_since: self.later(of.idle_since),
            carried: of.carried,
            line: self.line(of.line)?,
        };
        let known = self.next.groups.get_mut(&group).ok_or_else(|| wrong(format!("the group of {id}")))?;
        known.upstreams.insert(id);
        if of.state == UpstreamState::Open {
            known.open.insert(id);
        }
        let fresh = id.0 < self.next.next_id && self.next.upstreams.insert(id, upstream).is_none();
        if fresh { Ok(()) } else { Err(wrong(id.to_string())) }
    }

    fn calls(&mut self, frozen: Vec<FrozenCall>, free: Vec<u32>, next_serial: u64) -> Result<(), ThawError> {
        let (mut calls, mut serials) = (Vec::with_capacity(frozen.len()), BTreeSet::new());
        // As many as there are ids, unless two calls have the same.
        let mut expected = CallSizes::default();
        for of in frozen {
            let index = of.index;
            if of.serial >= next_serial || !serials.insert(of.serial) {
                return Err(wrong(format!("the number of call {index}")));
            }
            let call = self.call(of)?;
            expected.down += usize::from(call.server_pns.is_some());
            expected.up += usize::from(call.client.is_some() && call.client_pac.is_some());
            expected.by_pac += usize::from(call.upstream.is_some() && call.server_pac.is_some());
            if let Some(upstream) = call.upstream.and_then(|id| self.next.upstreams.get_mut(&id)) {
                upstream.load += 1;
            }
            if call.stage == Stage::Waiting
                && let Some(group) = self.next.groups.get_mut(&call.group)
            {
                group.waiting.insert((call.rank, call.serial, index));
            }
            calls.push((index, call));
        }
        let calls = self.next.calls.put_back(calls, free, next_serial);
        calls.ok_or_else(|| wrong("the place of a call"))?;
        let CallSizes { down, up, by_pac, .. } = self.next.calls.sizes();
        let unique = (down, up, by_pac) == (expected.down, expected.up, expected.by_pac);
        if unique { Ok(()) } else { Err(wrong("a Call ID that two calls have")) }
    }

    fn call(&self, of: FrozenCall) -> Result<Call, ThawError> {
        let whose = format!("call {}", of.index);
        let group = GroupId(of.group);
        let key = &self.next.groups.get(&group).ok_or_else(|| wrong(format!("the group of {whose}")))?.key;
        let policy = self.policy(of.policy, &whose)?;
        let session = of.session.map(|id| (id, self.next.sessions.get(&id)));
        let client = match session {
            None => None,
            Some((id, Some(session))) if !matches!(session.state, SessionState::Leaving(_)) => {
                Some((id, session.flow.client))
            }
            Some((_, None | Some(_))) => return Err(wrong(format!("the session of {whose}"))),
        };
        let tunnel = of.upstream.map(|id| self.next.upstreams.get(&id).map(|upstream| upstream.group));
        if tunnel.is_some_and(|its| its != Some(group)) {
            return Err(wrong(format!("the tunnel of {whose}")));
        }
        let mut call = Call::new(group, (key.external, key.server), policy, of.created);
        match (of.direction, of.asked_by) {
            (_, None) => {}
            (CallDirection::Outgoing, Some(bytes)) => {
                call.request = Some(Box::new(OutgoingCallRequest::parse(&bytes).map_err(|_| wrong(whose.as_str()))?));
            }
            (CallDirection::Incoming, Some(bytes)) => {
                call.offer = Some(Box::new(IncomingCallRequest::parse(&bytes).map_err(|_| wrong(whose.as_str()))?));
            }
        }
        (call.client, call.upstream) = (client, of.upstream);
        (call.direction, call.stage) = (of.direction, of.stage);
        ((call.client_pns, call.server_pns), (call.client_pac, call.server_pac)) = (of.pns, of.pac);
        call.lent_to = of.lent_to;
        let right = match (call.stage, call.direction) {
            (Stage::Waiting, _) => call.upstream.is_none() && call.client.is_some() && call.request.is_some(),
            (Stage::Requested, CallDirection::Outgoing) => call.upstream.is_some() && call.server_pns.is_some(),
            (Stage::Requested, CallDirection::Incoming) => call.upstream.is_some() && call.server_pac.is_some(),
            (Stage::Accepted, _) => call.upstream.is_some() && call.server_pns.is_some(),
            (Stage::Up, _) => call.upstream.is_some() && call.server_pns.is_some() && call.server_pac.is_some(),
        };
        if !right {
            return Err(wrong(format!("what is known of {whose}")));
        }
        (call.serial, call.rank, call.retried) = (of.serial, of.rank, of.retried);
        call.asked = of.asked.into_iter().collect();
        call.clearing = of.clearing.map(|(at, sent)| Clearing { at: self.later(at), sent });
        if call.stage != Stage::Up {
            call.created = self.later(of.created);
        }
        sound(of.up.traffic, &whose)?;
        sound(of.down.traffic, &whose)?;
        (call.up, call.down) = (of.up, of.down);
        for meter in [&mut call.up, &mut call.down] {
            meter.last_payload = self.later(meter.last_payload);
        }
        Ok(call)
    }
}

/// More goes on being added to these.
fn sound(traffic: Traffic, whose: &str) -> Result<(), ThawError> {
    let Traffic { packets, bytes, lost } = traffic;
    if packets.max(bytes).max(lost) > FAR { Err(wrong(format!("the traffic of {whose}"))) } else { Ok(()) }
}

fn wrong(what: impl Into<String>) -> ThawError {
    ThawError::Contradiction(what.into())
}
