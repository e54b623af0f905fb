//! Who gets the next call on which connection, and when another connection is opened.
//!
//! ```text
//!  ⌈waiting / Max Channels⌉ connections are wanted, but one while Max Channels is not known
//!  a connection that has much to read is given no call until it has read some: those that fit on it wait
//!  next call: of the client with the fewest before it, then the oldest      next place: the oldest connection with room,
//!                                                                           so that the newest run empty and can close
//! ```

use std::net::Ipv4Addr;

use super::calls::Stage;
use super::event::{CallEnd, Refusal};
use super::group::{GroupId, UpstreamState};
use super::time::Owner;
use super::types::{SessionId, UpstreamId};
use super::{Cx, Shared};
use crate::engine::shares::Full;
use crate::types::{Now, Policy, Side};

/// PAC ids that are tried for a call whose own is not free: enough while half of all are.
const PAC_TRIES: u32 = 64;

impl Shared {
    /// Does whatever has become possible. Ends every input.
    pub(super) fn settle(&mut self, cx: &mut Cx<'_>) {
        while let Some(group) = self.dirty.pop_first() {
            self.dispatch(group, cx);
        }
    }

    fn dispatch(&mut self, group: GroupId, cx: &mut Cx<'_>) {
        let Some(of) = self.groups.get(&group) else { return };
        if !of.open.is_empty() {
            for id in of.pending.clone() {
                if let Some(of) = self.groups.get_mut(&group) {
                    of.pending.remove(&id);
                }
                self.answer_start(id, cx.now);
            }
        }
        while let Some((next, upstream)) = self.next_place(group) {
            self.place(next, upstream, cx);
        }
        self.open_more(group, cx);
        self.arm_group(group);
        self.drop_group_if_idle(group, cx.now);
    }

    fn next_place(&self, group: GroupId) -> Option<(u32, UpstreamId)> {
        let of = self.groups.get(&group)?;
        Some((of.waiting.first()?.2, *of.free.first()?))
    }

    /// Asks the server for a call.
    fn place(&mut self, index: u32, upstream: UpstreamId, cx: &mut Cx<'_>) {
        let Some(call) = self.calls.get(index) else { return };
        let (group, place) = (call.group, (call.rank, call.serial, index));
        let Some((_, client)) = call.client else {
            return self.remove_call(index, CallEnd::Cleared(Side::Client), cx);
        };
        let id = match cx.engine.lend_call_id((call.external, call.server), client, cx.now) {
            Ok(id) => id,
            Err(why) => return self.refuse_waiting(index, why.into(), cx),
        };
        let request = call.request.clone();
        if let Some(of) = self.groups.get_mut(&group) {
            of.waiting.remove(&place);
        }
        self.calls.change(index, |call| {
            call.upstream = Some(upstream);
            (call.server_pns, call.lent_to) = (Some(id), Some(client));
            call.stage = Stage::Requested;
        });
        self.load_more(upstream);
        if let Some(mut request) = request {
            (request.call_id, request.reserved0) = (id, 0);
            self.say_to_server(upstream, request.to_bytes(), cx.now);
        }
        self.arm_call(index);
    }

    /// Opens as many connections as what waits needs, or tells it that there will be none.
    fn open_more(&mut self, group: GroupId, cx: &mut Cx<'_>) {
        let Some(of) = self.groups.get_mut(&group) else { return };
        let passed = |until: &mut Option<Now>| {
            if until.is_some_and(|until| until <= cx.now) {
                *until = None;
            }
            until.is_none()
        };
        let (rested, takes_more) = (passed(&mut of.not_before), passed(&mut of.full_until));
        let of = &*of;
        let total = of.upstreams.len();
        // These wait for a connection that is there.
        let crowded = of.crowded.iter().filter_map(|id| self.upstreams.get(id));
        let fitting: usize = crowded.map(|upstream| upstream.room() as usize).sum();
        let wanted = match (of.waiting.len().saturating_sub(fitting), of.channels) {
            (0, _) => usize::from(of.open.is_empty() && !of.pending.is_empty()),
            (_, None) => 1,
            (waiting, Some(channels)) => waiting.div_ceil(usize::from(channels.max(1))),
        };
        if wanted == 0 {
            return;
        }
        let under_way = of.upstreams.iter().filter_map(|id| self.upstreams.get(id));
        let connecting = under_way
            .filter(|upstream| matches!(upstream.state, UpstreamState::Connecting | UpstreamState::Starting))
            .count();
        // A refusal beside others means nothing once there are none.
        let full = (!takes_more && !of.open.is_empty()) || total >= self.config.max_upstreams as usize;
        if full {
            // Whoever is under way may still bring room; else there is none.
            if connecting == 0 {
                let beyond: Vec<u32> = of.waiting.iter().skip(fitting).map(|&(.., index)| index).collect();
                for index in beyond {
                    self.refuse_waiting(index, Refusal::ServerFull, cx);
                }
            }
            return;
        }
        if !rested {
            return;
        }
        let at_once = wanted.min(self.config.max_connecting as usize);
        // After a failure one tries for all.
        let at_once = if of.failures > 0 { at_once.min(1) } else { at_once };
        let room = (self.config.max_upstreams as usize).saturating_sub(total);
        for _ in 0..at_once.saturating_sub(connecting).min(room) {
            self.open_upstream(group, cx.now);
        }
    }

    fn drop_group_if_idle(&mut self, group: GroupId, now: Now) {
        let Some(of) = self.groups.get(&group) else { return };
        let remembered = [of.not_before, of.full_until].into_iter().flatten().any(|until| until > now);
        if remembered || !of.sessions.is_empty() || !of.upstreams.is_empty() || !of.waiting.is_empty() {
            return;
        }
        if let Some(of) = self.groups.remove(&group) {
            self.by_key.remove(&of.key);
            if let Some(armed) = of.armed {
                self.timers.clear(armed, Owner::Group(group));
            }
        }
        self.policies.forget_unused();
    }

    /// One call more on this connection.
    pub(super) fn load_more(&mut self, id: UpstreamId) {
        if let Some(upstream) = self.upstreams.get_mut(&id) {
            upstream.load += 1;
        }
        self.refresh_free(id);
    }

    /// One call less on this connection.
    pub(super) fn load_less(&mut self, id: UpstreamId, now: Now) {
        if let Some(upstream) = self.upstreams.get_mut(&id) {
            upstream.load = upstream.load.saturating_sub(1);
            if upstream.load == 0 {
                upstream.idle_since = now;
            }
        }
        self.refresh_free(id);
        self.arm_upstream(id);
    }

    /// Enters a connection among those with room, or takes it out.
    pub(super) fn refresh_free(&mut self, id: UpstreamId) {
        let Some(upstream) = self.upstreams.get(&id) else { return };
        let free = upstream.state == UpstreamState::Open && upstream.room() > 0;
        let crowded = self.is_crowded(id);
        let Some(of) = self.groups.get_mut(&upstream.group) else { return };
        for (among, is) in [(&mut of.free, free && !crowded), (&mut of.crowded, free && crowded)] {
            if is {
                among.insert(id);
            } else {
                among.remove(&id);
            }
        }
    }

    /// It has much to read before it is to be asked for more.
    pub(super) fn is_crowded(&self, id: UpstreamId) -> bool {
        self.upstreams.get(&id).is_some_and(|upstream| upstream.line.unwritten() > self.config.crowded)
    }

    /// Why this session of a client may have no further call, of whoever's asking, if so. `maxCalls` is for all (engine/shares.rs). And whatever waits costs
    /// memory: of a client there are never more calls than it may have Call IDs.
    pub(super) fn no_call_for(&self, id: SessionId, client: Ipv4Addr, policy: &Policy, cx: &Cx<'_>) -> Option<Refusal> {
        let room = cx.engine.room_for_call(policy, client);
        if let Err(Full::Limit(max)) = room {
            return Some(Refusal::MaxCalls(max));
        }
        let (of_session, of_client) = (self.limits.calls_per_connection, self.limits.call_ids_per_client);
        if cx.engine.calls_of_client(&policy.alg, client) >= of_client {
            return Some(Refusal::CallsOfClient(of_client));
        }
        if self.is_full(id) {
            return Some(Refusal::CallsOfConnection(of_session));
        }
        match room {
            Err(Full::Share(own)) => Some(Refusal::Share(own)),
            Err(Full::Limit(_)) | Ok(()) => None,
        }
    }

    /// Whether this session has as many calls as a control connection may have.
    pub(super) fn is_full(&self, id: SessionId) -> bool {
        self.calls.of_session(id).count() as u64 >= u64::from(self.limits.calls_per_connection)
    }

    /// This call is of this client now.
    pub(super) fn attach(&mut self, index: u32, session: SessionId, client: Ipv4Addr, cx: &mut Cx<'_>) {
        let Some(alg) = self.calls.get(index).map(|call| call.policy.alg.clone()) else { return };
        cx.engine.count_call(&alg, client);
        self.calls.change(index, |call| call.client = Some((session, client)));
    }

    /// A PAC id for a call of this client: the server's own where nothing speaks against it, else one at random. A client has a small
    /// part of all ids at most, so a few tries find one, and no message costs more than these.
    pub(super) fn choose_pac(
        &mut self,
        client: Ipv4Addr,
        server: Ipv4Addr,
        wished: u16,
        cx: &mut Cx<'_>,
    ) -> Option<u16> {
        self.calls.release(cx.now);
        let (calls, random) = (&self.calls, &mut self.random);
        let at_random = (0..PAC_TRIES).map(|_| random.next_u16());
        std::iter::once(wished)
            .chain(at_random)
            .find(|&id| calls.is_free_up(client, server, id) && !cx.engine.has_way_up(client, server, id))
    }
}
