//! Taking over a living in-path connection with its calls: what `Auto` needs when a server refuses a second connection
//! because of the first one. The first becomes a tunnel, and the refused client's calls join it.

use super::calls::{Call, Stage};
use super::group::{GroupKey, Session, SessionState, Upstream, UpstreamState};
use super::line::Line;
use super::types::{SessionId, UpstreamId};
use super::{Cx, Shared};
use crate::engine::{CallDirection, Engine};
use crate::types::{Admission, Flow, Now};
use crate::wire::control::StartReply;

/// A call that is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LiveCall {
    /// Who asked for it.
    pub direction: CallDirection,
    /// The PNS's Call ID as the client chose it.
    pub pns_id: u16,
    /// The Call ID the server knows in its place.
    pub translated_id: u16,
    /// The PAC's Call ID, the same on both sides so far.
    pub pac_id: u16,
}

/// A living in-path connection. Its TCP is in the shell's hands on both sides, its calls and their Call IDs are no longer
/// the in-path engine's; octets under way follow by `client_bytes` and `upstream_bytes`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakeOver {
    /// The connection as the client knows it.
    pub flow: Flow,
    /// Its external address and policy.
    pub admission: Admission,
    /// How the server has introduced itself.
    pub server: StartReply,
    /// Its calls.
    pub calls: Vec<LiveCall>,
}

impl Shared {
    /// Goes on with a living connection: its two sides are a session and a tunnel from now on. Neither side is told anything.
    /// `None` when one of its Call IDs is somebody else's: then nothing is taken over, and those that were free rest.
    pub fn take_over(&mut self, of: TakeOver, engine: &mut Engine, now: Now) -> Option<(SessionId, UpstreamId)> {
        let TakeOver { flow, admission: crate::types::Admission { external, policy }, server, calls } = of;
        let mut lent = Vec::new();
        for call in &calls {
            let free = self.calls.is_free_up(flow.client, flow.server, call.pac_id, now);
            if !free || !engine.lend_this_call_id(external, flow.server, call.translated_id) {
                for id in lent {
                    engine.rest_call_id((external, flow.server), id, 0, now);
                }
                return None;
            }
            lent.push(call.translated_id);
        }
        let cx = &mut Cx { engine, now };
        cx.engine.count_session(&policy.service, flow.client);
        let policy = self.policies.intern(policy);
        let key = GroupKey {
            external,
            server: flow.server,
            server_port: flow.server_port,
            alg: policy.alg.clone(),
            own: None,
        };
        let group = self.join(key);
        let (session, upstream) = (SessionId(self.new_id()), UpstreamId(self.new_id()));
        let channels = if server.max_channels == 0 { self.config.channels_if_zero.max(1) } else { server.max_channels };
        self.sessions.insert(
            session,
            Session {
                flow,
                external,
                policy: policy.clone(),
                group: Some(group),
                state: SessionState::Open,
                created: now,
                apart: false,
                early: Vec::new(),
                line: Line::new(now),
            },
        );
        self.upstreams.insert(
            upstream,
            Upstream {
                group,
                policy: policy.clone(),
                state: UpstreamState::Open,
                since: now,
                channels,
                load: 0,
                idle_since: now,
                carried: Default::default(),
                line: Line::new(now),
            },
        );
        if let Some(of) = self.groups.get_mut(&group) {
            of.sessions.insert(session);
            of.upstreams.insert(upstream);
            of.open.insert(upstream);
            (of.server, of.channels) = (Some(server), Some(channels));
        }
        (self.counters.sessions_opened, self.counters.upstreams_established) =
            (self.counters.sessions_opened + 1, self.counters.upstreams_established + 1);
        for live in calls {
            let mut call = Call::new(group, (external, flow.server), policy.clone(), now);
            call.direction = live.direction;
            call.stage = Stage::Up;
            let index = self.calls.insert(call);
            self.attach(index, session, flow.client, cx);
            self.calls.change(index, |call| {
                call.upstream = Some(upstream);
                call.client_pns = Some(live.pns_id);
                call.server_pns = Some(live.translated_id);
                (call.client_pac, call.server_pac) = (Some(live.pac_id), Some(live.pac_id));
            });
            self.load_more(upstream);
            self.arm_call(index);
        }
        self.refresh_free(upstream);
        self.arm_session(session);
        self.arm_upstream(upstream);
        self.dirty.insert(group);
        self.settle(cx);
        Some((session, upstream))
    }
}
