//! From what is wanted to what runs: put into the kernel, tell the ALG, say so.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use callgate_compile::status::ObjectRef;
use callgate_proto::model::NodeConfig;

use super::SharedKernel;
use super::ends::Gone;
use super::guests::{Came, Guests};
use super::ready::Ready;
use super::report::{Report, Runs, goes_on};
use super::source::{Refused, Source, Wanted};
use super::spared::{Spared, spare};
use crate::alg::Handle;
use crate::alg::node::Shared;
use crate::api::Answers;
use crate::kernel::{self, Applied};
use crate::netlink::Doors;

/// A configuration that is in force, what had to be sent for it, and what it lacks.
type Committed = (Arc<NodeConfig>, Applied, Option<kernel::Error>);

/// What carries configurations out.
pub(super) struct Programme<S> {
    pub(super) source: S,
    guests: Arc<Guests>,
    doors: Doors,
    ready: Ready,
    shared: SharedKernel,
    report: Arc<Report>,
    handle: Option<Handle>,
    running: Option<Arc<NodeConfig>>,
    /// Objects that are not in force as a whole, as people were told.
    short: BTreeMap<ObjectRef, String>,
    /// Clients that had gone before the ALG could be told.
    gone: BTreeSet<Ipv4Addr>,
}

impl<S: Source> Programme<S> {
    pub(super) fn new(
        source: S,
        (guests, doors): (Arc<Guests>, Doors),
        ready: Ready,
        shared: SharedKernel,
        report: Arc<Report>,
    ) -> Self {
        Self {
            source,
            guests,
            doors,
            ready,
            shared,
            report,
            handle: None,
            running: None,
            short: BTreeMap::new(),
            gone: BTreeSet::new(),
        }
    }

    /// From now on the ALG is told too, and whoever gives the configurations hears of it.
    pub(super) async fn attach(&mut self, handle: Handle) {
        self.guests.attach(handle.clone());
        handle.end_clients(std::mem::take(&mut self.gone)).await;
        self.guests.save();
        if let Some(config) = &self.running {
            let there = handle.configure(Arc::clone(config)).await;
            self.ready.set(there && self.report.is_programmed());
        }
        self.source.attached(Answers::new(&self.report, handle.clone(), &self.shared), &self.report);
        self.handle = Some(handle);
    }

    /// Asks, and applies everything anew.
    ///
    /// In this order, so that a configuration the kernel refuses ends nothing and one that it takes loses nothing:
    /// 1. What clients had whose address is somebody else's ends, so that nothing is said to whoever that is.
    /// 2. The ALG expects the rules: a client that the kernel steers to it must not be refused, nor a live connection reset by the
    ///    kernel that its new rules do not know.
    /// 3. The kernel has them.
    /// 4. The ALG has them: both sides of calls whose rule is gone are told while their flows still exist.
    /// 5. Flows of rules and clients that are gone end, and what clients had that are gone: no new flow of theirs can begin under the old
    ///    rules any more.
    pub(super) async fn reload(&mut self) {
        let begun = Instant::now();
        let Some(wanted) = self.source.wanted().await else { return };
        self.report.pods(Arc::clone(&wanted.holders));
        let gone = self.guests.settle(&wanted, &self.doors);
        if let Err(error) = self.source.before(&wanted) {
            let message = format!("it cannot be saved, so it does not take effect: {error}; make room in --state-dir");
            return self.refused(&wanted, &gone, String::new(), message).await;
        }
        let Spared { config: possible, short } = spare(&wanted.config, self.report.missing());
        // Where the ALG has ended, the loop is about to hear of it, and nobody is told that anything is in force.
        if let Some(handle) = &self.handle
            && !(handle.end_clients(gone.silent.clone()).await
                && handle.expect(Some(self.guests.present(&possible))).await)
        {
            return;
        }
        let (config, applied, broken) = match self.commit(&possible) {
            None => return,
            Some(Ok(in_force)) => in_force,
            Some(Err(error)) => {
                let object = error.object().unwrap_or_default().to_owned();
                return self.refused(&wanted, &gone, object, error.to_string()).await;
            }
        };
        self.running = Some(Arc::clone(&config));
        if let Some(handle) = &self.handle
            && !handle.configure(Arc::clone(&config)).await
        {
            return;
        }
        let flows: BTreeSet<Ipv4Addr> = gone.calls.union(&gone.owed).copied().collect();
        let Some((settled, forgotten)) = self.settle(&flows) else { return };
        if !self.end(&gone.calls).await {
            return;
        }
        self.guests.settled(Came { calls: &gone.calls, flows: &flows, forgotten, in_force: Some(&wanted.tenants) });
        let (more, rest) = match settled {
            Ok(more) => (more, None),
            Err(error) => (Applied::default(), Some(error)),
        };
        let mut runs = Runs { config, hash: wanted.config.content_hash(), applied, lacks: None, short };
        runs.applied += more;
        runs.lacks = broken.into_iter().chain(rest).reduce(|all, error| all.joined([error])).map(|e| e.to_string());
        self.in_force(&wanted, runs, begun);
    }

    /// What of `possible` is in force then, what had to be sent for it, and what of its way is missing all the same. `None` while the
    /// agent is being stopped.
    fn commit(&self, possible: &Arc<NodeConfig>) -> Option<Result<Committed, kernel::Error>> {
        self.kernel(|shared| {
            let broken = shared.kernel.mend().err();
            // Looked at here: who has left by now, and not when the loop began, must not come back into force.
            let config = self.guests.present(possible);
            match shared.kernel.commit(&config, &shared.own) {
                Ok(applied) => Ok((config, applied, broken)),
                Err(error) => Err(error.joined(broken)),
            }
        })
    }

    /// Ends flows of rules that are gone, and of these clients. Each of the two whatever becomes of the other; the second one: whether
    /// those of the clients are gone.
    fn settle(&self, clients: &BTreeSet<Ipv4Addr>) -> Option<(Result<Applied, kernel::Error>, bool)> {
        let mut forgotten = false;
        let settled = self.kernel(|shared| {
            let settled = shared.kernel.settle(&shared.own);
            let rest = shared.kernel.forget_sources(clients).err();
            forgotten = rest.is_none();
            kernel::Error::with(settled, rest)
        })?;
        Some((settled, forgotten))
    }

    /// Calls of these end, now or as soon as there is an ALG; false when it has ended.
    async fn end(&mut self, clients: &BTreeSet<Ipv4Addr>) -> bool {
        match &self.handle {
            Some(handle) => handle.end_clients(clients.clone()).await,
            None => {
                self.gone.extend(clients);
                true
            }
        }
    }

    /// With the kernel part as it is known: without what the doorkeeper has taken out meanwhile.
    fn kernel<T>(&self, act: impl FnOnce(&mut Shared) -> Result<T, kernel::Error>) -> Option<Result<T, kernel::Error>> {
        let mut guard = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = guard.as_mut()?;
        let left = self.guests.unconfirmed();
        if let Err(error) = shared.kernel.withdraw(&left) {
            self.guests.not_confirmed(left);
            return Some(Err(error));
        }
        Some(act(shared))
    }

    /// The kernel has taken it.
    fn in_force(&mut self, wanted: &Wanted, runs: Runs, begun: Instant) {
        let Runs { config, hash, applied, lacks, short } = &runs;
        if let Some((object, why)) = short.first_key_value()
            && *short != self.short
        {
            tracing::warn!(objects = short.len(), "{object} is {why}");
        }
        self.short.clone_from(short);
        tracing::info!(
            rules = config.rules.len(),
            sources = config.sources.len(),
            structure_replaced = applied.structure_replaced,
            elements_added = applied.elements_added,
            elements_removed = applied.elements_removed,
            messages = applied.messages_sent,
            ms = begun.elapsed().as_millis() as u64,
            "programmed {}",
            &hash[..12]
        );
        let outcome = match lacks.clone() {
            None => Ok(()),
            Some(message) => {
                tracing::error!("the configuration is in force, but {}: {message}", goes_on(true));
                Err(Refused { object: String::new(), message, broken: true, in_force: true })
            }
        };
        self.ready.set(outcome.is_ok() && self.handle.is_some());
        self.report.in_force(&wanted.statuses, wanted.problems.clone(), runs);
        self.source.outcome(wanted, outcome);
    }

    /// It does not take effect: what ran before does, and is put back where it is not whole. But an address that is another pod's
    /// now is in no rule of the pod before: whose it is does not depend on what is refused.
    async fn refused(&mut self, wanted: &Wanted, gone: &Gone, object: String, mut message: String) {
        let flows: BTreeSet<Ipv4Addr> = gone.silent.union(&gone.owed).copied().collect();
        let (mut withdrawn, mut forgotten) = (false, false);
        let stood = self.kernel(|Shared { kernel, own }| {
            let mended = kernel.mend().err();
            let kept = kernel.withdraw(&gone.silent).err();
            withdrawn = kept.is_none();
            let back = kernel.put_back(own);
            // What is left of the configuration before.
            let unsettled = kernel.settle(own).err();
            let left = kernel.forget_sources(&flows).err();
            forgotten = left.is_none();
            [mended, kept, unsettled, left].into_iter().fold(back, kernel::Error::with)
        });
        let Some(stood) = stood else { return };
        if !self.end(&gone.silent).await {
            return;
        }
        if withdrawn {
            self.guests.settled(Came { calls: &gone.silent, flows: &flows, forgotten, in_force: None });
        }
        let broken = match stood {
            Ok(back) => {
                if back {
                    tracing::warn!(
                        "somebody has changed or removed our nftables table: what ran before is in it again"
                    );
                }
                false
            }
            Err(error) => {
                let error = error.to_string();
                if !message.contains(&error) {
                    message = format!("{message}; and {error}");
                }
                true
            }
        };
        tracing::error!("the configuration could not be put into the kernel; {}: {message}", goes_on(broken));
        self.ready.set(false);
        self.report.refused(&wanted.statuses, wanted.problems.clone(), message.clone(), broken);
        self.source.outcome(wanted, Err(Refused { object, message, broken, in_force: false }));
        // Where nothing is known to run, whoever the kernel steers by what it has from the run before is judged by what is wanted.
        if let (Some(handle), Some(_)) = (&self.handle, &self.running) {
            handle.expect(None).await;
        }
    }

    /// Looks after what nobody tells of: changes that went unnoticed, and an apply that failed is tried again.
    pub(super) async fn tick(&mut self) {
        if self.source.changed() || !self.report.is_programmed() {
            self.reload().await;
        } else {
            // Links that the doorkeeper has found since.
            self.guests.save();
            self.mend();
            self.look().await;
        }
    }

    /// Puts links, routes and rules back if somebody has taken them away. Until then the kernel drops what was to take them.
    pub(super) fn mend(&mut self) {
        match self.kernel(|shared| shared.kernel.mend()) {
            None | Some(Ok(false)) => {}
            Some(Ok(true)) => {
                tracing::warn!("somebody had taken links, routes or rules of ours away: they are put back")
            }
            Some(Err(error)) => {
                // Said once, and by the tick that tries again.
                if self.report.is_programmed() {
                    tracing::error!(
                        "links, routes or rules of ours cannot be put back; what is steered is dropped: {error}"
                    );
                }
                self.report.broken(error.to_string());
                self.ready.set(false);
            }
        }
    }

    /// Puts our table back if somebody has changed or removed it.
    pub(super) async fn look(&mut self) {
        match self.kernel(|shared| shared.kernel.intact()) {
            None | Some(Ok(true)) => {}
            Some(Ok(false)) => {
                tracing::warn!("somebody has changed or removed our nftables table: it is put back");
                self.reload().await;
            }
            Some(Err(error)) => tracing::warn!("whether our nftables table is as it was cannot be told: {error}"),
        }
    }
}

#[cfg(test)]
#[path = "programme_tests.rs"]
mod tests;
