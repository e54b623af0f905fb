//! The directory of manifests as a source of configurations: read, compiled, and what was good of it kept.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use anyhow::Result;
use callgate_compile::manifests::Problem;
use callgate_compile::world::World;
use callgate_compile::{LastGood, compile};

use super::manifests::Manifests;
use super::watch::{self, Watch};
use crate::api::Answers;
use crate::args::Standalone;
use crate::run::{Holders, Refused, Report, Source, Wanted};
use crate::state::StateDir;

/// File names in the state directory.
const MANIFESTS: &str = "manifests.json";
const LAST_GOOD: &str = "last-good.json";

/// Name of the only node.
const NODE: &str = "standalone";

/// The directory, watched.
pub(super) struct Directory {
    manifests: Manifests,
    watch: Watch,
    /// A change has been told of that may not be whole yet.
    unsettled: bool,
    cluster_nets: Vec<ipnet::Ipv4Net>,
    state: Arc<StateDir>,
    last_good: Option<LastGood>,
    /// What becomes `last_good` when what was compiled last is in force.
    next_good: Option<LastGood>,
}

impl Directory {
    /// # Errors
    /// When the directory cannot be watched.
    pub(super) fn open(args: &Standalone, state: Arc<StateDir>) -> Result<Self> {
        let watch = watch::watch(&args.manifests)?;
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
        Ok(Self {
            manifests: Manifests::new(&args.manifests, texts),
            watch,
            unsettled: false,
            cluster_nets: args.cluster_nets.clone(),
            state,
            last_good,
            next_good: None,
        })
    }
}

impl Source for Directory {
    fn attached(&mut self, _: Answers, _: &Arc<Report>) {}

    async fn news(&mut self) {
        match self.watch.recv().await {
            Some(()) => self.unsettled = true,
            // Whoever tells has ended: what changes is found by looking.
            None => std::future::pending().await,
        }
    }

    fn changed(&mut self) -> bool {
        self.manifests.changed(&self.watch.unfinished())
    }

    async fn wanted(&mut self) -> Option<Wanted> {
        if std::mem::take(&mut self.unsettled) {
            self.watch.settle().await;
        }
        let (mut world, problems) = self.manifests.read(&self.watch.unfinished());
        world.cluster_nets.clone_from(&self.cluster_nets);
        for Problem { file, line, object, field, message } in &problems {
            tracing::warn!(file, line, object, field, "{message}");
        }
        let mut compiled = compile(&world, self.last_good.as_ref());
        for (object, status) in &compiled.statuses {
            for condition in status.conditions.iter().filter(|condition| !condition.holds()) {
                tracing::warn!(%object, reason = %condition.reason, "{}", condition.message);
            }
        }
        self.next_good = Some(compiled.last_good);
        Some(Wanted {
            config: compiled.nodes.remove(NODE).unwrap_or_default(),
            holders: Arc::new(holders(&world)),
            // Manifests do not say whether a pod of the same name is the same pod.
            tenants: BTreeMap::new(),
            statuses: compiled.statuses,
            problems,
        })
    }

    fn before(&mut self, _: &Wanted) -> io::Result<()> {
        // The directory itself is what the next start reads; what was good of it is saved once it is in force.
        Ok(())
    }

    fn outcome(&mut self, _: &Wanted, result: Result<(), Refused>) {
        let Ok(()) = result else { return };
        self.last_good = self.next_good.take().or(self.last_good.take());
        let saved = self.state.save_durably(MANIFESTS, self.manifests.saved());
        let saved = saved.and_then(|()| self.state.save_durably(LAST_GOOD, &self.last_good));
        if let Err(error) = saved {
            tracing::warn!("what is good could not be saved for the next start: {error}");
        }
    }
}

/// Which running pod of the manifests has which address.
fn holders(world: &World) -> Holders {
    let running = world.pods.iter().filter(|(_, pod)| !pod.finished && !pod.host_network);
    running.flat_map(|(key, pod)| pod.addresses.iter().map(move |address| (*address, key.clone()))).collect()
}
