//! What is known of the agents: who is attached, what runs there, what they count. Pure: time is a parameter.

use std::collections::BTreeMap;
use std::sync::Arc;

use callgate_compile::status::ObjectRef;
use callgate_proto::pb;
use jiff::Timestamp;

use crate::snapshot::{Snapshot, Stamp};

/// Every agent that has ever been attached to this operator.
#[derive(Debug, Default)]
pub struct Fleet {
    agents: BTreeMap<String, Agent>,
}

/// One agent.
#[derive(Debug, Clone, Default)]
pub struct Agent {
    /// Number of its stream; `None` while it is not attached.
    pub stream: Option<u64>,
    /// When it was attached, or when it was lost.
    pub since: Timestamp,
    /// What it said first.
    pub hello: pb::Hello,
    /// Hash of what runs; empty where nothing does.
    pub running: String,
    /// What of it objects are in force by, where this operator knows that configuration.
    pub stamp: Option<Arc<Stamp>>,
    /// The snapshot it could not put into effect (by hash), and why.
    pub refused: Option<(String, pb::Failure)>,
    /// What it counted last.
    pub report: pb::Report,
    /// Snapshots it was sent and has not answered.
    sent: Vec<(String, Arc<Stamp>)>,
}

/// Which agents have each object in force, in whatever version: gone through once, so that nobody asks every agent about every object.
#[derive(Debug, Default)]
pub struct Carriers<'a>(BTreeMap<&'a ObjectRef, Vec<(&'a String, &'a Agent)>>);

impl<'a> Carriers<'a> {
    /// Those of one object with their nodes, by node.
    pub fn of(&self, object: &ObjectRef) -> &[(&'a String, &'a Agent)] {
        self.0.get(object).map_or(&[], Vec::as_slice)
    }
}

/// How many unanswered snapshots are remembered: an agent answers in their order, and takes the latest.
const UNANSWERED: usize = 64;

impl Fleet {
    /// The agent of a node.
    pub fn get(&self, node: &str) -> Option<&Agent> {
        self.agents.get(node)
    }

    /// All of them, by node.
    pub fn agents(&self) -> &BTreeMap<String, Agent> {
        &self.agents
    }

    /// Who has what in force now.
    pub fn carriers(&self) -> Carriers<'_> {
        let mut carriers = Carriers::default();
        for (node, agent) in &self.agents {
            for object in agent.stamp.iter().flat_map(|stamp| stamp.carried()) {
                carriers.0.entry(object).or_default().push((node, agent));
            }
        }
        carriers
    }

    /// An agent has said hello on stream `stream`, which ends any other of its node.
    pub fn attach(&mut self, node: &str, stream: u64, hello: pb::Hello, now: Timestamp) {
        let agent = self.agents.entry(node.to_owned()).or_default();
        let stamp = agent.stamp.take().filter(|_| agent.running == hello.config_hash);
        *agent = Agent {
            stream: Some(stream),
            since: now,
            running: hello.config_hash.clone(),
            stamp,
            report: std::mem::take(&mut agent.report),
            hello,
            ..Agent::default()
        };
    }

    /// A stream has ended. A later one of the same node is left alone.
    pub fn detach(&mut self, node: &str, stream: u64, now: Timestamp) {
        if let Some(agent) = self.of(node, stream) {
            (agent.stream, agent.since) = (None, now);
        }
    }

    /// A snapshot was sent. One that already runs there needs no answer, unless another is under way, which may come to be in
    /// force before it.
    pub fn sent(&mut self, node: &str, stream: u64, snapshot: &Snapshot) {
        let Some(agent) = self.of(node, stream) else { return };
        if agent.running == snapshot.hash && agent.sent.iter().all(|(hash, _)| *hash == snapshot.hash) {
            agent.stamp = Some(Arc::clone(&snapshot.stamp));
        }
        agent.sent.retain(|(hash, _)| *hash != snapshot.hash);
        agent.sent.push((snapshot.hash.clone(), Arc::clone(&snapshot.stamp)));
        if agent.sent.len() > UNANSWERED {
            agent.sent.remove(0);
        }
    }

    /// An answer. False where it is about a snapshot that was never sent: it is then taken for nothing.
    pub fn outcome(&mut self, node: &str, stream: u64, outcome: pb::Outcome) -> bool {
        let Some(agent) = self.of(node, stream) else { return false };
        let Some(at) = agent.sent.iter().position(|(hash, _)| *hash == outcome.hash) else { return false };
        // What was sent before it will not be answered any more.
        let answered = agent.sent.drain(..=at).next_back();
        let Some((hash, stamp)) = answered else { return false };
        match outcome.failure {
            None => {
                (agent.running, agent.stamp, agent.refused) = (hash.clone(), Some(Arc::clone(&stamp)), None);
                // It may be sent again with other holders; the answer to that one has the same hash.
                agent.sent.insert(0, (hash, stamp));
            }
            Some(failure) => {
                agent.refused = Some((hash.clone(), failure));
                // It may be tried again and succeed.
                agent.sent.insert(0, (hash, stamp));
            }
        }
        true
    }

    /// What the agent counts now.
    pub fn report(&mut self, node: &str, stream: u64, report: pb::Report) {
        if let Some(agent) = self.of(node, stream) {
            agent.report = report;
        }
    }

    /// Forgets nodes that are gone.
    pub fn retain(&mut self, known: impl Fn(&str) -> bool) {
        self.agents.retain(|node, agent| agent.stream.is_some() || known(node));
    }

    fn of(&mut self, node: &str, stream: u64) -> Option<&mut Agent> {
        self.agents.get_mut(node).filter(|agent| agent.stream == Some(stream))
    }
}

#[cfg(test)]
mod tests;
