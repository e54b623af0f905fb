//! A Call ID of the server that another client's live call has: the new call is refused.
//!
//! Behind one address the server tells packets of calls apart by nothing else: both calls would get each other's frames.
//! pptpd has 512 of these ids to begin with (128 apart) and does not look whether one is in use (measured).

use std::net::Ipv4Addr;

use super::Engine;
use super::call::Call;
use super::calls::Key;
use super::event::{CallEnd, Event};
use super::ids::one_less;
use crate::types::{Now, Side};
use crate::wire::bytes::put;
use crate::wire::control::ours::{clear_request, incoming_refusal, outgoing_refusal};
use crate::wire::control::{GeneralError, IncomingResult, OutgoingResult};

impl Engine {
    /// The client that has a call of either mode under this id of the server from this address, if that is not `client`: its
    /// own older call is most likely one that it has lost.
    pub(crate) fn holder_of_pac(
        &self,
        (external, server): (Ipv4Addr, Ipv4Addr),
        client: Option<Ipv4Addr>,
        pac: u16,
    ) -> Option<Ipv4Addr> {
        let calls = self.calls.with_pac(external, server, pac).filter_map(|call| self.calls.get(call));
        let mut holders = calls.filter(|call| self.is_known_to_server(call)).map(|call| call.client);
        let key = Key::new(external, server, pac);
        let lent = self.lent_pacs.range((key, Ipv4Addr::UNSPECIFIED)..=(key, Ipv4Addr::BROADCAST));
        let mut lent = lent.map(|((_, holder), _)| *holder);
        let is_another = |holder: &Ipv4Addr| Some(*holder) != client;
        holders.find(is_another).or_else(|| lent.find(is_another))
    }

    /// A call of the shared mode has this id of the server.
    pub(crate) fn hold_pac(&mut self, (external, server): (Ipv4Addr, Ipv4Addr), client: Ipv4Addr, pac: u16) {
        *self.lent_pacs.entry((Key::new(external, server, pac), client)).or_default() += 1;
    }

    /// It has it no more.
    pub(crate) fn release_pac(&mut self, (external, server): (Ipv4Addr, Ipv4Addr), client: Ipv4Addr, pac: u16) {
        one_less(&mut self.lent_pacs, &(Key::new(external, server, pac), client));
    }

    /// How many are held, for tests that look for leaks.
    #[doc(hidden)]
    pub fn held_pacs(&self) -> u32 {
        self.lent_pacs.values().sum()
    }

    /// Whether a call whose id the server has said is still one for it, as far as can be told.
    fn is_known_to_server(&self, call: &Call) -> bool {
        let Some(of) = self.connections.get(call.connection) else { return false };
        let closed = of.ended.is_some() || of.data.down.as_ref().is_none_or(|down| down.is_finished());
        if closed || call.data.clearing.is_some() {
            return false;
        }
        // pptpd, which takes one, drops it without a word when it is asked for the next: or a client could hold many ids that
        // mean nothing, and have others refused.
        let is_newer =
            |index| self.calls.get(index).is_some_and(|other| other.data.pac.is_some() && other.number > call.number);
        !of.data.one_call || !self.calls.of_connection(call.connection).any(is_newer)
    }

    /// The same for a new call on this connection.
    pub(super) fn has_another(&self, connection: u32, pac: u16) -> Option<Ipv4Addr> {
        let of = self.connections.get(connection)?;
        self.holder_of_pac((of.external, of.flow.server), Some(of.flow.client), pac)
    }

    /// Type 8 says an id that `holder` has: its client reads a refusal in its place, the server is asked to end the call.
    pub(super) fn refuse_repeated(&mut self, call: u32, (pac, holder): (u16, Ipv4Addr), bytes: &mut [u8], now: Now) {
        let Some((connection, Some(pns))) = self.calls.get(call).map(|call| (call.connection, call.data.pns)) else {
            return;
        };
        let length = bytes.len() as u16;
        put(bytes, 0, &outgoing_refusal(pns.client, OutgoingResult::GeneralError, GeneralError::NoResource));
        // Without strict validation it may be longer than its type.
        put(bytes, 0, &length.to_be_bytes());
        self.inject(Side::Server, connection, clear_request(pns.translated), now);
        self.end_call(call, CallEnd::PacIdTaken, now);
        self.note_repeated(connection, pac, holder);
    }

    /// Type 9 says one: the server is told that the call is not taken; no client hears of it.
    pub(super) fn refuse_repeated_offer(&mut self, connection: u32, (pac, holder): (u16, Ipv4Addr), now: Now) {
        let refusal = incoming_refusal(pac, IncomingResult::GeneralError, GeneralError::BadCallId);
        self.inject(Side::Server, connection, refusal, now);
        self.note_repeated(connection, pac, holder);
    }

    fn note_repeated(&mut self, connection: u32, pac_id: u16, holder: Ipv4Addr) {
        self.counters.calls_pac_id_taken += 1;
        if let Some(of) = self.connections.get(connection) {
            let (flow, external) = (of.flow, of.external);
            self.note(Event::PacIdTaken { flow, external, pac_id, holder });
        }
    }
}
