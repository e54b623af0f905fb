//! A connection to a server: ordered, introduced, answered or failed; the wait between tries.

use std::net::Ipv4Addr;

use super::ends::Farewell;
use super::event::{Event, SessionEnd, StartFailure};
use super::group::{GroupId, SessionState, Upstream, UpstreamState};
use super::line::Line;
use super::types::{Command, ConnectError, Leg, SessionId, UpstreamId};
use super::{Cx, Shared};
use crate::engine::Engine;
use crate::types::Now;
use crate::wire::control::{GeneralError, StartReply, StartResult};

impl Shared {
    /// Orders a connection to the server of this group.
    pub(super) fn open_upstream(&mut self, group: GroupId, now: Now) {
        let Some(of) = self.groups.get(&group) else { return };
        // The policies of a group differ in their rules only; what counts here is the PptpAlg's.
        let waiting = of.waiting.first().and_then(|&(.., index)| self.calls.get(index)).map(|call| call.policy.clone());
        let pending = of.pending.first().and_then(|id| self.sessions.get(id)).map(|session| session.policy.clone());
        let Some(policy) = waiting.or(pending) else { return };
        let (external, server, server_port) = (of.key.external, of.key.server, of.key.server_port);
        let id = UpstreamId(self.new_id());
        let upstream = Upstream {
            group,
            policy,
            state: UpstreamState::Connecting,
            since: now,
            channels: 0,
            load: 0,
            idle_since: now,
            carried: Default::default(),
            line: Line::new(now),
        };
        self.upstreams.insert(id, upstream);
        if let Some(of) = self.groups.get_mut(&group) {
            of.upstreams.insert(id);
        }
        self.counters.upstreams_opened += 1;
        self.note(Event::UpstreamOpening { upstream: id, external, server });
        let client = self.owner(id);
        self.commands.push_back(Command::Open { upstream: id, external, server, server_port, client });
        self.arm_upstream(id);
    }

    /// The client whose alone this connection to a server is: Auto's, as long as it shares with nobody.
    pub fn owner(&self, id: UpstreamId) -> Option<Ipv4Addr> {
        let own = self.groups.get(&self.upstreams.get(&id)?.group)?.key.own?;
        self.sessions.get(&own).map(|session| session.flow.client)
    }

    /// TCP to a server is up.
    pub fn upstream_connected(&mut self, id: UpstreamId, engine: &mut Engine, now: Now) {
        let cx = &mut Cx { engine, now };
        let Some(upstream) = self.upstreams.get_mut(&id) else { return };
        if upstream.state != UpstreamState::Connecting {
            return;
        }
        upstream.state = UpstreamState::Starting;
        upstream.line.hear(now);
        let request = self.config.start_request().to_bytes();
        self.say_to_server(id, request, now);
        self.settle(cx);
    }

    /// TCP to a server did not come about.
    pub fn upstream_failed(&mut self, id: UpstreamId, why: ConnectError, engine: &mut Engine, now: Now) {
        let cx = &mut Cx { engine, now };
        if self.upstreams.get(&id).is_some_and(|upstream| upstream.state == UpstreamState::Connecting) {
            self.start_failed(id, StartFailure::Connect(why), Farewell::Nothing, cx);
        }
        self.settle(cx);
    }

    /// The server's answer to our first message.
    pub(super) fn start_reply(&mut self, id: UpstreamId, message: &[u8], cx: &mut Cx<'_>) {
        let Ok(reply) = StartReply::parse(message) else { return };
        if reply.result != StartResult::Ok {
            let why = StartFailure::Refused { result: reply.result.into(), error: reply.error.into() };
            return self.start_failed(id, why, Farewell::Close, cx);
        }
        let channels = if reply.max_channels == 0 { self.config.channels_if_zero.max(1) } else { reply.max_channels };
        let Some(upstream) = self.upstreams.get_mut(&id) else { return };
        upstream.state = UpstreamState::Open;
        (upstream.since, upstream.idle_since, upstream.channels) = (cx.now, cx.now, channels);
        let group = upstream.group;
        if let Some(of) = self.groups.get_mut(&group) {
            of.open.insert(id);
            of.server = Some(reply);
            of.channels = Some(channels);
            (of.failures, of.not_before) = (0, None);
        }
        self.counters.upstreams_established += 1;
        self.note(Event::UpstreamUp { upstream: id, channels });
        self.refresh_free(id);
        self.dirty.insert(group);
    }

    /// A connection did not come about; what waits for it tries again later, or is told.
    pub(super) fn start_failed(&mut self, id: UpstreamId, why: StartFailure, farewell: Farewell, cx: &mut Cx<'_>) {
        let Some(upstream) = self.upstreams.get(&id) else { return };
        let group = upstream.group;
        let leg = Leg::Upstream(id);
        match farewell {
            Farewell::Close => self.commands.push_back(Command::Close { leg }),
            Farewell::Reset | Farewell::Stop(_) => self.commands.push_back(Command::Reset { leg }),
            Farewell::Nothing => {}
        }
        self.forget_upstream(id);
        self.counters.upstreams_failed += 1;
        let Some(of) = self.groups.get(&group) else { return };
        let beside = match why {
            StartFailure::Refused { result: 3, .. } | StartFailure::Ended(_) => !of.open.is_empty(),
            StartFailure::Connect(_)
            | StartFailure::Refused { .. }
            | StartFailure::Malformed
            | StartFailure::TimedOut => false,
        };
        if !beside && let Some(shared) = self.share_after(group, why, cx.now) {
            // Served at once, over the connection of others.
            self.note(Event::UpstreamFailed { upstream: id, why, wait_ms: 0 });
            self.dirty.insert(shared);
            return;
        }
        let Some(of) = self.groups.get_mut(&group) else { return };
        let (wait_ms, told) = if beside {
            of.full_until = Some(cx.now.after(self.config.refusal_ms));
            (self.config.refusal_ms, false)
        } else {
            of.failures = of.failures.saturating_add(1);
            let failures = of.failures;
            let wait_ms = self.backoff(failures);
            if let Some(of) = self.groups.get_mut(&group) {
                of.not_before = Some(cx.now.after(wait_ms));
            }
            let hopeless = matches!(why, StartFailure::Refused { result: 4 | 5, .. });
            (wait_ms, hopeless || failures >= self.config.attempts)
        };
        self.note(Event::UpstreamFailed { upstream: id, why, wait_ms });
        if told {
            self.give_up(group, why, cx);
        }
        self.dirty.insert(group);
    }

    /// The wait after so many tries that failed: doubled each time, up to half of it taken off at random, so that the
    /// gateways of a server that comes back do not come all at once.
    fn backoff(&mut self, failures: u32) -> u64 {
        let factor = 1u64 << failures.saturating_sub(1).min(20);
        let whole = self.config.backoff_ms.saturating_mul(factor).min(self.config.backoff_max_ms);
        whole - self.random.next_u64() % (whole / 2 + 1)
    }

    /// All who wait for a server are told that it cannot be had, and why.
    fn give_up(&mut self, group: GroupId, why: StartFailure, cx: &mut Cx<'_>) {
        let Some(of) = self.groups.get(&group) else { return };
        let (pending, waiting) = (of.pending.clone(), of.waiting.clone());
        for id in pending {
            self.refuse_start(id, SessionEnd::NoServer(why), start_codes(why), cx);
        }
        for (.., index) in waiting {
            self.refuse_waiting(index, super::Refusal::NoServer(why), cx);
        }
    }

    /// A call that waits is refused.
    pub(super) fn refuse_waiting(&mut self, index: u32, why: super::Refusal, cx: &mut Cx<'_>) {
        let Some(call) = self.calls.get(index) else { return };
        if let (Some(session), Some(pns)) = (call.session(), call.client_pns) {
            self.refuse(session, pns, why, cx);
        }
        self.remove_call(index, super::CallEnd::Refused(why), cx);
    }

    /// A client's first message is answered by a refusal, and its connection closed; that says enough about its calls.
    pub(super) fn refuse_start(
        &mut self,
        id: SessionId,
        why: SessionEnd,
        (result, error): (StartResult, GeneralError),
        cx: &mut Cx<'_>,
    ) {
        let reply = self.config.start_reply(None, result, error);
        self.say_to_client(id, reply.to_bytes(), cx.now);
        self.end_session(id, why, Farewell::Close, cx);
    }

    /// A client's first message is answered in the server's name.
    pub(super) fn answer_start(&mut self, id: SessionId, now: Now) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.state = SessionState::Open;
        session.line.hear(now);
        let early = std::mem::take(&mut session.early);
        let server = session.group.and_then(|group| self.groups.get(&group)).and_then(|group| group.server);
        let reply = self.config.start_reply(server.as_ref(), StartResult::Ok, GeneralError::None);
        self.say_to_client(id, reply.to_bytes(), now);
        for message in early {
            self.say_to_client(id, message, now);
        }
    }
}

/// How a client hears that there is no server for it.
fn start_codes(why: StartFailure) -> (StartResult, GeneralError) {
    match why {
        // "Already exists" would be about a connection the client has never had.
        StartFailure::Refused { result: 3, .. } => (StartResult::GeneralError, GeneralError::NoResource),
        StartFailure::Refused { result, error } => (StartResult::from(result), GeneralError::from(error)),
        StartFailure::Connect(_) | StartFailure::Ended(_) | StartFailure::Malformed | StartFailure::TimedOut => {
            (StartResult::GeneralError, GeneralError::NotConnected)
        }
    }
}
