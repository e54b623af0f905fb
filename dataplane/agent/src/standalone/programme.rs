//! From manifests to what runs: compile, put into the kernel, tell the ALG, say so.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use callgate_compile::manifests::Problem;
use callgate_compile::status::Statuses;
use callgate_compile::{LastGood, compile};
use callgate_proto::model::NodeConfig;

use super::SharedKernel;
use super::manifests::Manifests;
use super::report::{Report, Runs};
use crate::alg::Handle;
use crate::args::Standalone;
use crate::kernel::{self, Applied};
use crate::state::StateDir;

/// File names in the state directory.
const MANIFESTS: &str = "manifests.json";
const LAST_GOOD: &str = "last-good.json";

/// Name of the only node.
const NODE: &str = "standalone";

/// What the manifests came to, before it is carried out.
struct Next {
    config: Arc<NodeConfig>,
    problems: Vec<Problem>,
    statuses: Statuses,
    last_good: LastGood,
}

/// What turns manifests into what runs.
pub(super) struct Programme {
    manifests: Manifests,
    cluster_nets: Vec<ipnet::Ipv4Net>,
    ready_file: Option<PathBuf>,
    state: Arc<StateDir>,
    shared: SharedKernel,
    report: Arc<Report>,
    last_good: Option<LastGood>,
    handle: Option<Handle>,
    running: Option<Arc<NodeConfig>>,
}

impl Programme {
    pub(super) fn new(args: &Standalone, state: Arc<StateDir>, shared: SharedKernel, report: Arc<Report>) -> Self {
        let saved = |name| {
            move |error| {
                tracing::warn!("{name} in the state directory cannot be read ({error}); starting without it");
                None
            }
        };
        let texts = state.load(MANIFESTS).unwrap_or_else(saved(MANIFESTS)).unwrap_or_default();
        let last_good = state.load(LAST_GOOD).unwrap_or_else(|error| {
            tracing::warn!("{LAST_GOOD} in the state directory cannot be read ({error}); starting without it");
            None
        });
        Self {
            manifests: Manifests::new(&args.manifests, texts),
            cluster_nets: args.cluster_nets.clone(),
            ready_file: args.ready_file.clone(),
            state,
            shared,
            report,
            last_good,
            handle: None,
            running: None,
        }
    }

    /// From now on the ALG is told too.
    pub(super) async fn attach(&mut self, handle: Handle) {
        if let Some(config) = &self.running {
            handle.configure(Arc::clone(config)).await;
            self.ready();
        }
        self.handle = Some(handle);
    }

    /// Reads, compiles and applies everything anew.
    ///
    /// The ALG hears of it first: a client that the kernel already steers to it must not be refused, and both sides of calls whose
    /// rule is gone are told while their flows still exist.
    pub(super) async fn reload(&mut self) {
        let begun = Instant::now();
        let next = self.compile();
        if let Some(handle) = &self.handle {
            handle.configure(Arc::clone(&next.config)).await;
        }
        let applied = {
            let mut guard = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(shared) = guard.as_mut() else { return };
            let own = shared.own.clone();
            shared.kernel.apply(&next.config, &own)
        };
        match applied {
            Ok(applied) => self.applied(next, applied, begun),
            Err(error) => {
                self.failed(&next, &error);
                if let (Some(handle), Some(running)) = (&self.handle, &self.running) {
                    handle.configure(Arc::clone(running)).await;
                }
            }
        }
    }

    /// What the manifests say now; problems are logged.
    fn compile(&mut self) -> Next {
        let (mut world, problems) = self.manifests.read();
        world.cluster_nets.clone_from(&self.cluster_nets);
        self.report.pods(&world.pods);
        for Problem { file, line, object, field, message } in &problems {
            tracing::warn!(file, line, object, field, "{message}");
        }
        let mut compiled = compile(&world, self.last_good.as_ref());
        for (object, status) in &compiled.statuses {
            for condition in status.conditions.iter().filter(|condition| !condition.holds()) {
                tracing::warn!(%object, reason = %condition.reason, "{}", condition.message);
            }
        }
        let config = Arc::new(compiled.nodes.remove(NODE).unwrap_or_default());
        Next { config, problems, statuses: compiled.statuses, last_good: compiled.last_good }
    }

    fn applied(&mut self, next: Next, applied: Applied, begun: Instant) {
        let Next { config, problems, statuses, last_good } = next;
        let hash = config.content_hash();
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
        self.last_good = Some(last_good);
        self.running = Some(Arc::clone(&config));
        self.report.update(&statuses, problems, Ok(Runs { config, hash, applied }));
        self.save();
        if self.handle.is_some() {
            self.ready();
        }
    }

    fn failed(&self, next: &Next, error: &kernel::Error) {
        tracing::error!("the configuration could not be put into the kernel; what ran before goes on: {error}");
        self.report.update(&next.statuses, next.problems.clone(), Err(error.to_string()));
        if let Some(file) = &self.ready_file {
            let _ = std::fs::remove_file(file);
        }
    }

    /// Looks after what nobody tells of: files that changed unnoticed, and an apply that failed is tried again.
    pub(super) async fn tick(&mut self) {
        if self.manifests.changed() || !self.report.is_programmed() {
            self.reload().await;
        } else {
            self.look().await;
        }
    }

    /// Puts our table back if somebody has changed or removed it.
    pub(super) async fn look(&mut self) {
        let intact = {
            let mut guard = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
            guard.as_mut().map(|shared| shared.kernel.intact())
        };
        match intact {
            None | Some(Ok(true)) => {}
            Some(Ok(false)) => {
                tracing::warn!("somebody has changed or removed our nftables table: it is put back");
                self.reload().await;
            }
            Some(Err(error)) => tracing::warn!("whether our nftables table is as it was cannot be told: {error}"),
        }
    }

    fn save(&self) {
        let saved = self.state.save(MANIFESTS, self.manifests.saved());
        let saved = saved.and_then(|()| self.state.save(LAST_GOOD, &self.last_good));
        if let Err(error) = saved {
            tracing::warn!("what is good could not be saved for the next start: {error}");
        }
    }

    fn ready(&self) {
        if let Some(file) = self.ready_file.as_ref().filter(|_| self.report.is_programmed())
            && let Err(error) = std::fs::write(file, b"")
        {
            tracing::error!("--ready-file {} cannot be written: {error}", file.display());
        }
    }
}
