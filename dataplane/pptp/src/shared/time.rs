//! What is due when: first message, answer, silence, slow readers, set-up, idle, linger, the next try.

use super::calls::Stage;
use super::ends::{Farewell, incoming_refusal};
use super::event::{CallEnd, SessionEnd, StartFailure, UpstreamEnd};
use super::group::{Group, GroupId, SessionState, UpstreamState};
use super::line::Silence;
use super::types::{Command, Leg, SessionId, UpstreamId};
use super::{Cx, Shared};
use crate::engine::{CallDirection, Engine};
use crate::types::{Now, Side};
use crate::wire::control::{
    DisconnectResult, EchoRequest, GeneralError, IncomingResult, OutgoingResult, StartResult, StopReason,
};

/// Whose deadline it is. Numbers are never used twice (a call's index is, so its serial number stands beside it).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Owner {
    Session(SessionId),
    Upstream(UpstreamId),
    Call(u32, u64),
    /// GRE held for a call.
    Held(u32, u64),
    Group(GroupId),
}

/// Messages kept for a client that says much before its first message is answered.
const MAX_EARLY: usize = 256;

/// What a leg needs.
enum Due<W> {
    /// Nothing before this moment; `None`: never.
    Later(Option<Now>),
    /// An Echo-Request.
    Probe,
    /// Its first message has waited for an answer for too long.
    NotAnswered,
    /// We have said goodbye, and it had its time.
    FarewellOver,
    /// Its end, and why.
    End(W),
}

impl Shared {
    /// Does what is due. Call it at `poll_timeout`; earlier or later does no harm.
    pub fn handle_timeout(&mut self, engine: &mut Engine, now: Now) {
        let cx = &mut Cx { engine, now };
        while let Some(owner) = self.timers.pop_due(now) {
            match owner {
                Owner::Session(id) => {
                    if let Some(session) = self.sessions.get_mut(&id) {
                        session.line.armed = None;
                    }
                    self.session_due(id, cx);
                    self.arm_session_after(id, now);
                }
                Owner::Upstream(id) => {
                    if let Some(upstream) = self.upstreams.get_mut(&id) {
                        upstream.line.armed = None;
                    }
                    self.upstream_due(id, cx);
                    self.arm_upstream_after(id, now);
                }
                Owner::Call(index, serial) => {
                    if let Some(call) = self.calls.get_mut(index).filter(|call| call.serial == serial) {
                        call.armed = None;
                        self.call_due(index, cx);
                        self.arm_call(index);
                    }
                }
                Owner::Held(index, serial) => self.held_due(index, serial, now),
                Owner::Group(id) => {
                    if let Some(group) = self.groups.get_mut(&id) {
                        group.armed = None;
                        self.dirty.insert(id);
                    }
                }
            }
            self.settle(cx);
        }
        self.calls.release(now);
    }

    fn session_needs(&self, id: SessionId, now: Now) -> Due<SessionEnd> {
        let Some(session) = self.sessions.get(&id) else { return Due::Later(None) };
        let (line, config) = (&session.line, &self.config);
        if line.unwritten() > config.max_unwritten || session.early.len() > MAX_EARLY {
            return Due::End(SessionEnd::SlowReader);
        }
        let (at, due) = match session.state {
            SessionState::AwaitingStart => {
                let at = session.created.after(self.limits.first_message_timeout_ms);
                (at, Due::End(SessionEnd::FirstMessageTimeout))
            }
            SessionState::Pending(since) => (since.after(config.client_start_timeout_ms), Due::NotAnswered),
            SessionState::Leaving(until) => (until, Due::FarewellOver),
            SessionState::Open => {
                let echo = session.policy.echo_timeout_ms;
                match line.silence(echo, now) {
                    Silence::Dead => return Due::End(SessionEnd::EchoTimeout),
                    Silence::Probe => return Due::Probe,
                    Silence::Fine(Some(at)) => (at, Due::End(SessionEnd::EchoTimeout)),
                    Silence::Fine(None) if self.calls.of_session(id).next().is_none() => {
                        (line.heard.after(self.limits.callless_timeout_ms), Due::End(SessionEnd::Unused))
                    }
                    Silence::Fine(None) => {
                        return slow(line.write_deadline(config.write_timeout_ms), now, SessionEnd::SlowReader);
                    }
                }
            }
        };
        if at <= now {
            return due;
        }
        match line.write_deadline(config.write_timeout_ms) {
            Some(slow) if slow <= now => Due::End(SessionEnd::SlowReader),
            Some(slow) => Due::Later(Some(at.min(slow))),
            None => Due::Later(Some(at)),
        }
    }

    fn session_due(&mut self, id: SessionId, cx: &mut Cx<'_>) {
        match self.session_needs(id, cx.now) {
            Due::Later(_) => {}
            Due::Probe => self.probe_session(id, cx.now),
            Due::NotAnswered => {
                let codes = (StartResult::GeneralError, GeneralError::NotConnected);
                self.refuse_start(id, SessionEnd::StartTimeout, codes, cx);
            }
            Due::FarewellOver => self.drop_session(id, Some(Command::Reset { leg: Leg::Client(id) })),
            Due::End(why @ SessionEnd::Unused) => {
                self.end_session(id, why, Farewell::Stop(StopReason::None), cx);
            }
            Due::End(why) => {
                self.counters.sessions_unresponsive += 1;
                self.end_session(id, why, Farewell::Reset, cx);
            }
        }
    }

    fn probe_session(&mut self, id: SessionId, now: Now) {
        let identifier = self.random.next_u64() as u32;
        if let Some(session) = self.sessions.get_mut(&id) {
            session.line.probed = Some(now);
            self.say_to_client(id, EchoRequest { reserved0: 0, identifier }.to_bytes(), now);
        }
    }

    fn upstream_needs(&self, id: UpstreamId, now: Now) -> Due<UpstreamEnd> {
        let Some(upstream) = self.upstreams.get(&id) else { return Due::Later(None) };
        let (line, config) = (&upstream.line, &self.config);
        if line.unwritten() > config.max_unwritten_server && upstream.state == UpstreamState::Open {
            return Due::End(UpstreamEnd::SlowReader);
        }
        let mut next: Option<Now> = None;
        let mut no_later = |at: Now| next = Some(next.map_or(at, |next| next.min(at)));
        match upstream.state {
            UpstreamState::Connecting | UpstreamState::Starting => {
                let at = upstream.since.after(config.start_timeout_ms);
                return if at <= now { Due::NotAnswered } else { Due::Later(Some(at)) };
            }
            UpstreamState::Stopping => {
                let at = upstream.since.after(config.farewell_ms);
                return if at <= now { Due::FarewellOver } else { Due::Later(Some(at)) };
            }
            UpstreamState::Open => {
                match line.silence(upstream.policy.echo_timeout_ms, now) {
                    Silence::Dead => return Due::End(UpstreamEnd::EchoTimeout),
                    Silence::Probe => return Due::Probe,
                    Silence::Fine(Some(at)) => no_later(at),
                    Silence::Fine(None) => {}
                }
                if upstream.load == 0 {
                    let abandoned = self.groups.get(&upstream.group).is_some_and(Group::is_abandoned);
                    let linger = if abandoned { 0 } else { config.linger_ms.max(1) };
                    let at = upstream.idle_since.after(linger);
                    if at <= now {
                        return Due::End(UpstreamEnd::Idle);
                    }
                    no_later(at);
                }
            }
        }
        match line.write_deadline(config.write_timeout_ms) {
            Some(slow) if slow <= now => return Due::End(UpstreamEnd::SlowReader),
            Some(slow) => no_later(slow),
            None => {}
        }
        Due::Later(next)
    }

    fn upstream_due(&mut self, id: UpstreamId, cx: &mut Cx<'_>) {
        let due = self.upstream_needs(id, cx.now);
        let Some(upstream) = self.upstreams.get_mut(&id) else { return };
        let group = upstream.group;
        match due {
            Due::Later(_) => {}
            Due::Probe => {
                upstream.line.probed = Some(cx.now);
                let identifier = self.random.next_u64() as u32;
                self.say_to_server(id, EchoRequest { reserved0: 0, identifier }.to_bytes(), cx.now);
            }
            Due::NotAnswered => self.start_failed(id, StartFailure::TimedOut, Farewell::Reset, cx),
            Due::FarewellOver => self.drop_upstream(id, Command::Reset { leg: Leg::Upstream(id) }),
            Due::End(UpstreamEnd::Idle) => {
                // One stays as long as there are clients: it proves to them that the server lives, and lets it call them.
                let kept = self.groups.get(&group).is_some_and(|of| !of.sessions.is_empty() && of.open.len() == 1);
                if kept {
                    upstream.idle_since = cx.now;
                } else {
                    self.end_upstream(id, UpstreamEnd::Idle, Farewell::Stop(StopReason::None), cx);
                }
            }
            Due::End(why) => self.end_upstream(id, why, Farewell::Reset, cx),
        }
    }

    fn call_needs(&self, index: u32) -> Option<(Now, CallEnd)> {
        let call = self.calls.get(index)?;
        let setup = call.created.after(self.limits.call_setup_timeout_ms);
        let idle = call.policy.idle_timeout_ms;
        if let Some(clearing) = call.clearing {
            let at = if clearing.sent { clearing.at.after(self.config.clear_timeout_ms) } else { setup };
            return Some((at, CallEnd::Cleared(Side::Client)));
        }
        match call.stage {
            Stage::Waiting | Stage::Requested | Stage::Accepted => Some((setup, CallEnd::SetupTimeout)),
            Stage::Up if idle > 0 => {
                let last = call.up.last_payload.max(call.down.last_payload);
                Some((last.after(idle), CallEnd::IdleTimeout))
            }
            Stage::Up => None,
        }
    }

    fn call_due(&mut self, index: u32, cx: &mut Cx<'_>) {
        let Some((_, why)) = self.call_needs(index).filter(|(at, _)| *at <= cx.now) else { return };
        let Some(call) = self.calls.get(index) else { return };
        let (stage, direction, clearing) = (call.stage, call.direction, call.clearing);
        let ends = (call.upstream, call.server_pac);
        match clearing {
            // The server says nothing: pptpd, or one that has forgotten the call.
            Some(clearing) if clearing.sent => {
                let refusal = (OutgoingResult::DoNotAccept, GeneralError::None);
                self.tell_client(index, Some(refusal), (DisconnectResult::Request, GeneralError::None), cx);
                self.remove_call(index, why, cx);
            }
            // No reply to what we have to end: say it now.
            Some(_) => self.clear_server_side(index, cx),
            None => {
                let refusal = (OutgoingResult::TimeOut, GeneralError::None);
                self.tell_client(index, Some(refusal), (DisconnectResult::AdminShutdown, GeneralError::None), cx);
                if stage == Stage::Requested && direction == CallDirection::Incoming {
                    // It has rung for long enough: nobody else is asked.
                    if let (Some(upstream), Some(pac)) = ends {
                        let refusal = incoming_refusal(pac, IncomingResult::DoNotAccept, GeneralError::None);
                        self.say_to_server(upstream, refusal, cx.now);
                    }
                    self.remove_call(index, why, cx);
                } else if stage == Stage::Waiting {
                    self.remove_call(index, why, cx);
                } else {
                    self.detach(index, Some(why), cx);
                    self.clear_server_side(index, cx);
                }
            }
        }
    }

    pub(super) fn arm_session(&mut self, id: SessionId) {
        self.arm_session_after(id, Now(0));
    }

    /// Sees to it that a session is looked at when it has to be, not before `now`.
    fn arm_session_after(&mut self, id: SessionId, now: Now) {
        let at = match self.session_needs(id, now) {
            Due::Later(at) => at,
            Due::Probe | Due::NotAnswered | Due::FarewellOver | Due::End(_) => Some(now),
        };
        if let (Some(at), Some(session)) = (at, self.sessions.get_mut(&id)) {
            self.timers.no_later(&mut session.line.armed, at, Owner::Session(id));
        }
    }

    pub(super) fn arm_upstream(&mut self, id: UpstreamId) {
        self.arm_upstream_after(id, Now(0));
    }

    fn arm_upstream_after(&mut self, id: UpstreamId, now: Now) {
        let at = match self.upstream_needs(id, now) {
            Due::Later(at) => at,
            Due::Probe | Due::NotAnswered | Due::FarewellOver | Due::End(_) => Some(now),
        };
        if let (Some(at), Some(upstream)) = (at, self.upstreams.get_mut(&id)) {
            self.timers.no_later(&mut upstream.line.armed, at, Owner::Upstream(id));
        }
    }

    pub(super) fn arm_call(&mut self, index: u32) {
        let Some((at, _)) = self.call_needs(index) else { return };
        if let Some(call) = self.calls.get_mut(index) {
            let owner = Owner::Call(index, call.serial);
            self.timers.no_later(&mut call.armed, at, owner);
        }
    }

    pub(super) fn arm_group(&mut self, id: GroupId) {
        if let Some(group) = self.groups.get_mut(&id)
            && let Some(at) = [group.not_before, group.full_until].into_iter().flatten().min()
        {
            self.timers.no_later(&mut group.armed, at, Owner::Group(id));
        }
    }
}

fn slow<W>(deadline: Option<Now>, now: Now, why: W) -> Due<W> {
    match deadline {
        Some(at) if at <= now => Due::End(why),
        at => Due::Later(at),
    }
}
