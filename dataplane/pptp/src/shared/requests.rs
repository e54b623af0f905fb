//! What a client says about calls: asks for one, accepts one, ends one, describes its line.

use super::calls::{Call, Clearing, Stage};
use super::event::{CallEnd, Event, Refusal, StartFailure};
use super::types::SessionId;
use super::{Cx, Shared};
use crate::engine::CallDirection;
use crate::wire::control::{
    CallClearRequest, DisconnectResult, GeneralError, IncomingCallReply, IncomingResult, OutgoingCallRequest,
    OutgoingResult, SetLinkInfo,
};

impl Shared {
    /// Type 7.
    pub(super) fn outgoing_request(&mut self, id: SessionId, message: &[u8], cx: &mut Cx<'_>) {
        let Ok(request) = OutgoingCallRequest::parse(message) else { return };
        let Some(session) = self.sessions.get(&id) else { return };
        let (flow, external, policy) = (session.flow, session.external, session.policy.clone());
        let Some(group) = session.group else { return };
        let pns = request.call_id;
        if let Some(old) = self.calls.of_client_pns(id, flow.client, flow.server, pns) {
            let waits = self
                .calls
                .get(old)
                .is_some_and(|call| call.clearing.is_none() && matches!(call.stage, Stage::Waiting | Stage::Requested));
            if waits {
                self.counters.messages_ignored += 1;
                return;
            }
            // The client has started it anew.
            self.drop_client_side(old, CallEnd::Restarted, cx);
        }
        if let Some(why) = self.no_call_for(id, flow.client, &policy, cx) {
            self.refuse(id, pns, why, cx);
            return;
        }
        let rank = cx.engine.calls_of_client(&policy.alg, flow.client);
        let max = self.config.max_waiting;
        let of = self.groups.get(&group).filter(|of| of.waiting.len() >= max as usize);
        match of.map(|of| of.waiting.last()) {
            None => {}
            // Whose turn would come last makes room for a client with fewer calls.
            Some(Some(&(last, _, index))) if last > rank => {
                self.refuse_waiting(index, Refusal::TooManyWaiting(max), cx);
            }
            Some(_) => {
                self.refuse(id, pns, Refusal::TooManyWaiting(max), cx);
                return;
            }
        }
        let mut call = Call::new(group, (external, flow.server), policy, cx.now);
        call.request = Some(Box::new(request));
        call.rank = rank;
        let index = self.calls.insert(call);
        self.attach(index, id, flow.client, cx);
        self.calls.change(index, |call| call.client_pns = Some(pns));
        self.queue(index);
    }

    /// Puts a call into the queue of its group.
    pub(super) fn queue(&mut self, index: u32) {
        let Some(call) = self.calls.get(index) else { return };
        let place = (call.rank, call.serial, index);
        let group = call.group;
        if let Some(group) = self.groups.get_mut(&group) {
            group.waiting.insert(place);
        }
        self.dirty.insert(group);
        self.arm_call(index);
    }

    /// The client is told that there is no call for it, and why.
    pub(super) fn refuse(&mut self, id: SessionId, pns: u16, why: Refusal, cx: &mut Cx<'_>) {
        let Some(session) = self.sessions.get(&id) else { return };
        let flow = session.flow;
        let (result, error) = codes(why);
        self.counters.calls_refused += 1;
        self.note(Event::CallRefused { flow, pns_id: pns, why });
        self.say_to_client(id, super::ends::outgoing_refusal(pns, result, error), cx.now);
    }

    /// Type 10.
    pub(super) fn incoming_reply(&mut self, id: SessionId, message: &[u8], cx: &mut Cx<'_>) {
        let Ok(mut reply) = IncomingCallReply::parse(message) else { return };
        let Some(session) = self.sessions.get(&id) else { return };
        let flow = session.flow;
        let asked = self.calls.up(flow.client, flow.server, reply.peer_call_id).filter(|&index| {
            self.calls.get(index).is_some_and(|call| {
                call.session() == Some(id)
                    && call.direction == CallDirection::Incoming
                    && call.stage == Stage::Requested
            })
        });
        let Some(index) = asked else {
            self.counters.messages_ignored += 1;
            return;
        };
        if reply.result != IncomingResult::Connect {
            self.next_offer(index, (reply.result, reply.error), cx);
            return;
        }
        let pns = reply.call_id;
        if let Some(older) = self.calls.of_client_pns(id, flow.client, flow.server, pns) {
            self.drop_client_side(older, CallEnd::Restarted, cx);
        }
        let Some(call) = self.calls.get(index) else { return };
        let (external, server, upstream, pac) = (call.external, call.server, call.upstream, call.server_pac);
        let (Some(upstream), Some(pac)) = (upstream, pac) else { return };
        let ours = match cx.engine.lend_call_id((external, server), flow.client, cx.now) {
            Ok(id) => id,
            Err(why) => {
                self.tell_client(index, None, (DisconnectResult::GeneralError, GeneralError::NoResource), cx);
                let refusal =
                    super::ends::incoming_refusal(pac, IncomingResult::GeneralError, GeneralError::NoResource);
                self.say_to_server(upstream, refusal, cx.now);
                return self.remove_call(index, CallEnd::Refused(why.into()), cx);
            }
        };
        self.calls.change(index, |call| {
            call.client_pns = Some(pns);
            (call.server_pns, call.lent_to) = (Some(ours), Some(flow.client));
            call.stage = Stage::Accepted;
            call.offer = None;
        });
        self.hold_pac(index, cx.engine);
        (reply.call_id, reply.peer_call_id, reply.reserved0) = (ours, pac, 0);
        self.say_to_server(upstream, reply.to_bytes(), cx.now);
        self.arm_call(index);
    }

    /// Type 12: the call stays until its server has said its part, or is known not to say anything.
    pub(super) fn clear_request(&mut self, id: SessionId, message: &[u8], cx: &mut Cx<'_>) {
        let Ok(request) = CallClearRequest::parse(message) else { return };
        let Some(session) = self.sessions.get(&id) else { return };
        let flow = session.flow;
        let found = self.calls.of_client_pns(id, flow.client, flow.server, request.call_id);
        let call = found.and_then(|index| self.calls.get(index).map(|call| (index, call)));
        match call.map(|(index, call)| (index, call.stage, call.clearing)) {
            None | Some((_, _, Some(_))) => self.counters.messages_ignored += 1,
            Some((index, Stage::Waiting, None)) => {
                let answer = (OutgoingResult::DoNotAccept, GeneralError::None);
                self.tell_client(index, Some(answer), (DisconnectResult::Request, GeneralError::None), cx);
                self.remove_call(index, CallEnd::Cleared(crate::types::Side::Client), cx);
            }
            Some((index, Stage::Requested, None)) => {
                if let Some(call) = self.calls.get_mut(index) {
                    call.clearing = Some(Clearing { at: cx.now, sent: false });
                }
                self.arm_call(index);
            }
            Some((index, Stage::Accepted | Stage::Up, None)) => self.clear_server_side(index, cx),
        }
    }

    /// Type 15.
    pub(super) fn link_info(&mut self, id: SessionId, message: &[u8], cx: &mut Cx<'_>) {
        let Ok(mut info) = SetLinkInfo::parse(message) else { return };
        let Some(session) = self.sessions.get(&id) else { return };
        let flow = session.flow;
        let index = self.calls.up(flow.client, flow.server, info.peer_call_id);
        // A server that hears of a line it has no call on may end the connection, with the calls of all in it.
        let call = index
            .and_then(|index| self.calls.get(index))
            .filter(|call| call.session() == Some(id) && call.stage == Stage::Up && call.clearing.is_none());
        match call.map(|call| (call.upstream, call.server_pac)) {
            // It is news about a line, and the next one replaces it.
            Some((Some(upstream), Some(_))) if self.is_crowded(upstream) => self.counters.link_infos_dropped += 1,
            Some((Some(upstream), Some(pac))) => {
                (info.peer_call_id, info.reserved0) = (pac, 0);
                self.say_to_server(upstream, info.to_bytes(), cx.now);
            }
            Some((None, _) | (_, None)) | None => self.counters.messages_ignored += 1,
        }
    }
}

/// How a refusal is said in the protocol's words.
fn codes(why: Refusal) -> (OutgoingResult, GeneralError) {
    match why {
        Refusal::MaxCalls(_) => (OutgoingResult::DoNotAccept, GeneralError::NoResource),
        Refusal::Share(_)
        | Refusal::CallsOfConnection(_)
        | Refusal::CallsOfClient(_)
        | Refusal::CallIdsOfClient(_)
        | Refusal::NoCallId
        | Refusal::ServerFull
        | Refusal::TooManyWaiting(_) => (OutgoingResult::GeneralError, GeneralError::NoResource),
        Refusal::NoServer(StartFailure::Refused { result: 4, error }) => {
            (OutgoingResult::DoNotAccept, GeneralError::from(error))
        }
        Refusal::NoServer(_) => (OutgoingResult::GeneralError, GeneralError::NotConnected),
    }
}
