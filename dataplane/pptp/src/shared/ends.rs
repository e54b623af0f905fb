//! How calls, sessions and connections to servers end, and who is told.

use std::collections::BTreeSet;

use super::calls::{Clearing, Stage};
use super::event::{CallEnd, Event, SessionEnd, UpstreamEnd};
use super::group::{SessionState, UpstreamState};
use super::time::Owner;
use super::types::{Command, Gone, Leg, SessionId, UpstreamId};
use super::{Cx, Shared};
use crate::engine::CallDirection;
use crate::types::Side;
use crate::wire::control::ours::{disconnect_notify, stop_request};
pub(super) use crate::wire::control::ours::{incoming_refusal, outgoing_refusal};
use crate::wire::control::{
    CallClearRequest, DisconnectResult, GeneralError, IncomingResult, OutgoingResult, StopReason,
};

/// How a leg is taken leave of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Farewell {
    /// It is gone already.
    Nothing,
    /// What was to be said is said: close it.
    Close,
    /// Nothing can be said any more.
    Reset,
    /// Say Stop-Control-Connection-Request, and wait a little for it to be closed.
    Stop(StopReason),
}

impl From<Gone> for Farewell {
    /// What a leg that the other end has ended still needs.
    fn from(gone: Gone) -> Self {
        match gone {
            Gone::Finished => Self::Close,
            Gone::Reset => Self::Nothing,
        }
    }
}

impl Shared {
    /// Ends a client's session with its calls; the connections to servers stay.
    pub(super) fn end_session(&mut self, id: SessionId, why: SessionEnd, farewell: Farewell, cx: &mut Cx<'_>) {
        let Some(session) = self.sessions.get(&id) else { return };
        let leaving = matches!(session.state, SessionState::Leaving(_));
        if leaving && matches!(farewell, Farewell::Stop(_)) {
            return;
        }
        if !leaving {
            let (flow, group, service) = (session.flow, session.group, session.policy.service.clone());
            let calls: Vec<u32> = self.calls.of_session(id).collect();
            let count = calls.len() as u32;
            for call in calls {
                if matches!(farewell, Farewell::Stop(_)) {
                    let refusal = (OutgoingResult::DoNotAccept, GeneralError::None);
                    self.tell_client(call, Some(refusal), (DisconnectResult::AdminShutdown, GeneralError::None), cx);
                }
                self.drop_client_side(call, CallEnd::SessionEnded(why), cx);
            }
            self.leave_half_open(id);
            self.leave_group(id, cx);
            cx.engine.uncount_session(&service, flow.client);
            self.counters.sessions_closed += 1;
            self.note(Event::SessionClosed { session: id, flow, why, calls: count });
            if let Some(group) = group {
                self.dirty.insert(group);
            }
        }
        let leg = Leg::Client(id);
        match farewell {
            Farewell::Stop(reason) => {
                self.say_to_client(id, stop_request(reason), cx.now);
                let until = cx.now.after(self.config.farewell_ms);
                if let Some(session) = self.sessions.get_mut(&id) {
                    session.state = SessionState::Leaving(until);
                }
                self.arm_session(id);
            }
            Farewell::Close => self.drop_session(id, Some(Command::Close { leg })),
            Farewell::Reset => self.drop_session(id, Some(Command::Reset { leg })),
            Farewell::Nothing => self.drop_session(id, None),
        }
    }

    /// Takes a session whose end was told out of its table; `last`: what its leg still needs.
    pub(super) fn drop_session(&mut self, id: SessionId, last: Option<Command>) {
        self.commands.extend(last);
        if let Some(session) = self.sessions.remove(&id) {
            self.gone += 1;
            session.line.armed.into_iter().for_each(|armed| self.timers.clear(armed, Owner::Session(id)));
        }
    }

    fn leave_group(&mut self, id: SessionId, cx: &mut Cx<'_>) {
        let Some(group) = self.sessions.get_mut(&id).and_then(|session| session.group.take()) else { return };
        let Some(of) = self.groups.get_mut(&group) else { return };
        of.sessions.remove(&id);
        of.pending.remove(&id);
        if of.sessions.is_empty() {
            // The linger of what nobody uses begins now.
            let idle: Vec<UpstreamId> = of.open.iter().copied().collect();
            for upstream in idle {
                if let Some(upstream) = self.upstreams.get_mut(&upstream).filter(|upstream| upstream.load == 0) {
                    upstream.idle_since = cx.now;
                }
                self.arm_upstream(upstream);
            }
        }
    }

    /// Tells the client that this call is over: by Outgoing-Call-Reply where that is still owed, else by
    /// Call-Disconnect-Notify.
    pub(super) fn tell_client(
        &mut self,
        index: u32,
        refusal: Option<(OutgoingResult, GeneralError)>,
        disconnect: (DisconnectResult, GeneralError),
        cx: &mut Cx<'_>,
    ) {
        let Some(call) = self.calls.get(index) else { return };
        let Some(session) = call.session() else { return };
        let owed = call.direction == CallDirection::Outgoing && matches!(call.stage, Stage::Waiting | Stage::Requested);
        let message = match (owed, call.client_pns, call.client_pac) {
            (true, Some(pns), _) => refusal.map(|(result, error)| outgoing_refusal(pns, result, error)),
            (false, _, Some(pac)) => Some(disconnect_notify(pac, disconnect)),
            (true, None, _) | (false, _, None) => None,
        };
        if let Some(message) = message {
            self.say_to_client(session, message, cx.now);
        }
    }

    /// The client has nothing to do with this call any more. The server hears of it, in its own time; an incoming call that
    /// was not answered rings elsewhere.
    pub(super) fn drop_client_side(&mut self, index: u32, why: CallEnd, cx: &mut Cx<'_>) {
        let Some(call) = self.calls.get(index) else { return };
        match (call.stage, call.direction) {
            (Stage::Waiting, _) => self.remove_call(index, why, cx),
            (Stage::Requested, CallDirection::Incoming) => {
                self.next_offer(index, (IncomingResult::DoNotAccept, GeneralError::None), cx);
            }
            (Stage::Requested, CallDirection::Outgoing) => {
                self.detach(index, Some(why), cx);
                if let Some(call) = self.calls.get_mut(index) {
                    call.clearing.get_or_insert(Clearing { at: cx.now, sent: false });
                }
                self.arm_call(index);
            }
            (Stage::Accepted | Stage::Up, _) => {
                self.detach(index, Some(why), cx);
                self.clear_server_side(index, cx);
            }
        }
    }

    /// Sends Call-Clear-Request to the server, once.
    pub(super) fn clear_server_side(&mut self, index: u32, cx: &mut Cx<'_>) {
        self.release_pac(index, cx.engine);
        let Some(call) = self.calls.get_mut(index) else { return };
        if call.clearing.is_some_and(|clearing| clearing.sent) {
            return;
        }
        call.clearing = Some(Clearing { at: cx.now, sent: true });
        if let (Some(upstream), Some(call_id)) = (call.upstream, call.server_pns) {
            let request = CallClearRequest { reserved0: 0, call_id, reserved1: 0 };
            self.say_to_server(upstream, request.to_bytes(), cx.now);
        }
        self.arm_call(index);
    }

    /// The client's side of a call is over. `why`: people are told.
    pub(super) fn detach(&mut self, index: u32, why: Option<CallEnd>, cx: &mut Cx<'_>) {
        self.release_pac(index, cx.engine);
        let Some(call) = self.calls.get(index) else { return };
        let Some((session, client)) = call.client else { return };
        let alg = call.policy.alg.clone();
        let rest = cx.engine.call_id_rest_ms(call.policy.echo_timeout_ms);
        let names = call.names(self.sessions.get(&session).map(|session| session.flow));
        let (up, down) = (call.up.traffic.packets, call.down.traffic.packets);
        cx.engine.uncount_call(&alg, client);
        self.calls.detach(index, cx.now.after(rest));
        if let Some(why) = why {
            self.counters.calls_ended += 1;
            self.note(Event::CallDown { call: names, why, up_packets: up, down_packets: down });
        }
    }

    /// This call is over on both sides; its Call ID towards the server rests. Not that of a call the server has refused: it sends none
    /// of its GRE. Unless it has been told of its end as well: a late answer to that may name it.
    pub(super) fn remove_call(&mut self, index: u32, why: CallEnd, cx: &mut Cx<'_>) {
        self.detach(index, Some(why), cx);
        let Some(call) = self.calls.remove(index) else { return };
        if let Some(armed) = call.armed {
            self.timers.clear(armed, Owner::Call(index, call.serial));
        }
        let (pair, told) = ((call.external, call.server), call.clearing.is_some_and(|clearing| clearing.sent));
        let refused = matches!(why, CallEnd::NotAccepted { .. }) && call.stage == Stage::Requested && !told;
        match call.lent() {
            Some(lent) if refused => cx.engine.give_back_call_id(pair, lent),
            Some(lent) => {
                let change = cx.engine.rest_call_id(pair, lent, call.policy.echo_timeout_ms, cx.now);
                self.commands.push_back(Command::Persist(change));
            }
            None => {}
        }
        if let Some(id) = call.upstream {
            if let Some(upstream) = self.upstreams.get_mut(&id) {
                upstream.carried.0 += call.up.traffic;
                upstream.carried.1 += call.down.traffic;
            }
            self.load_less(id, cx.now);
        }
        if let Some(group) = self.groups.get_mut(&call.group) {
            group.waiting.remove(&(call.rank, call.serial, index));
        }
        self.dirty.insert(call.group);
    }

    /// Ends an established connection to a server: each client of it is told.
    pub(super) fn end_upstream(&mut self, id: UpstreamId, why: UpstreamEnd, farewell: Farewell, cx: &mut Cx<'_>) {
        let Some(upstream) = self.upstreams.get_mut(&id) else { return };
        let (group, channels, was) = (upstream.group, upstream.channels, upstream.state);
        let leg = Leg::Upstream(id);
        match farewell {
            Farewell::Stop(reason) => {
                upstream.state = UpstreamState::Stopping;
                upstream.since = cx.now;
                self.say_to_server(id, stop_request(reason), cx.now);
            }
            Farewell::Close => self.commands.push_back(Command::Close { leg }),
            Farewell::Reset => self.commands.push_back(Command::Reset { leg }),
            Farewell::Nothing => {}
        }
        if let Some(of) = self.groups.get_mut(&group) {
            of.open.remove(&id);
            of.free.remove(&id);
            of.crowded.remove(&id);
        }
        let mut lost: Vec<SessionId> = Vec::new();
        let calls: Vec<u32> = self.calls.of_upstream(id).collect();
        for call in calls {
            lost.extend(self.lose_call(call, why, cx));
        }
        if was == UpstreamState::Open {
            self.counters.upstreams_closed += 1;
            self.note(Event::UpstreamClosed { upstream: id, why, calls: lost.len() as u32 });
        }
        if !matches!(farewell, Farewell::Stop(_)) {
            self.forget_upstream(id);
        }
        self.tell_sessions(group, why, channels, &lost, cx);
        self.dirty.insert(group);
    }

    /// Takes a connection whose server was told to let go out of all tables; `last`: what its leg still needs.
    pub(super) fn drop_upstream(&mut self, id: UpstreamId, last: Command) {
        self.commands.push_back(last);
        self.dirty.extend(self.upstreams.get(&id).map(|upstream| upstream.group));
        self.forget_upstream(id);
    }

    /// Takes a connection to a server out of all tables.
    pub(super) fn forget_upstream(&mut self, id: UpstreamId) {
        let Some(upstream) = self.upstreams.remove(&id) else { return };
        if let Some(armed) = upstream.line.armed {
            self.timers.clear(armed, Owner::Upstream(id));
        }
        if let Some(of) = self.groups.get_mut(&upstream.group) {
            of.upstreams.remove(&id);
            of.open.remove(&id);
            of.free.remove(&id);
            of.crowded.remove(&id);
        }
    }

    /// A call whose connection to the server is gone; the session that lost it.
    fn lose_call(&mut self, index: u32, why: UpstreamEnd, cx: &mut Cx<'_>) -> Option<SessionId> {
        let call = self.calls.get(index)?;
        let session = call.session();
        let unanswered = call.stage == Stage::Requested && call.request.is_some() && call.clearing.is_none();
        if session.is_some() && unanswered && !call.retried && matches!(why, UpstreamEnd::Gone(_)) {
            self.ask_again(index, cx);
            return None;
        }
        if call.clearing.is_some() {
            // What the client has asked for.
            let refusal = (OutgoingResult::DoNotAccept, GeneralError::None);
            self.tell_client(index, Some(refusal), (DisconnectResult::Request, GeneralError::None), cx);
            self.remove_call(index, CallEnd::Cleared(Side::Client), cx);
            return None;
        }
        let refusal = (OutgoingResult::GeneralError, GeneralError::NotConnected);
        self.tell_client(index, Some(refusal), disconnect_codes(why), cx);
        self.remove_call(index, CallEnd::UpstreamEnded(why), cx);
        session
    }

    /// A server may close a connection just when a call is asked for on it: the request goes to another one, once.
    fn ask_again(&mut self, index: u32, cx: &mut Cx<'_>) {
        let Some(call) = self.calls.get(index) else { return };
        if let Some(lent) = call.lent() {
            let pair = (call.external, call.server);
            let change = cx.engine.rest_call_id(pair, lent, call.policy.echo_timeout_ms, cx.now);
            self.commands.push_back(Command::Persist(change));
        }
        let upstream = call.upstream;
        self.counters.calls_retried += 1;
        self.calls.change(index, |call| {
            call.upstream = None;
            (call.server_pns, call.lent_to) = (None, None);
            call.stage = Stage::Waiting;
            call.retried = true;
        });
        if let Some(upstream) = upstream {
            self.load_less(upstream, cx.now);
        }
        self.queue(index);
    }

    /// Sessions that have no call left after losing one are told that the server is gone; so are all others of the group,
    /// if that was its last connection and not one of many that carry a call each.
    fn tell_sessions(
        &mut self,
        group: super::group::GroupId,
        why: UpstreamEnd,
        channels: u16,
        lost: &[SessionId],
        cx: &mut Cx<'_>,
    ) {
        let Some(of) = self.groups.get(&group) else { return };
        let mut told: BTreeSet<SessionId> = lost.iter().copied().collect();
        let of_all = match why {
            UpstreamEnd::Stopped(_)
            | UpstreamEnd::EchoTimeout
            | UpstreamEnd::Malformed(_)
            | UpstreamEnd::SlowReader => channels > 1,
            UpstreamEnd::Shutdown => true,
            UpstreamEnd::Gone(_) => channels > 1 && !lost.is_empty(),
            UpstreamEnd::Idle => false,
        };
        if of_all && of.open.is_empty() {
            told.extend(of.sessions.difference(&of.pending));
        }
        let reason = match why {
            UpstreamEnd::Stopped(reason) => reason,
            UpstreamEnd::Shutdown => StopReason::StopLocalShutdown,
            UpstreamEnd::Gone(_)
            | UpstreamEnd::EchoTimeout
            | UpstreamEnd::Malformed(_)
            | UpstreamEnd::SlowReader
            | UpstreamEnd::Idle => StopReason::None,
        };
        for session in told {
            if self.calls.of_session(session).next().is_none() {
                self.end_session(session, SessionEnd::ServerGone(why), Farewell::Stop(reason), cx);
            }
        }
    }
}

/// What a client hears of a call whose connection to the server is gone.
fn disconnect_codes(why: UpstreamEnd) -> (DisconnectResult, GeneralError) {
    match why {
        UpstreamEnd::Stopped(_) | UpstreamEnd::Idle | UpstreamEnd::Shutdown => {
            (DisconnectResult::AdminShutdown, GeneralError::None)
        }
        UpstreamEnd::Gone(Gone::Finished) => (DisconnectResult::LostCarrier, GeneralError::None),
        UpstreamEnd::Gone(Gone::Reset) | UpstreamEnd::EchoTimeout | UpstreamEnd::SlowReader => {
            (DisconnectResult::GeneralError, GeneralError::NotConnected)
        }
        UpstreamEnd::Malformed(_) => (DisconnectResult::GeneralError, GeneralError::BadFormat),
    }
}
