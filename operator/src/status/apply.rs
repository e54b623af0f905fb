//! The one place that writes status: differences only, bounded, tried again, with events for what a person must know.
//!
//! ```text
//!   changes, time ─► look: who differs ─► due: in which order, and when ─► requests, AT_ONCE of them ─┐
//!                          ▲  verdict            ▲                                                    │
//!                          └── what was written ─┴──────────────── done, failed ◄─────────────────────┘
//! ```
//! Whether a status differs is asked again when its turn has come: what is written is what is known then.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use callgate_compile::status::ObjectRef;
use callgate_crds::{EgressNodeStatus, ObjectStatus};
use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use kube::{Client, Error};
use tokio::sync::watch;
use tokio::time::Instant;

use super::complaints::Complaints;
use super::dirty::{Dirty, Seen};
use super::due::{Due, Rank, Target, Trouble};
use super::leaving::Leaving;
use super::requests::{self, Write};
use super::tell::{self, Courier, Teller};
use super::verdict::{self, Verdict, Written};
use super::{GRACE, View, events};
use crate::control::Hub;
use crate::facts::{Facts, cluster_key};
use crate::fleet::Fleet;
use crate::moment::Moment;
use crate::publish::Published;
use crate::snapshot::Snapshot;
use crate::watch::Watched;

/// Changes come in crowds (a snapshot is sent, its answer comes some milliseconds later): one write for all of them.
const CROWD: Duration = Duration::from_millis(50);
/// Time passes (agents stay away), counters move: a look at everything, and not only at what has changed.
const LOOK: Duration = Duration::from_secs(2);
/// Objects that are looked at in one go: nobody else gets at the facts and the fleet meanwhile.
const BATCH: usize = 64;
/// Writes at once.
const AT_ONCE: usize = 16;
/// How long one may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How often what was written is compared with what stands there, in case somebody else wrote.
const COMPARE: Duration = Duration::from_secs(60);
/// How long after the last write of an EgressNode it is applied whole again: nobody tells when one is deleted, as they are not watched.
const ANEW: Duration = Duration::from_secs(600);

/// What comes of a write, with what was to be written.
type Outcome = (Rank, Write, Result<(), Failure>);

/// Why a write failed.
enum Failure {
    Api(Error),
    Timeout,
}

/// Writes.
pub struct Writer {
    client: Client,
    hub: Arc<Hub>,
    watched: Watched,
    teller: Teller,
    courier: Option<Courier>,
    serving_since: Moment,
    objects: BTreeMap<ObjectRef, Written<ObjectStatus>>,
    nodes: BTreeMap<String, Written<EgressNodeStatus>>,
    leaving: Leaving,
    seen: Seen,
    /// What the last look was at.
    basis: Option<Basis>,
    due: Due,
    under_way: FuturesUnordered<BoxFuture<'static, Outcome>>,
    complaints: Complaints,
    /// When everything was looked at last.
    looked: Option<Instant>,
    compared: Instant,
}

/// What was compiled, and what nodes should run by that: the two of one time, or an object of today would be measured by the
/// snapshots of yesterday.
struct Basis {
    published: Published,
    wanted: BTreeMap<String, Arc<Snapshot>>,
}

impl Writer {
    /// For a leader that serves agents since `serving_since`; `me` is its pod, for events.
    pub fn new(client: Client, hub: Arc<Hub>, watched: Watched, serving_since: Moment, me: &str) -> Self {
        let (teller, courier) = tell::pair(client.clone(), me, Arc::clone(&hub.metrics));
        Self {
            teller,
            courier: Some(courier),
            client,
            hub,
            watched,
            serving_since,
            objects: BTreeMap::new(),
            nodes: BTreeMap::new(),
            leaving: Leaving::default(),
            seen: Seen::default(),
            basis: None,
            due: Due::default(),
            under_way: FuturesUnordered::new(),
            complaints: Complaints::default(),
            looked: None,
            compared: Instant::now(),
        }
    }

    /// Writes until nothing can be published any more.
    pub async fn run(mut self, published: watch::Receiver<Option<Arc<Published>>>) {
        let courier = self.courier.take();
        let events = async {
            if let Some(courier) = courier {
                courier.run().await;
            }
        };
        tokio::select! {
            () = self.work(published) => {}
            () = events => {}
        }
    }

    /// Looks whenever something has changed, and writes as soon as there is room for it.
    async fn work(&mut self, mut published: watch::Receiver<Option<Arc<Published>>>) {
        let mut changes = self.hub.changes();
        let mut look_at = Instant::now() + LOOK;
        loop {
            let room = self.under_way.len() < AT_ONCE;
            let wake = self.due.wake(Instant::now()).filter(|_| room).map_or(look_at, |at| at.min(look_at));
            tokio::select! {
                changed = published.changed() => match changed {
                    Ok(()) => look_at = look_at.min(Instant::now() + CROWD),
                    Err(_) => return,
                },
                _ = changes.changed() => look_at = look_at.min(Instant::now() + CROWD),
                Some(outcome) = self.under_way.next() => self.ended(outcome, Instant::now()),
                () = tokio::time::sleep_until(wake) => {}
            }
            let now = Moment::now();
            if now.instant >= look_at {
                changes.mark_unchanged();
                let latest = published.borrow_and_update().clone();
                if let Some(latest) = latest {
                    self.look(&latest, now);
                }
                look_at = now.instant + LOOK;
            }
            self.start(now);
        }
    }

    /// Compares what has something new, now and then everything, with what stands there: what differs is due.
    fn look(&mut self, published: &Published, now: Moment) {
        self.compare(now.instant);
        // Also for whoever reads metrics.
        self.hub.note(|fleet| fleet.lapse(now.instant, GRACE));
        let everything = self.looked.is_none_or(|looked| now.instant >= looked + LOOK);
        if everything {
            self.forget(published);
        }
        let basis = Basis { published: published.clone(), wanted: self.hub.board.latest() };
        self.hub.note(|fleet| fleet.awaits(&basis.wanted, now));
        self.leaving.note(published);
        let left = self.hub.with_fleet(|fleet| self.leaving.take(&basis.wanted, fleet));
        for (object, uid) in left {
            self.teller.tell(object, uid, events::removed());
        }
        let hub = Arc::clone(&self.hub);
        let settled = hub.with_fleet(|fleet| {
            let view = self.view(&basis, fleet, now);
            view.is_settled().then(|| self.seen.take(published, view))
        });
        let Some(mut dirty) = settled else { return };
        if everything {
            self.looked = Some(now.instant);
            let nodes = self.watched.facts().nodes.objects().keys().map(|key| key.name.clone()).collect();
            dirty = Dirty { objects: published.compiled.statuses.keys().cloned().collect(), nodes };
        }
        let objects = dirty.objects.into_iter().map(Target::Object);
        let targets: Vec<Target> = objects.chain(dirty.nodes.into_iter().map(Target::Node)).collect();
        for batch in targets.chunks(BATCH) {
            let facts = self.watched.facts();
            let found: Vec<(&Target, Verdict)> = self.hub.with_fleet(|fleet| {
                let view = self.view(&basis, fleet, now);
                let verdict = |target| Some((target, self.verdict(&basis, &facts, target, view)?));
                batch.iter().filter_map(verdict).collect()
            });
            drop(facts);
            for (target, verdict) in found {
                let (rank, at) = match verdict {
                    Verdict::Write(write) => (write.rank(), now.instant),
                    Verdict::Postpone(at) => (Rank::Counters, at),
                };
                self.due.put(rank, target.clone(), at, now.instant);
            }
        }
        self.basis = Some(basis);
    }

    /// Begins with as many writes as there may be at once.
    fn start(&mut self, now: Moment) {
        while self.under_way.len() < AT_ONCE {
            let Some(basis) = &self.basis else { return };
            let Some(target) = self.due.take(now.instant) else { return };
            let facts = self.watched.facts();
            let verdict =
                self.hub.with_fleet(|fleet| self.verdict(basis, &facts, &target, self.view(basis, fleet, now)));
            drop(facts);
            match verdict {
                // It is as it should be by now.
                None => self.due.dropped(&target, now.instant),
                Some(Verdict::Postpone(at)) => {
                    self.due.dropped(&target, now.instant);
                    self.due.put(Rank::Counters, target, at, now.instant);
                }
                Some(Verdict::Write(mut write)) => {
                    let (client, rank) = (self.client.clone(), write.rank());
                    self.under_way.push(Box::pin(async move {
                        let result = match tokio::time::timeout(TIMEOUT, write.carry_out(&client)).await {
                            Ok(result) => result.map_err(Failure::Api),
                            Err(_) => Err(Failure::Timeout),
                        };
                        (rank, *write, result)
                    }));
                }
            }
        }
    }

    /// Takes note of what has come of a write.
    fn ended(&mut self, (rank, write, result): Outcome, at: Instant) {
        self.hub.metrics.status_written(result.is_ok());
        let target = write.target();
        match result {
            Ok(()) => {
                self.due.done(&target, at);
                self.written(write, at);
            }
            Err(Failure::Timeout) => {
                self.complain(&target, "time", "the API server did not answer in time", at);
                self.due.failed(rank, target, Trouble::Failed, at);
            }
            Err(Failure::Api(error)) => {
                let absent = matches!(&error, Error::Api(status) if status.code == 404);
                match (&target, absent) {
                    // Most likely deleted meanwhile.
                    (Target::Object(_), true) => {}
                    // One that is not there is made.
                    (Target::Node(_), true) => {
                        let why = format!("{error}: is the definition of EgressNodes installed?");
                        self.complain(&target, &requests::kind(&target, &error), &why, at);
                    }
                    (Target::Object(_) | Target::Node(_), false) => {
                        self.complain(&target, &requests::kind(&target, &error), &error.to_string(), at);
                    }
                }
                self.due.failed(rank, target, requests::trouble(&error), at);
            }
        }
    }

    fn written(&mut self, write: Write, at: Instant) {
        match write {
            Write::Object { object, uid, before, after } => {
                for note in events::notes(&before, &after) {
                    self.teller.tell(object.clone(), uid.clone(), note);
                }
                self.objects.insert(object, Written { status: after, uid, at });
            }
            Write::Node { node, uid, after, .. } => {
                self.nodes.insert(node, Written { status: after, uid, at });
            }
        }
    }

    fn complain(&mut self, target: &Target, kind: &str, why: &str, now: Instant) {
        if let Some(others) = self.complaints.tell(kind, now) {
            tracing::warn!(others, "writing the status of {target}: {why}");
        }
    }

    /// Forgets what was written where something else stands there, long after.
    fn compare(&mut self, now: Instant) {
        let old = |at: Instant, age: Duration| now >= at + age;
        if !old(self.compared, COMPARE) {
            return;
        }
        self.compared = now;
        let facts = self.watched.facts();
        self.objects.retain(|object, written| {
            facts.told(object).is_some_and(|told| told.status == written.status || !old(written.at, COMPARE))
        });
        self.nodes.retain(|node, written| facts.nodes.get(&cluster_key(node)).is_some() && !old(written.at, ANEW));
    }

    /// Forgets what is gone: no compile comes when an agent leaves after its node.
    fn forget(&mut self, published: &Published) {
        let facts = self.watched.facts();
        let is_there = |node: &str| facts.nodes.get(&cluster_key(node)).is_some();
        self.hub.note(|fleet| fleet.retain(is_there));
        self.due.retain(|target| match target {
            Target::Object(object) => published.compiled.statuses.contains_key(object),
            Target::Node(node) => is_there(node),
        });
    }

    fn verdict(&self, basis: &Basis, facts: &Facts, target: &Target, view: View<'_>) -> Option<Verdict> {
        match target {
            Target::Object(object) => {
                let said = basis.published.compiled.statuses.get(object)?;
                let compiled = basis.published.uids.get(object);
                // Made anew since the compile: what is known is about its predecessor.
                let told = facts.told(object).filter(|told| compiled == Some(&told.uid))?;
                verdict::of_object(object, said, told, self.objects.get(object), view)
            }
            Target::Node(node) => {
                // One that only an agent speaks of has no object to go with.
                let fact = facts.nodes.get(&cluster_key(node))?;
                verdict::of_node(node, fact, self.nodes.get(node), view)
            }
        }
    }

    fn view<'a>(&self, basis: &'a Basis, fleet: &'a Fleet, now: Moment) -> View<'a> {
        View { wanted: &basis.wanted, fleet, serving_since: self.serving_since, now }
    }
}

#[cfg(test)]
mod tests;
