//! Compiles what is known and gives it to whoever waits for it.

use std::sync::Arc;
use std::time::Instant;

use callgate_compile::world::World;
use callgate_compile::{LastGood, Since};
use tokio::sync::watch;

use super::lead::Leader;
use crate::facts::{self, cluster_nets};
use crate::publish::{Published, SharedWorld};

/// The latest compile.
pub(super) type Latest = Option<Arc<Published>>;

/// Compiles and publishes.
pub(super) struct Compiler<'a> {
    leader: &'a Leader<'a>,
    compiler: callgate_compile::Compiler,
    world: SharedWorld,
    nets: Vec<facts::ClusterNet>,
    kept: watch::Sender<Arc<LastGood>>,
    published: watch::Sender<Latest>,
}

impl<'a> Compiler<'a> {
    /// Nothing is compiled yet; `kept` is told what of it is to be read by the next leader, `published` all of it.
    pub(super) fn new(
        leader: &'a Leader<'a>,
        before: Option<LastGood>,
        kept: watch::Sender<Arc<LastGood>>,
        published: watch::Sender<Latest>,
    ) -> Self {
        let compiler = callgate_compile::Compiler::new(before);
        Self { leader, compiler, world: SharedWorld::new(World::cluster()), nets: Vec::new(), kept, published }
    }

    /// Hears of every compile.
    pub(super) fn subscribe(&self) -> watch::Receiver<Latest> {
        self.published.subscribe()
    }

    /// Compiles what has changed.
    pub(super) fn publish(&mut self) {
        let now = tokio::task::block_in_place(|| self.compile());
        if *self.kept.borrow().as_ref() != now.compiled.last_good {
            self.kept.send_replace(Arc::new(now.compiled.last_good.clone()));
        }
        self.published.send_replace(Some(Arc::new(now)));
    }

    fn compile(&mut self) -> Published {
        let Leader { hub, watched, settings, metrics, .. } = self.leader;
        let began = Instant::now();
        let (since, nets, uids) = {
            let mut facts = watched.facts();
            let since = facts::update(&mut self.world.write(), &mut facts, settings);
            // They are not made of pods.
            let nets = (since == Since::Everything).then(|| cluster_nets(&facts, &settings.cluster_cidrs));
            (since, nets, facts.uids())
        };
        let world = self.world.read();
        if let Some(nets) = nets.filter(|nets| *nets != self.nets) {
            let (new, gone) = (only(&nets, &self.nets), only(&self.nets, &nets));
            tracing::info!(known = nets.len(), new, gone, "networks of the cluster, which are never looked at");
            self.nets = nets;
        }
        let compiled = self.compiler.compile_since(&world, &since);
        let changed = hub.board.publish(&world, &compiled.nodes, &since);
        hub.change(|fleet| fleet.retain(|node| world.nodes.contains(node)));
        let took = began.elapsed();
        metrics.compile.observe(took.as_secs_f64());
        tracing::debug!(?took, pods = world.pods.len(), nodes = changed.len(), "compiled");
        drop(world);
        Published { world: self.world.clone(), compiled: Arc::new(compiled), uids: Arc::new(uids) }
    }
}

/// Those of `nets` that `others` lack, as words; both are sorted.
fn only(nets: &[facts::ClusterNet], others: &[facts::ClusterNet]) -> String {
    let nets = nets.iter().filter(|net| others.binary_search(net).is_err());
    let told: Vec<String> = nets.map(|net| format!("{} ({})", net.net, net.found)).collect();
    if told.is_empty() { "none".to_owned() } else { told.join(", ") }
}
