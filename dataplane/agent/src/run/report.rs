//! What is told about the state of things: conditions with their times, problems, the configuration that runs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use callgate_compile::manifests::Problem;
use callgate_compile::status::{ObjectRef, Statuses};
use callgate_crds::conditions::{ConditionType, Reason};
use callgate_proto::model::{NodeConfig, ObjectKey};
use callgate_proto::{Optional, pb};

use super::external::missing;
use crate::fast;
use crate::kernel::{Applied, Options};

/// Whether the last configuration is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Programmed {
    /// It is.
    pub value: bool,
    /// Since when it is, or is not, ms of the Unix epoch.
    pub since: i64,
    /// What went wrong; empty when nothing did.
    pub message: String,
}

/// Which pod has which address.
pub type Holders = BTreeMap<Ipv4Addr, ObjectKey>;

/// What the kernel has taken.
pub(super) struct Runs {
    pub(super) config: Arc<NodeConfig>,
    /// Its content hash.
    pub(super) hash: String,
    /// What had to be sent for it.
    pub(super) applied: Applied,
    /// Why it is not whole; `None` when it is.
    pub(super) lacks: Option<String>,
    /// Objects that are in force, but not all of each, as this kernel lacks something.
    pub(super) short: BTreeMap<ObjectRef, String>,
}

/// Shared between whoever programmes and whoever asks.
pub struct Report {
    /// Numbers in use.
    pub options: Options,
    /// `--external-address`.
    pub external: Option<Ipv4Addr>,
    /// What this kernel has, sorted by name.
    pub features: Vec<pb::Feature>,
    /// What of that objects have to do without.
    missing: BTreeSet<Optional>,
    /// Which way GRE takes.
    pub fast: fast::Status,
    inner: RwLock<Inner>,
}

struct Inner {
    config: Arc<NodeConfig>,
    hash: String,
    programmed: Programmed,
    /// What runs is not whole, whatever is wanted.
    broken: bool,
    /// Objects of which not all is in force.
    short: BTreeMap<ObjectRef, String>,
    problems: Vec<Problem>,
    objects: Vec<pb::ObjectStatus>,
    /// When each condition last changed its status.
    since: BTreeMap<(ObjectRef, ConditionType), (bool, i64)>,
    applied: Applied,
    applies: u64,
    holders: Arc<Holders>,
    /// What the source of configurations counts.
    counts: BTreeMap<&'static str, u64>,
    /// Whether the host has the external address; `None` before somebody has looked.
    held: Option<bool>,
}

impl Report {
    /// Nothing is programmed yet.
    pub fn new(options: Options, external: Option<Ipv4Addr>, features: Vec<pb::Feature>) -> Self {
        let programmed = Programmed { value: false, since: now(), message: "starting".to_owned() };
        Self {
            options,
            external,
            missing: Optional::missing(&features),
            features,
            fast: fast::Status::default(),
            inner: RwLock::new(Inner {
                config: Arc::default(),
                hash: String::new(),
                programmed,
                broken: false,
                short: BTreeMap::new(),
                problems: Vec::new(),
                objects: Vec::new(),
                since: BTreeMap::new(),
                applied: Applied::default(),
                applies: 0,
                holders: Arc::default(),
                counts: BTreeMap::new(),
                held: None,
            }),
        }
    }

    /// What objects have to do without on this kernel.
    pub(super) fn missing(&self) -> &BTreeSet<Optional> {
        &self.missing
    }

    /// What this kernel has, which way GRE takes, and whether the host has the external address; sorted by name.
    pub fn features(&self) -> Vec<pb::Feature> {
        let mut features = self.features.clone();
        features.extend(self.fast.get().map(|state| state.feature()));
        features.extend(self.external_feature());
        features.sort_by(|a, b| a.name.cmp(&b.name));
        features
    }

    fn external_feature(&self) -> Option<pb::Feature> {
        let (address, held) = self.external.zip(self.inner.read().unwrap_or_else(PoisonError::into_inner).held)?;
        let detail = if held { format!("{address} (--external-address)") } else { missing(address) };
        Some(pb::Feature { name: "external address".to_owned(), available: held, detail })
    }

    /// Whether the host has the external address; true if that is news.
    pub(super) fn external_is_held(&self, held: bool) -> bool {
        self.inner.write().unwrap_or_else(PoisonError::into_inner).held.replace(held) != Some(held)
    }

    /// Which running pod of the manifests has which address.
    pub fn holders(&self) -> Arc<Holders> {
        Arc::clone(&self.inner.read().unwrap_or_else(PoisonError::into_inner).holders)
    }

    /// The pods as they are now.
    pub(super) fn pods(&self, holders: Arc<Holders>) {
        self.inner.write().unwrap_or_else(PoisonError::into_inner).holders = holders;
    }

    /// One more of what `name` counts.
    pub(crate) fn count(&self, name: &'static str) {
        *self.inner.write().unwrap_or_else(PoisonError::into_inner).counts.entry(name).or_default() += 1;
    }

    /// What runs is no longer whole; until it is found or made so by the next apply.
    pub(crate) fn broken(&self, message: String) {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        if inner.programmed.value {
            inner.programmed.since = now();
        }
        (inner.programmed.value, inner.programmed.message, inner.broken) = (false, message, true);
    }

    /// Whether what runs is not whole: something that it needs has gone, and could not be put back.
    pub(crate) fn is_broken(&self) -> bool {
        self.inner.read().unwrap_or_else(PoisonError::into_inner).broken
    }

    /// Content hash of the configuration that runs and is whole; empty where there is none.
    pub fn whole(&self) -> String {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        if inner.broken { String::new() } else { inner.hash.clone() }
    }

    /// Content hash of the configuration that runs; empty before the first.
    pub fn hash(&self) -> String {
        self.inner.read().unwrap_or_else(PoisonError::into_inner).hash.clone()
    }

    /// As if `config` ran and `holders` were the pods.
    #[cfg(test)]
    pub(crate) fn put(&self, config: NodeConfig, holders: impl IntoIterator<Item = (ObjectKey, Ipv4Addr)>) {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        inner.hash = config.content_hash();
        inner.config = Arc::new(config);
        inner.holders = Arc::new(holders.into_iter().map(|(pod, address)| (address, pod)).collect());
    }

    /// As if it were in force.
    #[cfg(test)]
    pub(crate) fn put_programmed(&self) {
        self.inner.write().unwrap_or_else(PoisonError::into_inner).programmed.value = true;
    }

    /// The kernel has taken a configuration. A new state of things, all of it at once: whoever counts applies must never see one with
    /// the objects of the apply before.
    pub(super) fn in_force(&self, statuses: &Statuses, problems: Vec<Problem>, runs: Runs) {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        let Runs { config, hash, applied, lacks, short } = runs;
        inner.short = short;
        (inner.config, inner.hash, inner.applied, inner.broken) = (config, hash, applied, lacks.is_some());
        inner.applies += 1;
        inner.update(statuses, problems, lacks);
    }

    /// The kernel has refused a configuration; `broken`: what runs is not whole either.
    pub(super) fn refused(&self, statuses: &Statuses, problems: Vec<Problem>, message: String, broken: bool) {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        inner.broken = broken;
        inner.update(statuses, problems, Some(message));
    }

    /// Whether the last configuration is in force.
    pub fn is_programmed(&self) -> bool {
        self.inner.read().unwrap_or_else(PoisonError::into_inner).programmed.value
    }

    /// Why the last configuration is not in force; `None` when it is.
    pub(super) fn not_programmed(&self) -> Option<String> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        (!inner.programmed.value).then(|| inner.programmed.message.clone())
    }

    /// The configuration that runs.
    pub fn config(&self) -> Arc<NodeConfig> {
        Arc::clone(&self.inner.read().unwrap_or_else(PoisonError::into_inner).config)
    }

    /// Everything but connections, calls and the ALG's counters.
    pub fn status(&self) -> pb::StatusReply {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        let counter = |name: &str, value| pb::Counter { name: name.to_owned(), value };
        pb::StatusReply {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            node: inner.config.node.clone(),
            config_hash: inner.hash.clone(),
            programmed: Some(pb::Programmed {
                value: inner.programmed.value,
                since_unix_ms: inner.programmed.since,
                reason: if inner.programmed.value { "Programmed" } else { "ApplyFailed" }.to_owned(),
                message: inner.programmed.message.clone(),
            }),
            objects: inner.objects.clone(),
            counters: [
                // Configurations that the kernel has taken.
                counter("applies", inner.applies),
                // Bytes of netlink messages that the last of them sent.
                counter("last_apply_bytes", inner.applied.bytes as u64),
                // Elements of sets and maps that it added.
                counter("last_apply_elements_added", inner.applied.elements_added as u64),
                // Elements that it removed.
                counter("last_apply_elements_removed", inner.applied.elements_removed as u64),
                // Netlink messages that it sent.
                counter("last_apply_messages", inner.applied.messages_sent as u64),
                // 1 where it changed chains, rules or sets, 0 where only elements.
                counter("last_apply_structure_replaced", u64::from(inner.applied.structure_replaced)),
            ]
            .into_iter()
            .chain(inner.counts.iter().map(|(name, value)| counter(name, *value)))
            .collect(),
            problems: inner
                .problems
                .iter()
                .map(|problem| pb::Problem {
                    file: problem.file.clone(),
                    line: problem.line,
                    message: problem.message.clone(),
                    object: problem.object.clone(),
                    field: problem.field.clone(),
                })
                .collect(),
            path: self.fast.path(),
            ..pb::StatusReply::default()
        }
    }
}

impl Inner {
    /// Everything that is told of objects, after what became of a configuration.
    fn update(&mut self, statuses: &Statuses, problems: Vec<Problem>, failure: Option<String>) {
        if self.programmed.value != failure.is_none() {
            self.programmed.since = now();
        }
        self.programmed.value = failure.is_none();
        self.programmed.message = failure.clone().unwrap_or_default();
        self.problems = problems;
        let failure = failure.map(|message| format!("{message}; {}", goes_on(self.broken)));
        let mut since = BTreeMap::new();
        self.objects = statuses
            .iter()
            .map(|(object, status)| {
                let mut conditions: Vec<(Reason, String)> =
                    status.conditions.iter().map(|c| (c.reason, c.message.clone())).collect();
                let lacks = failure.as_deref().or(self.short.get(object).map(String::as_str));
                conditions.push(programmed(status, lacks));
                let conditions = conditions.into_iter().map(|(reason, message)| {
                    let at = (object.clone(), reason.condition());
                    let before = self.since.get(&at).filter(|(held, _)| *held == reason.holds());
                    let time = before.map_or_else(now, |(_, time)| *time);
                    since.insert(at, (reason.holds(), time));
                    pb::Condition {
                        r#type: reason.condition().name().to_owned(),
                        status: reason.status().to_owned(),
                        reason: reason.name().to_owned(),
                        message,
                        observed_generation: status.observed_generation,
                        last_transition_unix_ms: time,
                    }
                });
                pb::ObjectStatus {
                    kind: object.kind.name().to_owned(),
                    namespace: object.key.namespace.clone(),
                    name: object.key.name.clone(),
                    conditions: conditions.collect(),
                    counters: vec![pb::Counter { name: "clients".into(), value: u64::from(status.clients) }],
                }
            })
            .collect();
        self.since = since;
    }
}

/// What people are told of what runs when something else could not be put in its place.
pub(super) fn goes_on(broken: bool) -> &'static str {
    if broken { "what runs is not whole" } else { "what ran before goes on" }
}

/// The condition `Programmed` of one object.
fn programmed(status: &callgate_compile::status::Status, failure: Option<&str>) -> (Reason, String) {
    // Without conditions somebody else judges objects, and what is not accepted does not come here.
    let accepted = status.conditions.first().is_none_or(callgate_compile::status::Condition::holds);
    if let Some(message) = failure {
        (Reason::ApplyFailed, message.to_owned())
    } else if !accepted && status.last_good {
        (Reason::NotAccepted, "Its last good version goes on running.".to_owned())
    } else if !accepted {
        (Reason::NotAccepted, "See the condition Accepted.".to_owned())
    } else if status.nodes.is_empty() {
        (Reason::NothingToProgram, "No rule uses it, or nothing is selected.".to_owned())
    } else {
        (Reason::Programmed, "In force.".to_owned())
    }
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}
