//! The operator as a source of configurations: the last snapshot it sent, or the one on disk until it has sent one.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use callgate_compile::objects::objects;
use callgate_compile::status::{Status, Statuses};
use callgate_crds::conditions::Reason;
use callgate_proto::model::NodeConfig;
use callgate_proto::pb;
use tokio::sync::{mpsc, watch};

use super::link::{Ends, Link};
use super::snapshot::Snapshot;
use super::store::Store;
use crate::api::Answers;
use crate::run::{Refused, Report, Source, Wanted};

/// What has come, and what has become of it.
pub(super) struct Operator {
    store: Store,
    /// To start once the ALG runs.
    link: Option<Link>,
    snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    outcomes: mpsc::UnboundedSender<pb::Outcome>,
    /// What is wanted now.
    latest: Option<Arc<Snapshot>>,
    /// What was said last, and need not be said again until the operator asks by sending a snapshot.
    said: Option<pb::Outcome>,
    task: Option<tokio::task::JoinHandle<()>>,
}

impl Operator {
    /// With what is on disk, if anything. `rebooted`: it is of another boot, in which pods had other addresses.
    pub(super) fn new(mut store: Store, link: Link, rebooted: bool) -> Self {
        let stored = store.load().unwrap_or_else(|error| {
            tracing::warn!("the last snapshot on disk cannot be used ({error}): waiting for the operator's");
            None
        });
        let stored = stored.map(|snapshot| if rebooted { snapshot.without_pods() } else { snapshot });
        let (_, snapshots) = watch::channel(None);
        let (outcomes, _) = mpsc::unbounded_channel();
        Self { store, link: Some(link), snapshots, outcomes, latest: stored.map(Arc::new), said: None, task: None }
    }

    fn say(&mut self, outcome: pb::Outcome) {
        if self.said.as_ref() != Some(&outcome) {
            // The other end is gone only when everything ends.
            let _ = self.outcomes.send(outcome.clone());
            self.said = Some(outcome);
        }
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Source for Operator {
    fn attached(&mut self, answers: Answers, report: &Arc<Report>) {
        let Some(link) = self.link.take() else { return };
        let (sender, snapshots) = watch::channel(None);
        let (outcomes, told) = mpsc::unbounded_channel();
        (self.snapshots, self.outcomes) = (snapshots, outcomes);
        let ends = Ends { snapshots: sender, outcomes: told, answers, report: Arc::clone(report) };
        self.task = Some(tokio::spawn(link.run(ends)));
    }

    async fn news(&mut self) {
        if self.snapshots.changed().await.is_err() {
            // Not attached yet.
            std::future::pending::<()>().await;
        }
        self.said = None;
    }

    fn changed(&mut self) -> bool {
        self.snapshots.has_changed().unwrap_or(false)
    }

    async fn wanted(&mut self) -> Option<Wanted> {
        // Found by looking, before `news` could tell. Whatever was said before: whoever sends wants to hear.
        if self.changed() {
            self.said = None;
        }
        if let Some(snapshot) = self.snapshots.borrow_and_update().clone() {
            self.latest = Some(snapshot);
        }
        let snapshot = self.latest.as_ref()?;
        Some(Wanted {
            config: Arc::clone(&snapshot.config),
            holders: Arc::new(snapshot.pods()),
            tenants: snapshot.tenants(),
            statuses: statuses(&snapshot.config),
            problems: Vec::new(),
        })
    }

    fn before(&mut self, _: &Wanted) -> io::Result<()> {
        self.latest.as_ref().map_or(Ok(()), |snapshot| self.store.put(snapshot))
    }

    fn outcome(&mut self, _: &Wanted, result: Result<(), Refused>) {
        let Some(snapshot) = self.latest.clone() else { return };
        let failure = match result {
            Ok(()) => {
                self.store.settled();
                None
            }
            Err(refused) => {
                if refused.in_force {
                    self.store.settled();
                } else if let Err(error) = self.store.take_back() {
                    tracing::warn!("the snapshot before could not be put back on disk: {error}");
                }
                Some(failure(refused))
            }
        };
        self.say(pb::Outcome { hash: snapshot.hash.clone(), failure, sequence: snapshot.sequence });
    }
}

/// Why a snapshot is not in force, as the operator is told.
pub(super) fn failure(Refused { object, message, broken, in_force: _ }: Refused) -> pb::Failure {
    pb::Failure { object, reason: Reason::ApplyFailed.name().to_owned(), message, broken }
}

/// What the local API tells of objects: that this node runs them. Everything else about them is the operator's to say.
fn statuses(config: &NodeConfig) -> Statuses {
    let status = Status {
        observed_generation: 0,
        conditions: Vec::new(),
        nodes: Arc::new(BTreeSet::from([config.node.clone()])),
        clients: 0,
        last_good: false,
        last_good_generation: None,
    };
    objects(config).map(|object| (object, status.clone())).collect()
}
