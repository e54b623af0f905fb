//! The server's leg: what a server says, message by message.

use super::client::echo_reply;
use super::ends::Farewell;
use super::event::{Event, StartFailure, UpstreamEnd};
use super::group::UpstreamState;
use super::types::{Command, Gone, Leg, UpstreamId};
use super::{Cx, Shared};
use crate::engine::Engine;
use crate::types::Now;
use crate::wire::control::{
    ControlType, EchoRequest, GeneralError, OutgoingCallRequest, OutgoingResult, Sender, StopReply, StopRequest,
    StopResult, validate,
};

impl Shared {
    /// Octets of a server, however TCP has cut them.
    pub fn upstream_bytes(&mut self, id: UpstreamId, bytes: &[u8], engine: &mut Engine, now: Now) {
        let cx = &mut Cx { engine, now };
        let Some(upstream) = self.upstreams.get_mut(&id) else { return };
        upstream.line.push(bytes);
        while let Some(upstream) = self.upstreams.get_mut(&id) {
            let strict = upstream.policy.strict || upstream.state == UpstreamState::Starting;
            match upstream.line.next(strict) {
                Ok(Some(message)) => {
                    upstream.line.hear(now);
                    self.server_says(id, &message, strict, cx);
                    // After each, so that what follows does not depend on how TCP has cut them.
                    self.settle(cx);
                }
                Ok(None) => break,
                Err(malformed) => {
                    self.server_malformed(id, malformed.label(), cx);
                    break;
                }
            }
        }
        self.arm_upstream(id);
        self.settle(cx);
    }

    /// A server has closed or reset its connection.
    pub fn upstream_closed(&mut self, id: UpstreamId, gone: Gone, engine: &mut Engine, now: Now) {
        let cx = &mut Cx { engine, now };
        match self.upstreams.get(&id).map(|upstream| upstream.state) {
            None => {}
            Some(UpstreamState::Connecting | UpstreamState::Starting) => {
                self.start_failed(id, StartFailure::Ended(gone), gone.into(), cx);
            }
            Some(UpstreamState::Open | UpstreamState::Stopping) => {
                self.end_upstream(id, UpstreamEnd::Gone(gone), gone.into(), cx);
            }
        }
        self.settle(cx);
    }

    fn server_malformed(&mut self, id: UpstreamId, reason: &'static str, cx: &mut Cx<'_>) {
        self.counters.messages_malformed += 1;
        self.note(Event::Malformed { leg: Leg::Upstream(id), reason, closed: true });
        match self.upstreams.get(&id).map(|upstream| upstream.state) {
            None => {}
            Some(UpstreamState::Connecting | UpstreamState::Starting) => {
                self.start_failed(id, StartFailure::Malformed, Farewell::Reset, cx);
            }
            Some(UpstreamState::Open | UpstreamState::Stopping) => {
                self.end_upstream(id, UpstreamEnd::Malformed(reason), Farewell::Reset, cx);
            }
        }
    }

    fn server_says(&mut self, id: UpstreamId, message: &[u8], strict: bool, cx: &mut Cx<'_>) {
        self.counters.messages_from_servers += 1;
        // Its framing is right: what only the other role may say costs nobody a call.
        let kind = match validate(message, Sender::Either, strict) {
            Ok(kind) => kind,
            Err(malformed) if strict => return self.server_malformed(id, malformed.label(), cx),
            Err(malformed) => {
                self.counters.messages_malformed += 1;
                let reason = malformed.label();
                return self.note(Event::Malformed { leg: Leg::Upstream(id), reason, closed: false });
            }
        };
        match self.upstreams.get(&id).map(|upstream| upstream.state) {
            None | Some(UpstreamState::Connecting) => {}
            Some(UpstreamState::Starting) => match kind {
                ControlType::StartReply => self.start_reply(id, message, cx),
                ControlType::StopRequest => {
                    self.start_failed(id, StartFailure::Ended(Gone::Finished), Farewell::Close, cx);
                }
                ControlType::StartRequest
                | ControlType::StopReply
                | ControlType::EchoRequest
                | ControlType::EchoReply
                | ControlType::OutgoingCallRequest
                | ControlType::OutgoingCallReply
                | ControlType::IncomingCallRequest
                | ControlType::IncomingCallReply
                | ControlType::IncomingCallConnected
                | ControlType::CallClearRequest
                | ControlType::CallDisconnectNotify
                | ControlType::WanErrorNotify
                | ControlType::SetLinkInfo => self.server_malformed(id, "not a Start-Control-Connection-Reply", cx),
            },
            Some(UpstreamState::Open) => self.server_message(id, kind, message, cx),
            Some(UpstreamState::Stopping) => {
                if matches!(kind, ControlType::StopReply | ControlType::StopRequest) {
                    self.drop_upstream(id, Command::Close { leg: Leg::Upstream(id) });
                }
            }
        }
    }

    fn server_message(&mut self, id: UpstreamId, kind: ControlType, message: &[u8], cx: &mut Cx<'_>) {
        match kind {
            ControlType::StopRequest => {
                let Ok(request) = StopRequest::parse(message) else { return };
                let reply = StopReply { reserved0: 0, result: StopResult::Ok, error: GeneralError::None, reserved1: 0 };
                self.say_to_server(id, reply.to_bytes(), cx.now);
                self.end_upstream(id, UpstreamEnd::Stopped(request.reason), Farewell::Close, cx);
            }
            ControlType::EchoRequest => {
                if let Ok(request) = EchoRequest::parse(message) {
                    self.say_to_server(id, echo_reply(request.identifier), cx.now);
                }
            }
            // The answer to our Echo-Request has been heard already.
            ControlType::EchoReply => {}
            ControlType::OutgoingCallReply => self.outgoing_reply(id, message, cx),
            ControlType::IncomingCallRequest => self.incoming_request(id, message, cx),
            ControlType::IncomingCallConnected => self.incoming_connected(id, message, cx),
            ControlType::CallDisconnectNotify => self.disconnect_notify(id, message, cx),
            ControlType::WanErrorNotify => self.wan_error(id, message, cx),
            ControlType::SetLinkInfo => self.link_info_of_server(id, message, cx),
            ControlType::OutgoingCallRequest => {
                // A server that calls as a PNS: no client of ours is a PAC.
                if let Ok(request) = OutgoingCallRequest::parse(message) {
                    let refusal =
                        super::ends::outgoing_refusal(request.call_id, OutgoingResult::DoNotAccept, GeneralError::None);
                    self.say_to_server(id, refusal, cx.now);
                }
            }
            ControlType::StartRequest
            | ControlType::StartReply
            | ControlType::StopReply
            | ControlType::IncomingCallReply
            | ControlType::CallClearRequest => self.counters.messages_ignored += 1,
        }
    }
}
