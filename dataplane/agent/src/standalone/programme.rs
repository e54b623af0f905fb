//! From manifests to what runs: compile, put into the kernel, tell the ALG, say so.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use callgate_compile::{LastGood, compile};
use callgate_proto::model::NodeConfig;

use super::SharedKernel;
use super::manifests::Manifests;
use super::report::{Report, Runs};
use crate::alg::Handle;
use crate::args::Standalone;
use crate::state::StateDir;

/// File names in the state directory.
const MANIFESTS: &str = "manifests.json";
const LAST_GOOD: &str = "last-good.json";

/// Name of the only node.
const NODE: &str = "standalone";

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
        let good = state.load(MANIFESTS).unwrap_or_else(saved(MANIFESTS)).unwrap_or_default();
        let last_good = state.load(LAST_GOOD).unwrap_or_else(|error| {
            tracing::warn!("{LAST_GOOD} in the state directory cannot be read ({error}); starting without it");
            None
        });
        Self {
            manifests: Manifests::new(&args.manifests, good),
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
    pub(super) async fn reload(&mut self) {
        self.reload_kernel();
        if let (Some(handle), Some(config)) = (&self.handle, &self.running) {
            handle.configure(Arc::clone(config)).await;
            self.ready();
        }
    }

    /// The same without the ALG.
    pub(super) fn reload_kernel(&mut self) {
        let begun = Instant::now();
        let (mut world, problems) = self.manifests.read();
        world.cluster_nets.clone_from(&self.cluster_nets);
        self.report.pods(&world.pods);
        for problem in &problems {
            let callgate_compile::manifests::Problem { file, line, object, field, message } = problem;
            tracing::warn!(file, line, object, field, "{message}");
        }
        let compiled = compile(&world, self.last_good.as_ref());
        let config = Arc::new(compiled.nodes.get(NODE).cloned().unwrap_or_default());
        let hash = config.content_hash();
        let applied = {
            let mut guard = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(shared) = guard.as_mut() else { return };
            let own = shared.own.clone();
            shared.kernel.apply(&config, &own)
        };
        match applied {
            Ok(applied) => {
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
                self.last_good = Some(compiled.last_good);
                self.running = Some(Arc::clone(&config));
                self.report.update(&compiled.statuses, problems, Ok(Runs { config, hash, applied }));
                self.save();
            }
            Err(error) => {
                tracing::error!("the configuration could not be put into the kernel; what ran before goes on: {error}");
                self.report.update(&compiled.statuses, problems, Err(error.to_string()));
                if let Some(file) = &self.ready_file {
                    let _ = std::fs::remove_file(file);
                }
            }
        }
        for (object, status) in &compiled.statuses {
            for condition in status.conditions.iter().filter(|condition| !condition.holds()) {
                tracing::warn!(%object, reason = %condition.reason, "{}", condition.message);
            }
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
        let saved = self.state.save(MANIFESTS, self.manifests.good());
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
