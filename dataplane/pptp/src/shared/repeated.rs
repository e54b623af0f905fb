//! A Call ID of the server that another client's live call has, in this mode or the other: the new call is refused.

use std::net::Ipv4Addr;

use super::calls::Stage;
use super::event::{CallEnd, Event};
use super::types::UpstreamId;
use super::{Cx, Shared};
use crate::engine::Engine;
use crate::wire::control::{GeneralError, IncomingResult, OutgoingResult};

impl Shared {
    /// The client that has a live call of either mode under this id of the server from the same address, if that is not `client`.
    pub(super) fn holder_of_pac(
        &self,
        id: UpstreamId,
        client: Option<Ipv4Addr>,
        pac: u16,
        cx: &Cx<'_>,
    ) -> Option<Ipv4Addr> {
        let key = &self.groups.get(&self.upstreams.get(&id)?.group)?.key;
        cx.engine.holder_of_pac((key.external, key.server), client, pac)
    }

    /// A call that a client and its server have agreed on holds its id against calls of other clients, in both modes.
    pub(super) fn hold_pac(&mut self, index: u32, engine: &mut Engine) {
        let Some(call) = self.calls.get_mut(index) else { return };
        let agreed = matches!(call.stage, Stage::Accepted | Stage::Up) && call.clearing.is_none();
        if let (true, false, Some((_, client)), Some(pac)) = (agreed, call.holds_pac, call.client, call.server_pac) {
            call.holds_pac = true;
            engine.hold_pac((call.external, call.server), client, pac);
        }
    }

    /// Its end has begun; the server may give the id to the next.
    pub(super) fn release_pac(&mut self, index: u32, engine: &mut Engine) {
        let Some(call) = self.calls.get_mut(index) else { return };
        if let (true, Some((_, client)), Some(pac)) = (call.holds_pac, call.client, call.server_pac) {
            call.holds_pac = false;
            engine.release_pac((call.external, call.server), client, pac);
        }
    }

    /// A call that its server has just accepted under an id that `holder` has: both sides are told that it is over.
    pub(super) fn refuse_repeated(&mut self, index: u32, (pac, holder): (u16, Ipv4Addr), cx: &mut Cx<'_>) {
        let Some(call) = self.calls.get(index) else { return };
        let (upstream, session, pns) = (call.upstream, call.session(), call.client_pns);
        if let (Some(session), Some(pns)) = (session, pns) {
            let refusal = super::ends::outgoing_refusal(pns, OutgoingResult::GeneralError, GeneralError::NoResource);
            self.say_to_client(session, refusal, cx.now);
        }
        self.detach(index, Some(CallEnd::PacIdTaken), cx);
        self.clear_server_side(index, cx);
        if let Some(upstream) = upstream {
            self.note_repeated(upstream, pac, holder);
        }
    }

    /// A call the server offers under an id that `holder` has: no client is asked.
    pub(super) fn refuse_repeated_offer(&mut self, id: UpstreamId, (pac, holder): (u16, Ipv4Addr), cx: &mut Cx<'_>) {
        let refusal = super::ends::incoming_refusal(pac, IncomingResult::GeneralError, GeneralError::BadCallId);
        self.say_to_server(id, refusal, cx.now);
        self.note_repeated(id, pac, holder);
    }

    fn note_repeated(&mut self, upstream: UpstreamId, pac_id: u16, holder: Ipv4Addr) {
        self.counters.calls_pac_id_taken += 1;
        let group = self.upstreams.get(&upstream).and_then(|of| self.groups.get(&of.group));
        if let Some((external, server)) = group.map(|of| (of.key.external, of.key.server)) {
            self.note(Event::PacIdTaken { upstream, external, server, pac_id, holder });
        }
    }
}
