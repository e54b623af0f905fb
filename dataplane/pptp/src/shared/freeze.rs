//! From the living state to plain values.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Shared;
use super::calls::Call;
use super::frozen::{Frozen, FrozenCall, FrozenGroup, FrozenLine, FrozenRest, FrozenSession, FrozenUpstream, VERSION};
use super::group::Group;
use super::line::Line;
use crate::types::{Now, Policy};

/// Each policy once, by its place.
#[derive(Default)]
struct Places {
    known: BTreeMap<*const Policy, usize>,
    /// Places by rule, service and ALG: what was edited to and fro may be there twice with the same text.
    by_names: BTreeMap<[String; 3], Vec<usize>>,
    policies: Vec<Policy>,
}

impl Places {
    fn of(&mut self, policy: &Arc<Policy>) -> usize {
        *self.known.entry(Arc::as_ptr(policy)).or_insert_with(|| {
            let names = [policy.rule.clone(), policy.service.clone(), policy.alg.clone()];
            let places = self.by_names.entry(names).or_default();
            let policies = &mut self.policies;
            let same = places.iter().copied().find(|&place| policies.get(place) == Some(&**policy));
            same.unwrap_or_else(|| {
                policies.push(Policy::clone(policy));
                places.push(policies.len() - 1);
                policies.len() - 1
            })
        })
    }
}

impl Shared {
    /// Everything the next process needs to go on. To be called when `poll_command` has said `None`: what was ordered and not carried
    /// out is not in it.
    pub fn freeze(&self, now: Now) -> Frozen {
        let mut places = Places::default();
        let sessions = self
            .sessions
            .iter()
            .map(|(&id, session)| FrozenSession {
                id,
                flow: session.flow,
                external: session.external,
                policy: places.of(&session.policy),
                group: session.group.map(|group| group.0),
                state: session.state,
                created: session.created,
                apart: session.apart,
                early: session.early.clone(),
                line: session.line.freeze(),
            })
            .collect();
        let upstreams = self
            .upstreams
            .iter()
            .map(|(&id, upstream)| FrozenUpstream {
                id,
                group: upstream.group.0,
                policy: places.of(&upstream.policy),
                state: upstream.state,
                since: upstream.since,
                channels: upstream.channels,
                idle_since: upstream.idle_since,
                carried: upstream.carried,
                line: upstream.line.freeze(),
            })
            .collect();
        let calls = self.calls.iter().map(|(index, call)| call.freeze(index, places.of(&call.policy))).collect();
        let rest = |(client, server, id, until)| FrozenRest { client, server, id, until };
        Frozen {
            version: VERSION,
            at: now,
            random: self.random.state(),
            last_fragment: self.fragments.last_id(),
            next: (self.next_id, self.next_group, self.calls.next_serial()),
            groups: self.groups.iter().map(|(id, group)| group.freeze(id.0)).collect(),
            sessions,
            upstreams,
            calls,
            free: self.calls.free().to_vec(),
            resting: self.calls.resting().map(rest).collect(),
            learned: self.learner.learned(now).collect(),
            policies: places.policies,
        }
    }
}

impl Group {
    fn freeze(&self, id: u32) -> FrozenGroup {
        FrozenGroup {
            id,
            external: self.key.external,
            server: self.key.server,
            server_port: self.key.server_port,
            alg: self.key.alg.clone(),
            own: self.key.own,
            answer: self.server.map(|reply| reply.to_bytes()),
            channels: self.channels,
            failures: self.failures,
            not_before: self.not_before,
            full_until: self.full_until,
        }
    }
}

impl Call {
    fn freeze(&self, index: u32, policy: usize) -> FrozenCall {
        let request = self.request.as_ref().map(|request| request.to_bytes());
        FrozenCall {
            index,
            serial: self.serial,
            group: self.group.0,
            policy,
            session: self.session(),
            upstream: self.upstream,
            direction: self.direction,
            stage: self.stage,
            pns: (self.client_pns, self.server_pns),
            pac: (self.client_pac, self.server_pac),
            lent_to: self.lent_to,
            asked_by: request.or_else(|| self.offer.as_ref().map(|offer| offer.to_bytes())),
            rank: self.rank,
            retried: self.retried,
            asked: self.asked.iter().copied().collect(),
            clearing: self.clearing.map(|clearing| (clearing.at, clearing.sent)),
            created: self.created,
            up: self.up,
            down: self.down,
        }
    }
}

impl Line {
    fn freeze(&self) -> FrozenLine {
        FrozenLine {
            input: self.input.clone(),
            unwritten: self.unwritten,
            progress: self.progress,
            heard: self.heard,
            probed: self.probed,
        }
    }
}
