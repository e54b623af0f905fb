//! What a server says about calls: answers, offers, ends one, reports line errors.

use std::net::Ipv4Addr;

use super::calls::{Call, Stage};
use super::event::{CallEnd, Event, Refusal};
use super::types::{SessionId, UpstreamId};
use super::{Cx, Shared};
use crate::engine::CallDirection;
use crate::types::Side;
use crate::wire::control::{
    CallDisconnectNotify, DisconnectResult, GeneralError, IncomingCallConnected, IncomingCallRequest, IncomingResult,
    OutgoingCallReply, OutgoingResult, SetLinkInfo, WanErrorNotify,
};

impl Shared {
    /// The call this server knows by this PNS id on this connection: no server can speak about the calls of another.
    fn of_server_pns(&self, upstream: UpstreamId, id: u16) -> Option<u32> {
        let group = self.groups.get(&self.upstreams.get(&upstream)?.group)?;
        let index = self.calls.down(group.key.external, group.key.server, id)?;
        self.calls.get(index).filter(|call| call.upstream == Some(upstream)).map(|_| index)
    }

    /// Type 8.
    pub(super) fn outgoing_reply(&mut self, id: UpstreamId, message: &[u8], cx: &mut Cx<'_>) {
        let Ok(mut reply) = OutgoingCallReply::parse(message) else { return };
        let index = self.of_server_pns(id, reply.peer_call_id);
        let call = index.and_then(|index| self.calls.get(index).map(|call| (index, call)));
        let Some((index, call)) = call.filter(|(_, call)| call.stage == Stage::Requested) else {
            self.counters.messages_ignored += 1;
            return;
        };
        let (client, client_pns, server) = (call.client, call.client_pns, call.server);
        let clearing = call.clearing.is_some();
        if reply.result != OutgoingResult::Connected {
            if let (Some((session, _)), Some(pns)) = (client, client_pns) {
                (reply.call_id, reply.peer_call_id, reply.reserved0) = (0, pns, 0);
                self.say_to_client(session, reply.to_bytes(), cx.now);
            }
            let (result, error) = (reply.result.into(), reply.error.into());
            self.remove_call(index, CallEnd::NotAccepted { result, error }, cx);
            return;
        }
        let pac = reply.call_id;
        self.drop_older_with_pac(id, pac, index, cx);
        self.calls.change(index, |call| {
            call.server_pac = Some(pac);
            call.stage = Stage::Up;
            call.request = None;
            // The idle time begins now.
            (call.up.last_payload, call.down.last_payload) = (cx.now, cx.now);
        });
        if let Some(holder) = self.holder_of_pac(id, client.map(|(_, address)| address), pac, cx) {
            self.refuse_repeated(index, (pac, holder), cx);
            return;
        }
        let (Some((session, address)), Some(pns)) = (client, client_pns) else {
            // Its client has gone meanwhile.
            self.clear_server_side(index, cx);
            return;
        };
        let Some(known_as) = self.choose_pac(address, server, pac, cx) else {
            self.refuse(session, pns, Refusal::NoCallId, cx);
            self.detach(index, Some(CallEnd::Refused(Refusal::NoCallId)), cx);
            self.clear_server_side(index, cx);
            return;
        };
        self.counters.calls_pac_id_changed += u64::from(known_as != pac);
        self.calls.change(index, |call| call.client_pac = Some(known_as));
        (reply.call_id, reply.peer_call_id, reply.reserved0) = (known_as, pns, 0);
        self.say_to_client(session, reply.to_bytes(), cx.now);
        self.call_up(index, session);
        self.hold_pac(index, cx.engine);
        self.release_held(index, cx.now);
        if clearing {
            self.clear_server_side(index, cx);
        }
    }

    fn call_up(&mut self, index: u32, session: SessionId) {
        self.counters.calls_up += 1;
        let flow = self.sessions.get(&session).map(|session| session.flow);
        if let Some(names) = self.calls.get(index).map(|call| call.names(flow)) {
            self.note(Event::CallUp { call: names });
        }
        self.arm_call(index);
    }

    /// A PAC id names one call of a connection: an older one with it is over, though the server has not said so (pptpd).
    fn drop_older_with_pac(&mut self, id: UpstreamId, pac: u16, keep: u32, cx: &mut Cx<'_>) {
        if let Some(older) = self.calls.of_server_pac(id, pac).filter(|&older| older != keep) {
            self.tell_client(older, None, (DisconnectResult::LostCarrier, GeneralError::None), cx);
            self.remove_call(older, CallEnd::PacIdReused, cx);
        }
    }

    /// Type 9: the client with the fewest calls is asked, then the next one, until one accepts.
    pub(super) fn incoming_request(&mut self, id: UpstreamId, message: &[u8], cx: &mut Cx<'_>) {
        let Ok(request) = IncomingCallRequest::parse(message) else { return };
        let pac = request.call_id;
        let known = self.calls.of_server_pac(id, pac).and_then(|index| self.calls.get(index));
        if known.is_some_and(|call| call.direction == CallDirection::Incoming && call.stage == Stage::Requested) {
            self.counters.messages_ignored += 1;
            return;
        }
        if let Some(holder) = self.holder_of_pac(id, None, pac, cx) {
            self.refuse_repeated_offer(id, (pac, holder), cx);
            return;
        }
        let Some(upstream) = self.upstreams.get(&id) else { return };
        let (group, policy) = (upstream.group, upstream.policy.clone());
        let Some(of) = self.groups.get(&group) else { return };
        let mut call = Call::new(group, (of.key.external, of.key.server), policy, cx.now);
        call.direction = CallDirection::Incoming;
        call.stage = Stage::Requested;
        call.offer = Some(Box::new(request));
        let index = self.calls.insert(call);
        self.drop_older_with_pac(id, pac, index, cx);
        self.calls.change(index, |call| {
            call.upstream = Some(id);
            call.server_pac = Some(pac);
        });
        self.load_more(id);
        self.arm_call(index);
        self.next_offer(index, (IncomingResult::DoNotAccept, GeneralError::None), cx);
    }

    /// Asks the next client whether it takes this call; the server hears `answer` when nobody is left.
    pub(super) fn next_offer(&mut self, index: u32, answer: (IncomingResult, GeneralError), cx: &mut Cx<'_>) {
        self.detach(index, None, cx);
        let Some(call) = self.calls.get(index) else { return };
        let (upstream, pac, server) = (call.upstream, call.server_pac, call.server);
        let (Some(upstream), Some(pac), Some(mut offer)) = (upstream, pac, call.offer.clone()) else { return };
        let mut lacking = false;
        let next = loop {
            let (next, left_out) = self.next_asked(index, cx);
            lacking |= left_out;
            let Some((session, client)) = next else { break None };
            match self.choose_pac(client, server, pac, cx) {
                Some(known_as) => break Some((session, client, known_as)),
                None => {
                    self.pass_over(index, client);
                    lacking = true;
                }
            }
        };
        let Some((session, client, known_as)) = next else {
            let (result, error) = if lacking { (answer.0, GeneralError::NoResource) } else { answer };
            self.say_to_server(upstream, super::ends::incoming_refusal(pac, result, error), cx.now);
            self.remove_call(index, CallEnd::NotAccepted { result: result.into(), error: error.into() }, cx);
            return;
        };
        // By its rule it is listed, and by its rule's service and PptpAlg it lives.
        let policy = self.sessions.get(&session).map(|session| session.policy.clone());
        if let (Some(policy), Some(call)) = (policy, self.calls.get_mut(index)) {
            call.policy = policy;
        }
        self.attach(index, session, client, cx);
        self.calls.change(index, |call| {
            call.client_pac = Some(known_as);
            call.asked.insert(session);
        });
        (offer.call_id, offer.reserved0) = (known_as, 0);
        self.say_to_client(session, offer.to_bytes(), cx.now);
    }

    /// Who is asked next whether it takes this call: of those that have not been and may have a further one, who has the fewest. And
    /// whether there are some that may not.
    fn next_asked(&self, index: u32, cx: &Cx<'_>) -> (Option<(SessionId, Ipv4Addr)>, bool) {
        let Some(call) = self.calls.get(index) else { return (None, false) };
        let Some(of) = self.groups.get(&call.group) else { return (None, false) };
        let (mut left_out, mut next) = (false, None);
        for &id in of.sessions.difference(&of.pending).filter(|id| !call.asked.contains(id)) {
            let Some(session) = self.sessions.get(&id) else { continue };
            let client = session.flow.client;
            if self.no_call_for(id, client, &session.policy, cx).is_some() {
                left_out = true;
                continue;
            }
            let candidate = (self.calls.of_session(id).count(), id, client);
            next = Some(next.map_or(candidate, |next| candidate.min(next)));
        }
        (next.map(|(_, id, client)| (id, client)), left_out)
    }

    /// There is no PAC id for this client, over whichever of its sessions: none of them is asked.
    fn pass_over(&mut self, index: u32, client: Ipv4Addr) {
        let of = self.calls.get(index).and_then(|call| self.groups.get(&call.group));
        let is_its = |id: &&SessionId| self.sessions.get(id).is_some_and(|session| session.flow.client == client);
        let its: Vec<SessionId> = of.into_iter().flat_map(|of| &of.sessions).filter(is_its).copied().collect();
        if let Some(call) = self.calls.get_mut(index) {
            call.asked.extend(its);
        }
    }

    /// Type 11.
    pub(super) fn incoming_connected(&mut self, id: UpstreamId, message: &[u8], cx: &mut Cx<'_>) {
        let Ok(mut connected) = IncomingCallConnected::parse(message) else { return };
        let index = self.of_server_pns(id, connected.peer_call_id);
        let call = index.and_then(|index| self.calls.get(index).map(|call| (index, call)));
        let Some((index, call)) = call.filter(|(_, call)| call.stage == Stage::Accepted) else {
            self.counters.messages_ignored += 1;
            return;
        };
        let (client, pns) = (call.client, call.client_pns);
        self.calls.change(index, |call| {
            call.stage = Stage::Up;
            (call.up.last_payload, call.down.last_payload) = (cx.now, cx.now);
        });
        if let (Some((session, _)), Some(pns)) = (client, pns) {
            (connected.peer_call_id, connected.reserved0) = (pns, 0);
            self.say_to_client(session, connected.to_bytes(), cx.now);
            self.call_up(index, session);
            self.release_held(index, cx.now);
        }
    }

    /// Type 13: the PAC's own id by the book; accel-ppp sends the PNS's. Where both fit, the book wins.
    pub(super) fn disconnect_notify(&mut self, id: UpstreamId, message: &[u8], cx: &mut Cx<'_>) {
        let Ok(mut notify) = CallDisconnectNotify::parse(message) else { return };
        let found = self.calls.of_server_pac(id, notify.call_id).or_else(|| self.of_server_pns(id, notify.call_id));
        let Some((index, call)) = found.and_then(|index| self.calls.get(index).map(|call| (index, call))) else {
            self.counters.messages_ignored += 1;
            return;
        };
        let by = if call.clearing.is_some() { Side::Client } else { Side::Server };
        match (call.session(), call.client_pac) {
            (Some(session), Some(pac)) => {
                (notify.call_id, notify.reserved0) = (pac, 0);
                self.say_to_client(session, notify.to_bytes(), cx.now);
            }
            // A call that was asked for is ended before it was answered.
            (Some(_), None) => {
                let refusal = (OutgoingResult::GeneralError, notify.error);
                self.tell_client(index, Some(refusal), (notify.result, notify.error), cx);
            }
            (None, _) => {}
        }
        self.remove_call(index, CallEnd::Cleared(by), cx);
    }

    /// Type 14.
    pub(super) fn wan_error(&mut self, id: UpstreamId, message: &[u8], cx: &mut Cx<'_>) {
        let Ok(mut notify) = WanErrorNotify::parse(message) else { return };
        if let Some((session, pns)) = self.client_of(id, notify.peer_call_id) {
            (notify.peer_call_id, notify.reserved0) = (pns, 0);
            self.say_to_client(session, notify.to_bytes(), cx.now);
        }
    }

    /// Type 15, which only the PNS sends by the book; PACs that do, name the PNS's id.
    pub(super) fn link_info_of_server(&mut self, id: UpstreamId, message: &[u8], cx: &mut Cx<'_>) {
        let Ok(mut info) = SetLinkInfo::parse(message) else { return };
        if let Some((session, pns)) = self.client_of(id, info.peer_call_id) {
            (info.peer_call_id, info.reserved0) = (pns, 0);
            self.say_to_client(session, info.to_bytes(), cx.now);
        }
    }

    fn client_of(&mut self, id: UpstreamId, pns: u16) -> Option<(SessionId, u16)> {
        let call = self.of_server_pns(id, pns).and_then(|index| self.calls.get(index));
        let found = call.and_then(|call| Some((call.session()?, call.client_pns?)));
        self.counters.messages_ignored += u64::from(found.is_none());
        found
    }
}
