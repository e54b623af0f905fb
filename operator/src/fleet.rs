//! What is known of the agents: who is attached, what runs there, what they count. Pure: time is a parameter.
//!
//! Which agents have an object in force, and how many calls of it are live, is asked for every object again and again: both are kept
//! up to date as agents speak, so that nobody goes through all agents for each object.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use callgate_compile::status::ObjectRef;
use callgate_crds::Kind;
use callgate_proto::{Optional, pb};
use tokio::time::Instant;

use crate::moment::Moment;
use crate::snapshot::{Snapshot, Stamp};

/// Every agent that has ever been attached to this operator.
#[derive(Debug, Default)]
pub struct Fleet {
    agents: BTreeMap<String, Agent>,
    /// Nodes that have had something to do since then; forgotten with the node.
    awaited: BTreeMap<String, Moment>,
    /// Nodes whose agents have an object in force, in whatever version.
    in_force: BTreeMap<ObjectRef, BTreeSet<String>>,
    /// Live calls by object, by kind and then by "namespace/name"; those without calls are left out.
    calls: [BTreeMap<String, u64>; 3],
}

/// One agent.
#[derive(Debug, Clone)]
pub struct Agent {
    /// Number of its stream; `None` while it is not attached.
    pub stream: Option<u64>,
    /// When it was attached, or when it was lost.
    pub since: Moment,
    /// What it said first.
    pub hello: pb::Hello,
    /// What of its kernel objects have to do without, by what it said first.
    pub missing: BTreeSet<Optional>,
    /// Hash of what runs; empty where nothing does.
    pub running: String,
    /// What of it objects are in force by; of a configuration that this operator does not know, only which.
    pub stamp: Option<Arc<Stamp>>,
    /// The snapshot it could not put into effect (by hash), and why.
    pub refused: Option<(String, pb::Failure)>,
    /// What runs there is not whole any more, as it says itself: nothing of it counts as in force.
    pub broken: bool,
    /// What it counted last; nothing before it has counted, and once it is lost for long.
    pub report: pb::Report,
    /// How many snapshots its stream has carried.
    count: u64,
    /// The one it answered last, and those it was sent since, in their order.
    sent: Vec<Sent>,
}

/// A snapshot on its way.
#[derive(Debug, Clone)]
struct Sent {
    sequence: u64,
    hash: String,
    stamp: Arc<Stamp>,
}

impl Agent {
    fn new(stream: u64, hello: pb::Hello, now: Moment) -> Self {
        Self {
            stream: Some(stream),
            since: now,
            running: hello.config_hash.clone(),
            missing: Optional::missing(&hello.features),
            stamp: None,
            refused: None,
            broken: false,
            report: pb::Report::default(),
            hello,
            count: 0,
            sent: Vec::new(),
        }
    }

    /// Number of the snapshot it has answered last, or is to answer first; 0 where it was sent none.
    pub fn first(&self) -> u64 {
        self.sent.first().map_or(0, |sent| sent.sequence)
    }

    /// Whether the configuration of this hash is in force there, whole.
    pub fn runs(&self, hash: &str) -> bool {
        self.running == hash && !self.broken
    }

    /// Whether it is not attached, and has not been for `long`.
    pub fn is_lost_for(&self, long: Duration, now: Instant) -> bool {
        self.stream.is_none() && now.saturating_duration_since(self.since.instant) >= long
    }

    /// Whether it does for `object` what `wanted` says, and will go on doing it whichever of the snapshots under way comes to be
    /// in force for a moment: one that was overtaken by a newer one may.
    pub fn fulfils(&self, wanted: &Stamp, object: &ObjectRef) -> bool {
        let under_way = self.sent.iter().map(|sent| &sent.stamp);
        !self.broken
            && self.stamp.is_some()
            && self.stamp.iter().chain(under_way).all(|stamp| stamp.fulfils(wanted, object))
    }
}

/// How many unanswered snapshots are remembered: an agent answers in their order, and takes the latest.
const UNANSWERED: usize = 64;

/// How long an agent is missed where it has nothing to do.
pub const MISSED: Duration = Duration::from_secs(3_600);

impl Fleet {
    /// The agent of a node.
    pub fn get(&self, node: &str) -> Option<&Agent> {
        self.agents.get(node)
    }

    /// All of them, by node.
    pub fn agents(&self) -> &BTreeMap<String, Agent> {
        &self.agents
    }

    /// Whether an agent is to be on a node that is to run `wanted`: it has something to do there, or has been there within the
    /// last hour. Nodes that the DaemonSet leaves out, and those it does not select any more, are nobody's trouble.
    pub fn is_expected(&self, node: &str, wanted: Option<&Snapshot>, now: Instant) -> bool {
        wanted.is_some_and(|wanted| !wanted.config.sources.is_empty())
            || self.get(node).is_some_and(|agent| !agent.is_lost_for(MISSED, now))
    }

    /// Takes note of which nodes have something to do, by what they are to run.
    pub fn awaits(&mut self, wanted: &BTreeMap<String, Arc<Snapshot>>, now: Moment) {
        self.awaited.retain(|node, _| wanted.contains_key(node));
        for (node, _) in wanted.iter().filter(|(_, snapshot)| !snapshot.config.sources.is_empty()) {
            if !self.awaited.contains_key(node) {
                self.awaited.insert(node.clone(), now);
            }
        }
    }

    /// Since when a node has had something to do: its agent may have been on its way since then.
    pub fn awaited_since(&self, node: &str) -> Option<Moment> {
        self.awaited.get(node).copied()
    }

    /// Agents that have an object in force, in whatever version, with their nodes, by node.
    pub fn carriers(&self, object: &ObjectRef) -> impl Iterator<Item = (&String, &Agent)> {
        let nodes = self.in_force.get(object).into_iter().flatten();
        nodes.filter_map(|node| self.agents.get_key_value(node))
    }

    /// Live calls of an object over all agents.
    pub fn live_calls(&self, object: &ObjectRef) -> u64 {
        let of_kind = self.calls.get(object.kind as usize).filter(|calls| !calls.is_empty());
        of_kind.and_then(|calls| calls.get(&object.key.to_string())).copied().unwrap_or(0)
    }

    /// Live calls over all agents by object of a kind, "namespace/name", sorted; those without calls are left out.
    pub fn calls_by(&self, kind: Kind) -> impl Iterator<Item = (&str, u64)> {
        self.calls.get(kind as usize).into_iter().flatten().map(|(name, calls)| (name.as_str(), *calls))
    }

    /// What runs on a node is another now.
    fn runs(&mut self, node: &str, stamp: Option<Arc<Stamp>>) {
        let Some(agent) = self.agents.get_mut(node) else { return };
        let old = std::mem::replace(&mut agent.stamp, stamp);
        let new = agent.stamp.as_ref();
        if old.as_ref().zip(new).is_some_and(|(old, new)| Arc::ptr_eq(old, new)) {
            return;
        }
        let carries = |stamp: Option<&Arc<Stamp>>, object: &ObjectRef| stamp.is_some_and(|stamp| stamp.carries(object));
        for object in old.iter().flat_map(|stamp| stamp.carried()).filter(|object| !carries(new, object)) {
            if let Some(nodes) = self.in_force.get_mut(object) {
                nodes.remove(node);
                if nodes.is_empty() {
                    self.in_force.remove(object);
                }
            }
        }
        for object in new.iter().flat_map(|stamp| stamp.carried()).filter(|object| !carries(old.as_ref(), object)) {
            self.in_force.entry(object.clone()).or_default().insert(node.to_owned());
        }
    }

    /// Adds what a report counts, or takes it away again.
    fn count(&mut self, report: &pb::Report, add: bool) {
        let rules = report.rules.iter().map(|of| (Kind::IpRule, &of.rule, of.calls));
        let services = report.services.iter().map(|of| (Kind::Service, &of.name, of.calls));
        let algs = report.algs.iter().map(|of| (Kind::PptpAlg, &of.name, of.calls));
        for (kind, name, number) in rules.chain(services).chain(algs).filter(|(_, _, number)| *number > 0) {
            let Some(calls) = self.calls.get_mut(kind as usize) else { continue };
            let old = calls.get(name).copied().unwrap_or(0);
            match if add { old.saturating_add(number) } else { old.saturating_sub(number) } {
                0 => drop(calls.remove(name)),
                new => drop(calls.insert(name.clone(), new)),
            }
        }
    }

    /// An agent has said hello on stream `stream`, which ends any other of its node.
    pub fn attach(&mut self, node: &str, stream: u64, mut hello: pb::Hello, now: Moment) {
        let old = self.agents.remove(node);
        let named = std::mem::take(&mut hello.in_force);
        let goes_on = old.as_ref().is_some_and(|old| old.running == hello.config_hash);
        let mut agent = Agent::new(stream, hello, now);
        if let Some(old) = old {
            (agent.stamp, agent.broken, agent.report) = (old.stamp, old.broken && goes_on, old.report);
        }
        let is_known = goes_on && agent.stamp.is_some() && !agent.running.is_empty();
        self.agents.insert(node.to_owned(), agent);
        if !is_known {
            // It may do what nobody wants any more, and nothing of it counts as what is wanted.
            self.runs(node, (!named.is_empty()).then(|| Arc::new(Stamp::named(&named))));
        }
    }

    /// A stream has ended. A later one of the same node is left alone.
    pub fn detach(&mut self, node: &str, stream: u64, now: Moment) {
        if let Some(agent) = self.of(node, stream) {
            (agent.stream, agent.since) = (None, now);
        }
    }

    /// A snapshot is being sent; its number in the stream. One that already runs there needs no answer, unless another is under
    /// way, which may come to be in force before it.
    pub fn sent(&mut self, node: &str, stream: u64, snapshot: &Snapshot) -> u64 {
        let Some(agent) = self.of(node, stream) else { return 0 };
        let runs = agent.running == snapshot.hash && agent.sent.iter().all(|sent| sent.hash == snapshot.hash);
        agent.count += 1;
        let sequence = agent.count;
        agent.sent.push(Sent { sequence, hash: snapshot.hash.clone(), stamp: Arc::clone(&snapshot.stamp) });
        if agent.sent.len() > UNANSWERED {
            agent.sent.remove(0);
        }
        if runs {
            self.runs(node, Some(Arc::clone(&snapshot.stamp)));
        }
        sequence
    }

    /// An answer. False where it is about a snapshot that was never sent: it is then taken for nothing.
    pub fn outcome(&mut self, node: &str, stream: u64, outcome: pb::Outcome) -> bool {
        let Some(agent) = self.of(node, stream) else { return false };
        let is_it =
            |sent: &Sent| sent.hash == outcome.hash && (outcome.sequence == 0 || outcome.sequence == sent.sequence);
        let Some(at) = agent.sent.iter().rposition(is_it) else { return false };
        // What was sent before it will not be answered any more. It itself may be: tried again, it may succeed.
        agent.sent.drain(..at);
        let Some(Sent { hash, stamp, .. }) = agent.sent.first().cloned() else { return false };
        match outcome.failure {
            None => {
                (agent.running, agent.refused, agent.broken) = (hash, None, false);
                self.runs(node, Some(stamp));
            }
            // Broken too: what runs was applied again, and could not be. The last answer holds, for what ran may be whole again.
            Some(failure) => {
                agent.broken = failure.broken || hash == agent.running;
                agent.refused = Some((hash, failure));
            }
        }
        true
    }

    /// What the agent counts now.
    pub fn report(&mut self, node: &str, stream: u64, report: pb::Report) {
        let Some(agent) = self.of(node, stream) else { return };
        let old = std::mem::take(&mut agent.report);
        self.count(&old, false);
        self.count(&report, true);
        if let Some(agent) = self.of(node, stream) {
            agent.report = report;
        }
    }

    /// Forgets what agents counted that are lost for `grace` or longer: their calls may have ended long ago.
    pub fn lapse(&mut self, now: Instant, grace: Duration) {
        let lost = self.agents.values_mut().filter(|agent| agent.is_lost_for(grace, now));
        let reports: Vec<pb::Report> = lost.map(|agent| std::mem::take(&mut agent.report)).collect();
        for report in &reports {
            self.count(report, false);
        }
    }

    /// Forgets nodes that are gone.
    pub fn retain(&mut self, known: impl Fn(&str) -> bool) {
        let gone = self.agents.iter().filter(|(node, agent)| agent.stream.is_none() && !known(node));
        for node in gone.map(|(node, _)| node.clone()).collect::<Vec<_>>() {
            self.runs(&node, None);
            if let Some(agent) = self.agents.remove(&node) {
                self.count(&agent.report, false);
            }
        }
    }

    fn of(&mut self, node: &str, stream: u64) -> Option<&mut Agent> {
        self.agents.get_mut(node).filter(|agent| agent.stream == Some(stream))
    }
}

#[cfg(test)]
mod tests;
