//! From what is wanted to what runs: put into the kernel, tell the ALG, say so.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use callgate_proto::model::NodeConfig;

use super::SharedKernel;
use super::guests::{Ends, Guests};
use super::ready::Ready;
use super::report::{Report, Runs, goes_on};
use super::source::{Refused, Source, Wanted};
use crate::alg::Handle;
use crate::alg::node::Shared;
use crate::api::Answers;
use crate::kernel::{self, Applied};
use crate::netlink::Doors;

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
        Self { source, guests, doors, ready, shared, report, handle: None, running: None, gone: BTreeSet::new() }
    }

    /// From now on the ALG is told too, and whoever gives the configurations hears of it.
    pub(super) async fn attach(&mut self, handle: Handle) {
        self.guests.attach(handle.clone());
        handle.end_clients(std::mem::take(&mut self.gone)).await;
        if let Some(config) = &self.running {
            handle.configure(Arc::clone(config)).await;
            self.ready.set(self.report.is_programmed());
        }
        self.source.attached(Answers::new(&self.report, handle.clone(), &self.shared), &self.report);
        self.handle = Some(handle);
    }

    /// Asks, and applies everything anew.
    ///
    /// The ALG hears of it first: a client that the kernel already steers to it must not be refused, and both sides of calls whose
    /// rule is gone are told while their flows still exist. What clients had whose address is somebody else's ends before that, so that
    /// nothing is said to whoever that is; what all had that are gone, at the end: by then no new flow of theirs can begin under
    /// the old rules.
    pub(super) async fn reload(&mut self) {
        let begun = Instant::now();
        let Some(wanted) = self.source.wanted().await else { return };
        self.report.pods(Arc::clone(&wanted.holders));
        let Ends { silent, all: gone } = self.guests.settle(&wanted, &self.doors);
        if let Err(error) = self.source.before(&wanted) {
            let message = format!("it cannot be saved, so it does not take effect: {error}; make room in --state-dir");
            return self.failed(&wanted, String::new(), message);
        }
        if let Some(handle) = &self.handle {
            handle.end_clients(silent).await;
            handle.configure(self.guests.present(&wanted.config)).await;
        }
        match self.put(&wanted.config, &gone) {
            None => {}
            Some(Ok((config, applied))) => {
                match &self.handle {
                    Some(handle) => {
                        // The ALG has ended: the loop is about to hear of it, and nobody is told that this is in force.
                        if !handle.end_clients(gone.clone()).await {
                            return;
                        }
                    }
                    None => self.gone.extend(&gone),
                }
                self.guests.settled(&gone);
                self.applied(&wanted, config, applied, begun);
            }
            Some(Err(error)) => {
                let object = error.object().unwrap_or_default().to_owned();
                self.failed(&wanted, object, error.to_string());
                if let (Some(handle), Some(running)) = (&self.handle, &self.running) {
                    handle.configure(Arc::clone(running)).await;
                }
            }
        }
    }

    /// What of `wanted` is in force then. `None` while the agent is being stopped.
    fn put(
        &self,
        wanted: &Arc<NodeConfig>,
        gone: &BTreeSet<Ipv4Addr>,
    ) -> Option<Result<(Arc<NodeConfig>, Applied), kernel::Error>> {
        self.kernel(|shared| {
            // Whatever is wanted: without these nothing of what runs is whole.
            shared.kernel.mend().inspect_err(|error| self.report.broken(error.to_string()))?;
            // Looked at here: who has left by now, and not when the loop began, must not come back into force.
            let config = self.guests.present(wanted);
            let applied = shared.kernel.apply(&config, &shared.own)?;
            shared.kernel.forget_sources(gone)?;
            Ok((config, applied))
        })
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

    /// `config` is what is in force of it.
    fn applied(&mut self, wanted: &Wanted, config: Arc<NodeConfig>, applied: Applied, begun: Instant) {
        let hash = wanted.config.content_hash();
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
        self.running = Some(Arc::clone(&config));
        self.report.update(&wanted.statuses, wanted.problems.clone(), Ok(Runs { config, hash, applied }));
        self.source.outcome(wanted, Ok(()));
        if self.handle.is_some() {
            self.ready.set(true);
        }
    }

    fn failed(&mut self, wanted: &Wanted, object: String, message: String) {
        if wanted.config.content_hash() == self.report.hash() {
            self.report.broken(message.clone());
        }
        let broken = self.report.is_broken();
        tracing::error!("the configuration could not be put into the kernel; {}: {message}", goes_on(broken));
        self.report.update(&wanted.statuses, wanted.problems.clone(), Err(message.clone()));
        self.ready.set(false);
        self.source.outcome(wanted, Err(Refused { object, message, broken }));
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
