//! Between the engine and the fast path: which calls pass beside the engine, and what it and people are told of them.

use std::collections::BTreeSet;

use callgate_pptp::{CallPath, CallState, CallView, Engine, Event, Flow, IdPair, Now, Seen};
use callgate_proto::model::NodeConfig;

use super::policy;
use crate::clock;
use crate::fast::{Both, Fast, Passed, Setup, Ways};

/// Servers, and clients, whose links are made ready before their first call: a node has no more than some hundred pods.
const LIKELY: usize = 512;

/// The fast path of the ALG.
pub(super) struct Beside {
    fast: Fast,
    /// Calls that have just ended, until the event that says so has come by.
    ended: Vec<(CallPath, Both)>,
}

impl Beside {
    /// Takes over what a previous run has left of the engine's calls.
    pub(super) fn start(setup: Setup, engine: &mut Engine, now: Now) -> Self {
        let live: BTreeSet<CallPath> = engine.paths().collect();
        let fast = Fast::start(setup, &live, now);
        fast.placed().for_each(|path| engine.beside(&path, true));
        Self { fast, ended: Vec::new() }
    }

    /// A new list of commands is about to be carried out.
    pub(super) fn begin(&mut self) {
        self.ended.clear();
    }

    /// Rules are these from now on.
    pub(super) fn foresee(&mut self, config: &NodeConfig) {
        let servers = policy::likely_servers(config, LIKELY).into_iter().map(|(server, _)| server);
        self.fast.foresee(servers.chain(policy::likely_clients(config, LIKELY)).collect());
    }

    /// A control connection has begun.
    pub(super) fn expect(&mut self, flow: &Flow, now: Now) {
        self.fast.expect(flow.client, flow.server, now);
    }

    /// A call has come up.
    pub(super) fn open(&mut self, path: CallPath, engine: &mut Engine, now: Now) {
        let placed = self.fast.open(path, now);
        engine.beside(&path, placed);
    }

    /// A call ends.
    pub(super) fn close(&mut self, path: CallPath, now: Now) {
        let passed = self.fast.close(&path, now);
        self.ended.push((path, passed));
    }

    /// The engine knows only what it has passed on itself.
    pub(super) fn complete(&mut self, event: &mut Event) {
        let Event::CallDown { call, up_packets, down_packets, .. } = event else { return };
        let ended = self.ended.iter().position(|(path, _)| {
            (path.external, path.server, path.pns.server) == (call.external, call.flow.server, call.translated_id)
        });
        if let Some(at) = ended {
            let (_, passed) = self.ended.swap_remove(at);
            *up_packets += passed.up.traffic.packets;
            *down_packets += passed.down.traffic.packets;
        }
    }

    /// What has passed beside the engine is in the list too.
    pub(super) fn complete_all(&self, mut calls: Vec<CallView>) -> Vec<CallView> {
        let all = self.fast.all_passed();
        for view in &mut calls {
            let Some(passed) = path(view).and_then(|path| all.get(&path)) else { continue };
            for (traffic, passed) in [(&mut view.up, passed.up), (&mut view.down, passed.down)] {
                *traffic += passed.traffic;
            }
            view.last_seen = view.last_seen.max(seen(passed).any.unwrap_or_default());
        }
        calls
    }

    /// Before the engine looks whose time is over.
    pub(super) fn tell_before_time_outs(&mut self, engine: &mut Engine, now: Now) {
        for path in engine.paths_due(now) {
            if let Some(passed) = self.fast.passed(&path) {
                engine.seen(&path, seen(&passed));
            }
        }
    }

    /// Adds the counters of the fast path, and to the engine's what has passed beside it.
    pub(super) fn count(&self, counters: &mut Vec<(String, u64)>) {
        let fast = self.fast.counters();
        for (name, value) in &fast {
            let Some(what) = name.strip_prefix("fast_") else { continue };
            let passed = format!("gre_{what}");
            if let Some((_, total)) = counters.iter_mut().find(|(name, _)| *name == passed) {
                *total += value;
            }
        }
        counters.extend(fast.into_iter().map(|(name, value)| (name.to_owned(), value)));
    }

    /// Links, addresses or routes have changed.
    pub(super) fn refresh(&mut self) {
        self.fast.refresh();
    }

    /// The ways of the fast path, where there is one.
    pub(super) fn ways(&self) -> Option<&Ways> {
        self.fast.ways()
    }

    /// When `work` has something to do.
    pub(super) fn deadline(&self, now: Now) -> Option<Now> {
        self.fast.deadline(now)
    }

    /// What is left to do, if its time has come.
    pub(super) fn work(&mut self, engine: &mut Engine, now: Now) {
        if self.fast.deadline(now).is_none_or(|at| at > now) {
            return;
        }
        for (path, placed) in self.fast.work(now) {
            engine.beside(&path, placed);
        }
    }
}

/// The path of a call that is up.
fn path(view: &CallView) -> Option<CallPath> {
    let (Some(client), Some(server), Some(pac)) = (view.pns_id, view.translated_id, view.pac_id) else { return None };
    (view.state == CallState::Up).then_some(CallPath {
        client: view.flow.client,
        external: view.external,
        server: view.flow.server,
        pns: IdPair { client, server },
        pac: IdPair { client: pac, server: pac },
    })
}

/// In the engine's time.
fn seen(passed: &Both) -> Seen {
    let at = |ns: u64| (ns > 0).then(|| clock::from_monotonic(ns));
    let any = |passed: &Passed| passed.last_seen;
    Seen {
        any: at(any(&passed.up).max(any(&passed.down))),
        up_payload: at(passed.up.last_payload),
        down_payload: at(passed.down.last_payload),
    }
}
