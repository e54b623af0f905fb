//! What is done with each whole control message: which Call ID in it is translated, and what it means for calls.
//!
//! ```text
//!            from the client                          from the server
//!   1–6      pass                                     pass
//!   7  @12   PNS id, allocated            8  @14      PNS id back; @12 is the PAC id, noted
//!  10  @12   PNS id, allocated            9  @12      PAC id, noted
//!  12  @12   PNS id                      11  @12      PNS id back
//!  15  @12   PAC id, unchanged           13  @12      PAC id unchanged, or (accel-ppp) PNS id back
//!                                        14  @12      PNS id back
//! ```

use super::Engine;
use super::call::{CallData, PnsId};
use super::connection::other;
use super::event::{CallEnd, CallRefusal, Event};
use super::view::{CallDirection, CallState};
use crate::types::{Now, Side};
use crate::wire::control::{
    CallDisconnectNotify, ControlType, DisconnectResult, GeneralError, OutgoingCallReply, OutgoingResult, Sender,
    field12, field14, set_field12, set_field14, validate,
};

/// Offset of the result code in types 8 and 10.
const RESULT: usize = 16;
/// Result "connected" of types 8 and 10.
const CONNECTED: u8 = 1;

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
        let (strict, started, flow) = (connection.data.policy.strict, connection.data.started, connection.flow);
        let sender = match from {
            Side::Client => Sender::Pns,
            Side::Server => Sender::Pac,
        };
        let fate = match validate(&bytes, sender, strict || !started) {
            Ok(kind) if !started && (from == Side::Server || kind != ControlType::StartRequest) => {
                Fate::Malformed("not a Start-Control-Connection-Request")
            }
            Ok(kind) => {
                self.started(index);
                match from {
                    Side::Client => self.pns_says(kind, index, &mut bytes, now),
                    Side::Server => self.pac_says(kind, index, &mut bytes, now),
                }
            }
            Err(malformed) if strict || !started => Fate::Malformed(malformed.label()),
            Err(malformed) => {
                self.counters.messages_malformed += 1;
                self.note(Event::Malformed { flow, from, reason: malformed.label(), closed: false });
                Fate::Pass
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
            ControlType::CallClearRequest => {
                match self.call_of_client_id(index, field12(bytes)) {
                    Some(call) => {
                        if let Some(call) = self.calls.get_mut(call) {
                            call.data.clearing = Some(now);
                            set_field12(bytes, call.data.pns.map_or(0, |pns| pns.translated));
                        }
                        self.arm_call(call);
                    }
                    None => self.counters.messages_unknown_call += 1,
                }
                Fate::Pass
            }
            ControlType::StartRequest
            | ControlType::StartReply
            | ControlType::StopRequest
            | ControlType::StopReply
            | ControlType::EchoRequest
            | ControlType::EchoReply
            | ControlType::SetLinkInfo
            // Only without strict validation: a client that is a PAC is not translated.
            | ControlType::OutgoingCallReply
            | ControlType::IncomingCallRequest
            | ControlType::IncomingCallConnected
            | ControlType::CallDisconnectNotify
            | ControlType::WanErrorNotify => Fate::Pass,
        }
    }

    fn pac_says(&mut self, kind: ControlType, index: u32, bytes: &mut [u8], now: Now) -> Fate {
        match kind {
            ControlType::OutgoingCallReply => self.outgoing_reply(index, bytes, now),
            ControlType::IncomingCallRequest => {
                let pac = field12(bytes);
                if self.call_of_pac_id(index, pac, &[CallState::Requested]).is_none() {
                    let mut data = CallData::new(CallDirection::Incoming, now);
                    data.pac = Some(pac);
                    self.drop_older_with_pac(index, pac, None, now);
                    self.add_call(index, data);
                }
            }
            ControlType::IncomingCallConnected => match self.call_of_translated_id(index, field12(bytes)) {
                Some(call) => {
                    set_field12(bytes, self.client_id(call));
                    self.up(call);
                }
                None => self.counters.messages_unknown_call += 1,
            },
            ControlType::CallDisconnectNotify => self.disconnect_notify(index, bytes, now),
            ControlType::WanErrorNotify => match self.call_of_translated_id(index, field12(bytes)) {
                Some(call) => set_field12(bytes, self.client_id(call)),
                None => self.counters.messages_unknown_call += 1,
            },
            ControlType::StartRequest
            | ControlType::StartReply
            | ControlType::StopRequest
            | ControlType::StopReply
            | ControlType::EchoRequest
            | ControlType::EchoReply
            // Only without strict validation: a server that is a PNS is not translated.
            | ControlType::OutgoingCallRequest
            | ControlType::IncomingCallReply
            | ControlType::CallClearRequest
            | ControlType::SetLinkInfo => {}
        }
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
        match self.allocate_call_id(index, now) {
            Ok(translated) => {
                let mut data = CallData::new(CallDirection::Outgoing, now);
                data.pns = Some(PnsId { client: pns, translated });
                self.add_call(index, data);
                set_field12(bytes, translated);
                Fate::Pass
            }
            Err(why) => {
                self.refuse(index, pns, why);
                let result = match why {
                    CallRefusal::NoCallId => OutgoingResult::GeneralError,
                    CallRefusal::MaxCalls(_) => OutgoingResult::DoNotAccept,
                };
                let reply = OutgoingCallReply {
                    reserved0: 0,
                    call_id: 0,
                    peer_call_id: pns,
                    result,
                    error: GeneralError::NoResource,
                    cause: 0,
                    connect_speed: 0,
                    window: 0,
                    processing_delay: 0,
                    physical_channel: 0,
                };
                self.inject(Side::Client, index, reply.to_bytes(), now);
                Fate::Swallow
            }
        }
    }

    fn refuse(&mut self, index: u32, pns_id: u16, why: CallRefusal) {
        self.counters.calls_refused += 1;
        if let Some(connection) = self.connections.get(index) {
            let flow = connection.flow;
            self.note(Event::CallRefused { flow, pns_id, why });
        }
    }

    /// Type 8.
    fn outgoing_reply(&mut self, index: u32, bytes: &mut [u8], now: Now) {
        let Some(call) = self.call_of_translated_id(index, field14(bytes)) else {
            self.counters.messages_unknown_call += 1;
            return;
        };
        set_field14(bytes, self.client_id(call));
        let (result, error) = (bytes.get(RESULT).copied().unwrap_or(0), bytes.get(RESULT + 1).copied().unwrap_or(0));
        if result == CONNECTED {
            let pac = field12(bytes);
            self.drop_older_with_pac(index, pac, Some(call), now);
            if let Some(older) = self.calls.set_pac(call, pac)
                && let Some(older) = self.calls.get(older).and_then(|older| self.names(older))
            {
                self.counters.calls_pac_id_reused += 1;
                self.note(Event::PacIdCollision { older });
            }
            self.up(call);
        } else {
            self.end_call(call, CallEnd::NotAccepted { result, error }, now);
        }
    }

    /// Type 10.
    fn incoming_reply(&mut self, index: u32, bytes: &mut [u8], now: Now) -> Fate {
        let (pns, pac) = (field12(bytes), field14(bytes));
        let Some(call) = self.call_of_pac_id(index, pac, &[CallState::Requested, CallState::Accepted]) else {
            self.counters.messages_unknown_call += 1;
            return Fate::Pass;
        };
        let (result, error) = (bytes.get(RESULT).copied().unwrap_or(0), bytes.get(RESULT + 1).copied().unwrap_or(0));
        if result != CONNECTED {
            self.end_call(call, CallEnd::NotAccepted { result, error }, now);
            return Fate::Pass;
        }
        if let Some(ids) = self.calls.get(call).and_then(|call| call.data.pns) {
            set_field12(bytes, ids.translated);
            return Fate::Pass;
        }
        match self.allocate_call_id(index, now) {
            Ok(translated) => {
                self.calls.set_pns(call, PnsId { client: pns, translated });
                if let Some(call) = self.calls.get_mut(call) {
                    call.data.state = CallState::Accepted;
                }
                set_field12(bytes, translated);
            }
            Err(why) => {
                self.refuse(index, pns, why);
                // The server hears "general error, no resource"; the client that its call is over.
                set_field12(bytes, 0);
                if let Some(code) = bytes.get_mut(RESULT..RESULT + 2) {
                    code.copy_from_slice(&[2, 4]);
                }
                let notify = CallDisconnectNotify {
                    reserved0: 0,
                    call_id: pac,
                    result: DisconnectResult::GeneralError,
                    error: GeneralError::NoResource,
                    cause: 0,
                    reserved1: 0,
                    statistics: [0; 128],
                };
                self.inject(Side::Client, index, notify.to_bytes(), now);
                self.end_call(call, CallEnd::NotAccepted { result: 2, error: 4 }, now);
            }
        }
        Fate::Pass
    }

    /// Type 13: the PAC's own id by the book; accel-ppp sends the PNS's. Where both fit, the book wins.
    fn disconnect_notify(&mut self, index: u32, bytes: &mut [u8], now: Now) {
        let id = field12(bytes);
        let all = [CallState::Requested, CallState::Accepted, CallState::Up];
        if let Some(call) = self.call_of_pac_id(index, id, &all) {
            self.end_call(call, CallEnd::Cleared(Side::Server), now);
        } else if let Some(call) = self.call_of_translated_id(index, id) {
            set_field12(bytes, self.client_id(call));
            self.end_call(call, CallEnd::Cleared(Side::Server), now);
        } else {
            self.counters.messages_unknown_call += 1;
        }
    }

    /// A PAC id names one call of a connection: an older one with it is over, though nobody said so.
    fn drop_older_with_pac(&mut self, index: u32, pac: u16, keep: Option<u32>, now: Now) {
        let all = [CallState::Requested, CallState::Accepted, CallState::Up];
        if let Some(older) = self.call_of_pac_id(index, pac, &all).filter(|older| Some(*older) != keep) {
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
        self.counters.calls_up += 1;
        if let Some(names) = self.calls.get(index).and_then(|call| self.names(call)) {
            self.note(Event::CallUp { call: names });
        }
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
