//! The client's leg: a session from its TCP connection to its end.

use super::config::VERSION;
use super::ends::Farewell;
use super::event::{Event, SessionEnd};
use super::group::{Group, GroupId, GroupKey, Session, SessionState};
use super::line::Line;
use super::types::{Command, Gone, Leg, SessionId};
use super::{Cx, Shared};
use crate::engine::ids::one_less;
use crate::engine::{Engine, OpenRefusal};
use crate::types::{Admission, Flow, Now, Policy};
use crate::wire::control::{
    ControlType, EchoReply, EchoRequest, EchoResult, GeneralError, Sender, StartRequest, StartResult, StopReply,
    StopResult, validate,
};

impl Shared {
    /// A client's TCP connection was accepted. Nothing is said and nobody is called before its whole first message is in.
    ///
    /// # Errors
    /// A limit is reached: reset the connection.
    pub fn client_connected(
        &mut self,
        flow: Flow,
        admission: Admission,
        engine: &mut Engine,
        now: Now,
    ) -> Result<SessionId, OpenRefusal> {
        if let Some(why) = self.refusal(flow, &admission.policy, engine) {
            self.counters.sessions_refused += 1;
            return Err(why);
        }
        let id = SessionId(self.new_id());
        engine.count_session(&admission.policy.service, flow.client);
        *self.half_open.entry(flow.client).or_default() += 1;
        self.counters.sessions_opened += 1;
        let session = Session {
            flow,
            external: admission.external,
            policy: self.policies.intern(admission.policy),
            group: None,
            state: SessionState::AwaitingStart,
            created: now,
            apart: false,
            early: Vec::new(),
            line: Line::new(now),
        };
        self.sessions.insert(id, session);
        self.arm_session(id);
        Ok(id)
    }

    fn refusal(&self, flow: Flow, policy: &Policy, engine: &Engine) -> Option<OpenRefusal> {
        let limits = &self.limits;
        if self.sessions.len() as u64 >= u64::from(limits.max_connections) {
            return Some(OpenRefusal::MaxConnections(limits.max_connections));
        }
        if let Some(why) = engine.sessions_are_full(policy, flow.client) {
            return Some(why);
        }
        let half_open = self.half_open.get(&flow.client).copied().unwrap_or_default();
        (half_open >= limits.half_open_per_client).then_some(OpenRefusal::HalfOpenClient(half_open))
    }

    /// Octets of a client, however TCP has cut them.
    pub fn client_bytes(&mut self, id: SessionId, bytes: &[u8], engine: &mut Engine, now: Now) {
        let cx = &mut Cx { engine, now };
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.line.push(bytes);
        while let Some(session) = self.sessions.get_mut(&id) {
            // Until its first message is right nothing else is let through, strict or not.
            let strict = session.policy.strict || session.state == SessionState::AwaitingStart;
            match session.line.next(strict) {
                Ok(Some(message)) => {
                    session.line.hear(now);
                    self.client_says(id, &message, strict, cx);
                    // After each, so that what follows does not depend on how TCP has cut them.
                    self.settle(cx);
                }
                Ok(None) => break,
                Err(malformed) => {
                    self.client_malformed(id, malformed.label(), cx);
                    break;
                }
            }
        }
        self.arm_session(id);
        self.settle(cx);
    }

    /// A client has closed or reset its connection.
    pub fn client_closed(&mut self, id: SessionId, gone: Gone, engine: &mut Engine, now: Now) {
        let cx = &mut Cx { engine, now };
        self.end_session(id, SessionEnd::Gone(gone), gone.into(), cx);
        self.settle(cx);
    }

    fn client_malformed(&mut self, id: SessionId, reason: &'static str, cx: &mut Cx<'_>) {
        self.counters.messages_malformed += 1;
        self.counters.sessions_malformed += 1;
        self.note(Event::Malformed { leg: Leg::Client(id), reason, closed: true });
        self.end_session(id, SessionEnd::Malformed(reason), Farewell::Reset, cx);
    }

    fn client_says(&mut self, id: SessionId, message: &[u8], strict: bool, cx: &mut Cx<'_>) {
        self.counters.messages_from_clients += 1;
        let Some(session) = self.sessions.get(&id) else { return };
        let kind = match validate(message, Sender::Pns, strict) {
            Ok(kind) => kind,
            Err(malformed) if strict => return self.client_malformed(id, malformed.label(), cx),
            Err(malformed) => {
                self.counters.messages_malformed += 1;
                let reason = malformed.label();
                return self.note(Event::Malformed { leg: Leg::Client(id), reason, closed: false });
            }
        };
        match session.state {
            SessionState::AwaitingStart if kind != ControlType::StartRequest => {
                self.client_malformed(id, "not a Start-Control-Connection-Request", cx);
            }
            SessionState::AwaitingStart => self.start(id, message, cx),
            SessionState::Leaving(_) => self.client_leaves(id, kind),
            SessionState::Pending(_) | SessionState::Open => self.request(id, kind, message, cx),
        }
    }

    /// After our Stop-Control-Connection-Request only its answer, or the same of the client, matters.
    fn client_leaves(&mut self, id: SessionId, kind: ControlType) {
        match kind {
            ControlType::StopRequest | ControlType::StopReply => {
                self.drop_session(id, Some(Command::Close { leg: Leg::Client(id) }));
            }
            ControlType::StartRequest
            | ControlType::StartReply
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
            | ControlType::SetLinkInfo => self.counters.messages_ignored += 1,
        }
    }

    /// The whole first message is in: the session joins its group, which answers as soon as it has the server.
    fn start(&mut self, id: SessionId, message: &[u8], cx: &mut Cx<'_>) {
        let Ok(request) = StartRequest::parse(message) else { return };
        self.leave_half_open(id);
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.state = SessionState::Pending(cx.now);
        let (flow, external, rule, alg) =
            (session.flow, session.external, session.policy.rule.clone(), session.policy.alg.clone());
        self.note(Event::SessionStarted { session: id, flow, rule });
        if request.version != VERSION {
            let reply = self.config.start_reply(None, StartResult::UnsupportedVersion, GeneralError::None);
            self.say_to_client(id, reply.to_bytes(), cx.now);
            self.end_session(id, SessionEnd::Version(request.version), Farewell::Close, cx);
            return;
        }
        let own = self.is_apart(id, flow, cx.now).then_some(id);
        let group = self.join(GroupKey { external, server: flow.server, server_port: flow.server_port, alg, own });
        if let Some(session) = self.sessions.get_mut(&id) {
            session.group = Some(group);
        }
        if let Some(of) = self.groups.get_mut(&group) {
            of.sessions.insert(id);
            of.pending.insert(id);
        }
        self.dirty.insert(group);
    }

    /// The group of this key.
    pub(super) fn join(&mut self, key: GroupKey) -> GroupId {
        if let Some(&group) = self.by_key.get(&key) {
            return group;
        }
        let group = GroupId(self.next_group);
        self.next_group += 1;
        self.by_key.insert(key.clone(), group);
        self.groups.insert(group, Group::new(key));
        group
    }

    /// It waits for its first message no longer.
    pub(super) fn leave_half_open(&mut self, id: SessionId) {
        let waits = self.sessions.get(&id).filter(|session| session.state == SessionState::AwaitingStart);
        if let Some(client) = waits.map(|session| session.flow.client) {
            one_less(&mut self.half_open, &client);
        }
    }

    fn is_pending(&self, id: SessionId) -> bool {
        self.sessions.get(&id).is_some_and(|session| matches!(session.state, SessionState::Pending(_)))
    }

    fn request(&mut self, id: SessionId, kind: ControlType, message: &[u8], cx: &mut Cx<'_>) {
        match kind {
            ControlType::StopRequest => {
                let reply = StopReply { reserved0: 0, result: StopResult::Ok, error: GeneralError::None, reserved1: 0 };
                self.say_to_client(id, reply.to_bytes(), cx.now);
                self.end_session(id, SessionEnd::Stopped, Farewell::Close, cx);
            }
            ControlType::EchoRequest => {
                if let Ok(request) = EchoRequest::parse(message) {
                    self.say_to_client(id, echo_reply(request.identifier), cx.now);
                }
            }
            ControlType::StartRequest if self.is_pending(id) => self.counters.messages_ignored += 1,
            ControlType::StartRequest => {
                let reply = self.config.start_reply(None, StartResult::ChannelExists, GeneralError::None);
                self.say_to_client(id, reply.to_bytes(), cx.now);
            }
            ControlType::OutgoingCallRequest => self.outgoing_request(id, message, cx),
            ControlType::IncomingCallReply => self.incoming_reply(id, message, cx),
            ControlType::CallClearRequest => self.clear_request(id, message, cx),
            ControlType::SetLinkInfo => self.link_info(id, message, cx),
            // The answer to our Echo-Request has been heard already.
            ControlType::EchoReply => {}
            ControlType::StartReply
            | ControlType::StopReply
            // No client's to say: `validate` has refused them.
            | ControlType::OutgoingCallReply
            | ControlType::IncomingCallRequest
            | ControlType::IncomingCallConnected
            | ControlType::CallDisconnectNotify
            | ControlType::WanErrorNotify => self.counters.messages_ignored += 1,
        }
    }
}

/// The answer to an Echo-Request.
pub(super) fn echo_reply(identifier: u32) -> Vec<u8> {
    EchoReply { reserved0: 0, identifier, result: EchoResult::Ok, error: GeneralError::None, reserved1: 0 }.to_bytes()
}
