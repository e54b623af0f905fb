//! Compiles what is known and gives it to whoever waits for it.
//!
//! In a thread of its own: however long it takes, the Lease is renewed, agents are heard, and a signal ends the wait.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use callgate_compile::world::World;
use callgate_compile::{LastGood, Since};
use tokio::sync::watch;

use super::lead::Leader;
use crate::control::Hub;
use crate::facts::{self, Settings, cluster_nets};
use crate::publish::{Published, SharedWorld};
use crate::watch::Watched;

/// Changes come in crowds: what comes within this time of the first is compiled with it.
const CROWD: Duration = Duration::from_millis(5);
/// While compiling takes longer than that, it may have this share of the time.
const COMPILE_SHARE: u32 = 2;

/// The latest compile.
pub(super) type Latest = Option<Arc<Published>>;

/// Compiles and publishes.
pub(super) struct Compiler {
    work: Arc<Mutex<Work>>,
    kept: watch::Sender<Arc<LastGood>>,
    published: watch::Sender<Latest>,
}

/// What the thread works with.
struct Work {
    hub: Arc<Hub>,
    watched: Watched,
    settings: Settings,
    compiler: callgate_compile::Compiler,
    world: SharedWorld,
    nets: Vec<facts::ClusterNet>,
}

impl Compiler {
    /// Nothing is compiled yet; `kept` is told what of it is to be read by the next leader, `published` all of it.
    pub(super) fn new(
        leader: &Leader,
        before: Option<LastGood>,
        kept: watch::Sender<Arc<LastGood>>,
        published: watch::Sender<Latest>,
    ) -> Self {
        let Leader { hub, watched, settings, .. } = leader;
        let work = Work {
            hub: Arc::clone(hub),
            watched: watched.clone(),
            settings: settings.clone(),
            compiler: callgate_compile::Compiler::new(before),
            world: SharedWorld::new(World::cluster()),
            nets: Vec::new(),
        };
        Self { work: Arc::new(Mutex::new(work)), kept, published }
    }

    /// Hears of every compile.
    pub(super) fn subscribe(&self) -> watch::Receiver<Latest> {
        self.published.subscribe()
    }

    /// Compiles at each change.
    pub(super) async fn follow(&mut self, mut changes: watch::Receiver<u64>) -> Infallible {
        loop {
            // Never an error: what is watched is here too.
            let _ = changes.changed().await;
            tokio::time::sleep(CROWD).await;
            changes.mark_unchanged();
            let began = Instant::now();
            self.publish().await;
            tokio::time::sleep((began.elapsed() * COMPILE_SHARE).saturating_sub(CROWD)).await;
        }
    }

    /// Compiles what has changed. Dropped before its end (a signal, the Lease lost) it publishes nothing, and this is of no use any more.
    pub(super) async fn publish(&mut self) {
        let waiting = Arc::new(());
        let (work, wanted) = (Arc::clone(&self.work), Arc::downgrade(&waiting));
        let compiled = tokio::task::spawn_blocking(move || lock(&work).compile(|| wanted.strong_count() > 0)).await;
        drop(waiting);
        let now = match compiled {
            Ok(Some(now)) => now,
            // Only where nobody waits.
            Ok(None) => return,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        if *self.kept.borrow().as_ref() != now.compiled.last_good {
            self.kept.send_replace(Arc::new(now.compiled.last_good.clone()));
        }
        self.published.send_replace(Some(Arc::new(now)));
    }
}

impl Work {
    /// Compiles; what it comes to is put up if it is still `wanted` then.
    fn compile(&mut self, wanted: impl Fn() -> bool) -> Option<Published> {
        let began = Instant::now();
        let (since, nets, uids) = {
            let mut facts = self.watched.facts();
            let since = facts::update(&mut self.world.write(), &mut facts, &self.settings);
            // They are not made of pods.
            let nets = (since == Since::Everything).then(|| cluster_nets(&facts, &self.settings.cluster_cidrs));
            (since, nets, facts.uids())
        };
        let world = self.world.read();
        if let Some(nets) = nets.filter(|nets| *nets != self.nets) {
            let (new, gone) = (only(&nets, &self.nets), only(&self.nets, &nets));
            tracing::info!(known = nets.len(), new, gone, "networks of the cluster, which are never looked at");
            self.nets = nets;
        }
        let compiled = self.compiler.compile_since(&world, &since);
        if !wanted() {
            return None;
        }
        let changed = self.hub.board.publish(&world, &compiled.nodes, &since);
        self.hub.change(|fleet| fleet.retain(|node| world.nodes.contains(node)));
        let took = began.elapsed();
        self.hub.metrics.compile.observe(took.as_secs_f64());
        tracing::debug!(?took, pods = world.pods.len(), nodes = changed.len(), "compiled");
        drop(world);
        Some(Published { world: self.world.clone(), compiled: Arc::new(compiled), uids: Arc::new(uids) })
    }
}

fn lock(work: &Mutex<Work>) -> MutexGuard<'_, Work> {
    work.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Those of `nets` that `others` lack, as words; both are sorted.
fn only(nets: &[facts::ClusterNet], others: &[facts::ClusterNet]) -> String {
    let nets = nets.iter().filter(|net| others.binary_search(net).is_err());
    let told: Vec<String> = nets.map(|net| format!("{} ({})", net.net, net.found)).collect();
    if told.is_empty() { "none".to_owned() } else { told.join(", ") }
}

#[cfg(test)]
mod tests;
