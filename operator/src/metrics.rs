//! What the operator counts, and what agents have reported to it, for Prometheus.
//!
//! ```text
//!  what it does itself ─► Metrics ─────────────────┐
//!  what agents report ──► fleet ─► nodes::of_nodes ─┴─► text (OpenMetrics) ─► /metrics
//! ```

mod nodes;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use callgate_proto::pb;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use prost::Message as _;

use crate::tls::Handshakes;

pub use nodes::of_nodes;

/// One label.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: String,
}

/// One label.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Result_ {
    result: &'static str,
}

/// What becomes of a snapshot.
const OUTCOMES: [&str; 2] = ["applied", "refused"];

/// What becomes of a write of status.
const WRITES: [&str; 2] = ["done", "failed"];

/// What becomes of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It was written.
    Done,
    /// It could not be.
    Failed,
    /// Too many others waited.
    Dropped,
}

impl Fate {
    const ALL: [Self; 3] = [Self::Done, Self::Failed, Self::Dropped];

    fn result(self) -> Result_ {
        let result = match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Dropped => "dropped",
        };
        Result_ { result }
    }
}

/// All of them.
pub struct Metrics {
    registry: Registry,
    /// Agents attached now.
    pub agents: Gauge,
    /// 1 while this operator leads.
    pub leader: Gauge,
    /// How long a compile takes, publication included.
    pub compile: Histogram,
    /// Handshakes with agents.
    pub handshakes: Arc<Handshakes>,
    refusals: Family<Reason, Counter>,
    outcomes: Family<Result_, Counter>,
    snapshots: Counter,
    snapshot_bytes: Counter,
    status_writes: Family<Result_, Counter>,
    events: Family<Result_, Counter>,
    handshake_counts: [(Counter, AtomicU64); 2],
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("callgate_operator");
        // 1 ms to 4 s.
        let compile = Histogram::new(exponential_buckets(0.001, 2.0, 13));
        let metrics = Self {
            agents: Gauge::default(),
            leader: Gauge::default(),
            compile,
            handshakes: Arc::default(),
            refusals: Family::default(),
            outcomes: Family::default(),
            snapshots: Counter::default(),
            snapshot_bytes: Counter::default(),
            status_writes: Family::default(),
            events: Family::default(),
            handshake_counts: Default::default(),
            registry: Registry::default(),
        };
        registry.register("agents_attached", "Agents attached now", metrics.agents.clone());
        registry.register("leader", "1 while this operator leads", metrics.leader.clone());
        let compile = metrics.compile.clone();
        registry.register_with_unit("compile", "Compile and publication", Unit::Seconds, compile);
        registry.register("agent_refusals", "Agents not let in, by reason", metrics.refusals.clone());
        registry.register("snapshot_outcomes", "Snapshots answered by agents", metrics.outcomes.clone());
        registry.register("snapshots_sent", "Snapshots sent to agents", metrics.snapshots.clone());
        registry.register("snapshot_sent_bytes", "Bytes of snapshots sent to agents", metrics.snapshot_bytes.clone());
        registry.register("status_writes", "Writes of status, by result", metrics.status_writes.clone());
        registry.register("events", "Events about objects, by what became of them", metrics.events.clone());
        let [done, failed] = &metrics.handshake_counts;
        registry.register("tls_handshakes", "TLS handshakes with agents", done.0.clone());
        registry.register("tls_handshakes_failed", "TLS handshakes that failed", failed.0.clone());
        // From 0 on: Prometheus sees no increase in a line that begins with the first one.
        for result in OUTCOMES {
            drop(metrics.outcomes.get_or_create(&Result_ { result }));
        }
        for result in WRITES {
            drop(metrics.status_writes.get_or_create(&Result_ { result }));
        }
        for fate in Fate::ALL {
            drop(metrics.events.get_or_create(&fate.result()));
        }
        Self { registry, ..metrics }
    }
}

impl Metrics {
    /// An agent was not let in.
    pub fn refused(&self, reason: &str) {
        self.refusals.get_or_create(&Reason { reason: reason.to_owned() }).inc();
    }

    /// How many were refused for this reason.
    pub fn refusals(&self, reason: &str) -> u64 {
        self.refusals.get_or_create(&Reason { reason: reason.to_owned() }).get()
    }

    /// A snapshot was sent.
    pub fn sent(&self, snapshot: &pb::Snapshot) {
        self.snapshots.inc();
        self.snapshot_bytes.inc_by(snapshot.encoded_len() as u64);
    }

    /// A snapshot was answered.
    pub fn outcome(&self, applied: bool) {
        self.outcomes.get_or_create(&Result_ { result: OUTCOMES[usize::from(!applied)] }).inc();
    }

    /// A status was written, or could not be.
    pub fn status_written(&self, done: bool) {
        self.status_writes.get_or_create(&Result_ { result: WRITES[usize::from(!done)] }).inc();
    }

    /// What became of an event.
    pub fn event(&self, fate: Fate) {
        self.events.get_or_create(&fate.result()).inc();
    }

    /// How many events it became of.
    pub fn events(&self, fate: Fate) -> u64 {
        self.events.get_or_create(&fate.result()).get()
    }

    /// The text that Prometheus reads (OpenMetrics), with what agents have reported behind it.
    pub fn text(&self, of_nodes: &Registry) -> String {
        let totals = [&self.handshakes.done, &self.handshakes.failed];
        for ((counter, seen), total) in self.handshake_counts.iter().zip(totals) {
            let total = total.load(Ordering::Relaxed);
            counter.inc_by(total.saturating_sub(seen.swap(total, Ordering::Relaxed)));
        }
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = text::encode_registry(&mut text, &self.registry);
        let _ = text::encode_registry(&mut text, of_nodes);
        let _ = text::encode_eof(&mut text);
        text
    }
}
