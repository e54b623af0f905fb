//! What is done with each whole control message: which Call ID in it is translated, and what it means for calls.
//!
//! ```text
//!            from the client                          from the server
//!   1–6      pass; 3 ends all calls                   pass; 3 ends all calls
//!   7  @12   PNS id, allocated            8  @14      PNS id back; @12 is the PAC id, noted
//!  10  @12   PNS id, allocated            9  @12      PAC id, noted
//!  12  @12   PNS id                      11  @12      PNS id back
//!  15  @12   PAC id, unchanged           13  @12      PAC id unchanged, or (accel-ppp) PNS id back
//!                                        14  @12      PNS id back
//!                                        15  @12      PNS id back
//! ```
//!
//! A message about a call that is not there is taken out of the stream: with an untranslated id it could hit another
//! call of the connection, or make the server send GRE that belongs to somebody else.

use super::Engine;
use super::call::{CallData, PnsId};
use super::connection::other;
use super::event::{CallEnd, CallRefusal, Event};
use super::view::{CallDirection, CallState};
use crate::types::{Now, Side};
use crate::wire::bytes::{put, u8_at, u16_at};
use crate::wire::control::ours::{disconnect_notify, incoming_refusal, outgoing_refusal};
use crate::wire::control::{
    ControlType, DisconnectResult, GeneralError, IncomingResult, Malformed, OutgoingResult, Sender, field12, field14,
    set_field12, set_field14, validate,
};

/// Offset of the control message type.
const CONTROL_TYPE: usize = 8;
/// Offset of the result code in types 8 and 10.
const RESULT: usize = 16;
/// Offset of Max Channels in type 2.
const MAX_CHANNELS: usize = 24;
/// Result "connected" of types 8 and 10.
const CONNECTED: u8 = 1;
/// Any state.
const ALL: [CallState; 3] = [CallState::Requested, CallState::Accepted, CallState::Up];

/// What becomes of a message.
enum Fate {
    Pass,
    Swallow,
    Malformed(&'static str),
}

impl Engine {
    /// Handles one whole message just taken from the stream. Whether it (or another in its place) was sent on.
    pub(super) fn message(&mut self, from: Side, index: u32, mut bytes: Vec<u8>, now: Now) -> bool {
        let Some(connection) = self.connections.get(index) else { return false };
        let (strict, started, flow) = (connection.policy.strict, connection.data.started, connection.flow);
        let leaving = connection.data.leaving.is_some();
        let sender = match from {
            Side::Client => Sender::Pns,
            Side::Server => Sender::Pac,
        };
        let checked = match validate(&bytes, sender, strict || !started) {
            // The book has only the PNS send it, but there are PACs that do.
            Err(Malformed::Direction { control_type: kind @ ControlType::SetLinkInfo }) => Ok(kind),
            checked => checked,
        };
        let fate = match checked {
            Ok(kind) if !started && (from == Side::Server || kind != ControlType::StartRequest) => {
                Fate::Malformed("not a Start-Control-Connection-Request")
            }
            // The answers to what we have asked for, and new calls that would only be cut off.
            Ok(ControlType::StopReply | ControlType::OutgoingCallRequest | ControlType::IncomingCallRequest)
                if leaving =>
            {
                Fate::Swallow
            }
            Ok(kind) => {
                self.started(index);
                // Whoever goes by the length of the type and not by that in the message must not find another one there.
                bytes.get_mut(kind.length()..).unwrap_or_default().fill(0);
                match from {
                    Side::Client => self.pns_says(kind, index, &mut bytes, now),
                    Side::Server => self.pac_says(kind, index, &mut bytes, now),
                }
            }
            Err(malformed) if strict || !started => Fate::Malformed(malformed.label()),
            Err(malformed) => {
                self.counters.messages_malformed += 1;
                self.note(Event::Malformed { flow, from, reason: malformed.label(), closed: false });
                // Its Call ID is not translated: on the other side it may be another client's.
                if ControlType::is_about_call(u16_at(&bytes, CONTROL_TYPE)) { Fate::Swallow } else { Fate::Pass }
            }
        };
        let Some(connection) = self.connections.get_mut(index) else { return false };
        match fate {
            Fate::Pass => {
                let Some(stream) = connection.stream(from) else { return false };
                let segment = stream.emit(bytes, now);
                match from {
                    Side::Client => self.counters.messages_up += 1,
                    Side::Server => self.counters.messages_down += 1,
                }
                self.out(other(from), index, &segment);
                if from == Side::Server {
                    self.release_held(index, now);
                }
                true
            }
            Fate::Swallow => {
                if let Some(stream) = connection.stream(from) {
                    stream.swallow(bytes.len(), now);
                }
                self.counters.messages_swallowed += 1;
                self.acknowledge(from, index);
                false
            }
            Fate::Malformed(reason) => {
                self.malformed(from, index, reason, now);
                false
            }
        }
    }

    fn started(&mut self, index: u32) {
        if let Some(connection) = self.connections.get_mut(index)
            && !connection.data.started
        {
            connection.data.started = true;
            connection.data.state = super::view::ConnectionState::Established;
            self.leave_half_open(index);
        }
    }

    fn pns_says(&mut self, kind: ControlType, index: u32, bytes: &mut [u8], now: Now) -> Fate {
        match kind {
            ControlType::OutgoingCallRequest => self.outgoing_request(index, bytes, now),
            ControlType::IncomingCallReply => self.incoming_reply(index, bytes, now),
            ControlType::CallClearRequest => self.clear_request(index, bytes, now),
            ControlType::StopRequest => self.stop(Side::Client, index, now),
            ControlType::SetLinkInfo => {
                // The PAC's id is the same on both sides.
                if self.call_of_pac_id(index, field12(bytes), &ALL).is_none() {
                    self.counters.messages_unknown_call += 1;
                }
                Fate::Pass
            }
            ControlType::StartRequest
            | ControlType::StartReply
            | ControlType::StopReply
            | ControlType::EchoRequest
            | ControlType::EchoReply => Fate::Pass,
            // No client's to say: `validate` has refused them.
            ControlType::OutgoingCallReply
            | ControlType::IncomingCallRequest
            | ControlType::IncomingCallConnected
            | ControlType::CallDisconnectNotify
            | ControlType::WanErrorNotify => Fate::Swallow,
        }
    }

    fn pac_says(&mut self, kind: ControlType, index: u32, bytes: &mut [u8], now: Now) -> Fate {
        match kind {
            ControlType::OutgoingCallReply => self.outgoing_reply(index, bytes, now),
            ControlType::IncomingCallRequest => self.incoming_request(index, bytes, now),
            ControlType::IncomingCallConnected => match self.translate_back(index, bytes) {
                Some(call) => {
                    // An outgoing call is up with its reply, which says the PAC's id.
                    if self.calls.get(call).is_some_and(|call| call.data.pac.is_some()) {
                        self.up(call);
                    }
                    Fate::Pass
                }
                None => self.about_no_call(),
            },
            ControlType::CallDisconnectNotify => self.disconnect_notify(index, bytes, now),
            ControlType::WanErrorNotify | ControlType::SetLinkInfo => match self.translate_back(index, bytes) {
                Some(_) => Fate::Pass,
                None => self.about_no_call(),
            },
            ControlType::StopRequest => self.stop(Side::Server, index, now),
            ControlType::StartReply => {
                if let Some(connection) = self.connections.get_mut(index) {
                    connection.data.one_call = u16_at(bytes, MAX_CHANNELS) == 1;
                }
                Fate::Pass
            }
            ControlType::StartRequest | ControlType::StopReply | ControlType::EchoRequest | ControlType::EchoReply => {
                Fate::Pass
            }
            // No server's to say: `validate` has refused them.
            ControlType::OutgoingCallRequest | ControlType::IncomingCallReply | ControlType::CallClearRequest => {
                Fate::Swallow
            }
        }
    }

    fn about_no_call(&mut self) -> Fate {
        self.counters.messages_unknown_call += 1;
        Fate::Swallow
    }

    /// Writes the client's own id over the translated one at offset 12; the call it names.
    fn translate_back(&self, index: u32, bytes: &mut [u8]) -> Option<u32> {
        let call = self.call_of_translated_id(index, field12(bytes))?;
        set_field12(bytes, self.client_id(call));
        Some(call)
    }

    /// Type 3: whoever sends it has done with all calls.
    fn stop(&mut self, by: Side, index: u32, now: Now) -> Fate {
        let calls: Vec<u32> = self.calls.of_connection(index).collect();
        for call in calls {
            self.end_call(call, CallEnd::Stopped(by), now);
        }
        Fate::Pass
    }

    /// Type 12. The call stays a while: its PAC may still have to say its part (type 13).
    fn clear_request(&mut self, index: u32, bytes: &mut [u8], now: Now) -> Fate {
        let Some(call) = self.call_of_client_id(index, field12(bytes)) else { return self.about_no_call() };
        if let Some(call) = self.calls.get_mut(call) {
            call.data.clearing.get_or_insert(now);
            set_field12(bytes, call.data.pns.map_or(0, |pns| pns.translated));
        }
        self.changed(call);
        self.arm_call(call);
        Fate::Pass
    }

    /// Type 7.
    fn outgoing_request(&mut self, index: u32, bytes: &mut [u8], now: Now) -> Fate {
        let pns = field12(bytes);
        if let Some(call) = self.call_of_client_id(index, pns) {
            let live = self.calls.get(call).map(|call| (call.data.state, call.data.pns, call.data.clearing));
            if let Some((CallState::Requested, Some(ids), None)) = live {
                set_field12(bytes, ids.translated);
                return Fate::Pass;
            }
            self.end_call(call, CallEnd::Restarted, now);
        }
        let why = match self.calls_are_full(index).map_or_else(|| self.allocate_call_id(index, now), Err) {
            Ok(translated) => {
                let mut data = CallData::new(CallDirection::Outgoing, now);
                data.pns = Some(PnsId { client: pns, translated });
                self.add_call(index, data);
                set_field12(bytes, translated);
                return Fate::Pass;
            }
            Err(why) => why,
        };
        self.refuse(index, pns, why);
        let result = match why {
            CallRefusal::NoCallId
            | CallRefusal::CallIdsOfClient(_)
            | CallRefusal::CallsOfConnection(_)
            | CallRefusal::Share(_) => OutgoingResult::GeneralError,
            CallRefusal::MaxCalls(_) => OutgoingResult::DoNotAccept,
        };
        self.inject(Side::Client, index, outgoing_refusal(pns, result, GeneralError::NoResource), now);
        Fate::Swallow
    }

    fn refuse(&mut self, index: u32, pns_id: u16, why: CallRefusal) {
        self.counters.calls_refused += 1;
        if let Some(connection) = self.connections.get(index) {
            let flow = connection.flow;
            self.note(Event::CallRefused { flow, pns_id, why });
        }
    }

    /// Type 8.
    fn outgoing_reply(&mut self, index: u32, bytes: &mut [u8], now: Now) -> Fate {
        let Some(call) = self.call_of_translated_id(index, field14(bytes)) else { return self.about_no_call() };
        set_field14(bytes, self.client_id(call));
        if self.calls.get(call).is_none_or(|call| call.data.state != CallState::Requested) {
            // Said before: the call has its PAC id, and clients keep to the first one (pptp-linux).
            return Fate::Pass;
        }
        let (result, error) = outcome(bytes);
        if result != CONNECTED {
            self.end_call(call, CallEnd::NotAccepted { result, error }, now);
            return Fate::Pass;
        }
        let pac = field12(bytes);
        if let Some(holder) = self.has_another(index, pac) {
            self.refuse_repeated(call, (pac, holder), bytes, now);
            return Fate::Pass;
        }
        self.drop_older_with_pac(index, pac, Some(call), now);
        if let Some(older) = self.calls.set_pac(call, pac)
            && let Some(older) = self.calls.get(older).and_then(|older| self.names(older))
        {
            self.counters.calls_pac_id_reused += 1;
            self.note(Event::PacIdCollision { older });
        }
        self.up(call);
        Fate::Pass
    }

    /// Type 9.
    fn incoming_request(&mut self, index: u32, bytes: &[u8], now: Now) -> Fate {
        let pac = field12(bytes);
        if self.call_of_pac_id(index, pac, &[CallState::Requested]).is_some() {
            return Fate::Pass;
        }
        if let Some(holder) = self.has_another(index, pac) {
            self.refuse_repeated_offer(index, (pac, holder), now);
            return Fate::Swallow;
        }
        self.drop_older_with_pac(index, pac, None, now);
        if let Some(why) = self.calls_are_full(index) {
            self.refuse(index, 0, why);
            self.inject(
                Side::Server,
                index,
                incoming_refusal(pac, IncomingResult::DoNotAccept, GeneralError::NoResource),
                now,
            );
            return Fate::Swallow;
        }
        let mut data = CallData::new(CallDirection::Incoming, now);
        data.pac = Some(pac);
        self.add_call(index, data);
        Fate::Pass
    }

    /// Type 10.
    fn incoming_reply(&mut self, index: u32, bytes: &mut [u8], now: Now) -> Fate {
        let (pns, pac) = (field12(bytes), field14(bytes));
        let Some(call) = self.call_of_pac_id(index, pac, &[CallState::Requested, CallState::Accepted]) else {
            return self.about_no_call();
        };
        let (result, error) = outcome(bytes);
        if result != CONNECTED {
            self.end_call(call, CallEnd::NotAccepted { result, error }, now);
            return Fate::Pass;
        }
        if let Some(ids) = self.calls.get(call).and_then(|call| call.data.pns) {
            set_field12(bytes, ids.translated);
            return Fate::Pass;
        }
        // A client that gives its id a second time has done with the first call.
        if let Some(older) = self.call_of_client_id(index, pns) {
            self.end_call(older, CallEnd::Restarted, now);
        }
        match self.allocate_call_id(index, now) {
            Ok(translated) => {
                self.calls.set_pns(call, PnsId { client: pns, translated });
                if let Some(call) = self.calls.get_mut(call) {
                    call.data.state = CallState::Accepted;
                }
                self.changed(call);
                set_field12(bytes, translated);
            }
            Err(why) => {
                self.refuse(index, pns, why);
                // The server hears "general error, no resource"; the client that its call is over.
                let length = bytes.len() as u16;
                put(bytes, 0, &incoming_refusal(pac, IncomingResult::GeneralError, GeneralError::NoResource));
                // Without strict validation it may be longer than its type.
                put(bytes, 0, &length.to_be_bytes());
                let notify = disconnect_notify(pac, (DisconnectResult::GeneralError, GeneralError::NoResource));
                self.inject(Side::Client, index, notify, now);
                self.end_call(call, CallEnd::NotAccepted { result: 2, error: 4 }, now);
            }
        }
        Fate::Pass
    }

    /// Type 13: the PAC's own id by the book; accel-ppp sends the PNS's. Where both fit, the book wins.
    fn disconnect_notify(&mut self, index: u32, bytes: &mut [u8], now: Now) -> Fate {
        let by_book = self.call_of_pac_id(index, field12(bytes), &ALL);
        let Some(call) = by_book.or_else(|| self.translate_back(index, bytes)) else { return self.about_no_call() };
        let asked = self.calls.get(call).is_some_and(|call| call.data.clearing.is_some());
        self.end_call(call, CallEnd::Cleared(if asked { Side::Client } else { Side::Server }), now);
        Fate::Pass
    }

    /// A PAC id names one call of a connection: an older one with it is over, though nobody said so.
    fn drop_older_with_pac(&mut self, index: u32, pac: u16, keep: Option<u32>, now: Now) {
        if let Some(older) = self.call_of_pac_id(index, pac, &ALL).filter(|older| Some(*older) != keep) {
            self.counters.calls_pac_id_reused += 1;
            self.end_call(older, CallEnd::PacIdReused, now);
        }
    }

    fn up(&mut self, index: u32) {
        let Some(call) = self.calls.get_mut(index) else { return };
        let first = call.data.state != CallState::Up;
        call.data.state = CallState::Up;
        if !first {
            return;
        }
        self.changed(index);
        self.counters.calls_up += 1;
        if let Some(names) = self.calls.get(index).and_then(|call| self.names(call)) {
            self.note(Event::CallUp { call: names });
        }
        self.open_path(index);
        self.arm_call(index);
    }

    fn client_id(&self, call: u32) -> u16 {
        self.calls.get(call).and_then(|call| call.data.pns).map_or(0, |pns| pns.client)
    }

    fn call_of_client_id(&self, connection: u32, pns: u16) -> Option<u32> {
        let flow = self.connections.get(connection)?.flow;
        self.calls
            .with_pns(flow.client, flow.server, pns)
            .find(|&call| self.calls.get(call).is_some_and(|call| call.connection == connection))
    }

    fn call_of_translated_id(&self, connection: u32, translated: u16) -> Option<u32> {
        let of = self.connections.get(connection)?;
        let call = self.calls.down(of.external, of.flow.server, translated)?;
        // A server cannot speak about the calls of another connection.
        self.calls.get(call).filter(|found| found.connection == connection).map(|_| call)
    }

    fn call_of_pac_id(&self, connection: u32, pac: u16, states: &[CallState]) -> Option<u32> {
        let of = self.connections.get(connection)?;
        self.calls.with_pac(of.external, of.flow.server, pac).find(|&call| {
            self.calls.get(call).is_some_and(|call| call.connection == connection && states.contains(&call.data.state))
        })
    }
}

/// Result and error code of types 8 and 10.
fn outcome(bytes: &[u8]) -> (u8, u8) {
    (u8_at(bytes, RESULT), u8_at(bytes, RESULT + 1))
}
