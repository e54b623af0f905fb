//! Keeps what is in force to the pods that are there: compares what the operator says of addresses with what the kernel says of links.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use callgate_proto::model::NodeConfig;
use tokio::sync::Notify;

use super::source::Wanted;
use super::tenants::Tenants;
use crate::alg::Handle;
use crate::netlink::Doors;
use crate::state::{StateDir, TENANTS};

/// Shared by the loop, which puts configurations into force, and the doorkeeper, which takes single pods out of it.
pub(super) struct Guests {
    /// Held for no longer than it takes to look something up.
    known: Mutex<Known>,
    state: Arc<StateDir>,
    alg: OnceLock<Handle>,
    /// The doorkeeper has something for the loop to put in order.
    told: Notify,
}

/// Addresses whose flows and calls end with a configuration.
pub(super) struct Ends {
    /// Of them, those that are somebody else's by now, as far as anybody knows: nothing may be sent there. Whoever has only lost its
    /// rule is there still, and waits to be told.
    pub(super) silent: BTreeSet<Ipv4Addr>,
    pub(super) all: BTreeSet<Ipv4Addr>,
}

#[derive(Default)]
struct Known {
    tenants: Tenants,
    /// As it is on disk.
    saved: Tenants,
    /// Whose flows and calls have to end still.
    leaving: BTreeSet<Ipv4Addr>,
    /// What the loop has to take out of force once more, when nobody else puts anything into it.
    unconfirmed: BTreeSet<Ipv4Addr>,
}

impl Guests {
    /// With what the agent before knew: pods may have left while nobody was there to hear of it, so `check` comes next.
    pub(super) fn open(state: &Arc<StateDir>) -> Arc<Self> {
        let saved: Tenants = state.load(TENANTS).map(Option::unwrap_or_default).unwrap_or_else(|error| {
            tracing::warn!(
                "{TENANTS} in the state directory cannot be read ({error}); links of pods are looked for anew"
            );
            Tenants::default()
        });
        let known = Known { tenants: saved.clone(), saved, ..Known::default() };
        Arc::new(Self { known: Mutex::new(known), state: Arc::clone(state), alg: OnceLock::new(), told: Notify::new() })
    }

    /// From now on the ALG can be told.
    pub(super) fn attach(&self, alg: Handle) {
        let _ = self.alg.set(alg);
    }

    /// What the operator says; whose flows and calls have to end.
    pub(super) fn settle(&self, wanted: &Wanted, doors: &Doors) -> Ends {
        self.known().tenants.say(&wanted.tenants);
        self.look(doors);
        let leaving = self.known().leaving.clone();
        let another = wanted.gone.iter().filter(|address| wanted.tenants.contains_key(address));
        Ends { silent: another.chain(&leaving).copied().collect(), all: wanted.gone.union(&leaving).copied().collect() }
    }

    /// What of it may be in force now: the same without pods that have left.
    pub(super) fn present(&self, config: &Arc<NodeConfig>) -> Arc<NodeConfig> {
        let left = self.known().tenants.left();
        if left.is_empty() { Arc::clone(config) } else { Arc::new(without(config, &left)) }
    }

    /// What `settle` gave has ended, and what `present` gave is in force.
    pub(super) fn settled(&self, gone: &BTreeSet<Ipv4Addr>) {
        self.known().leaving.retain(|address| !gone.contains(address));
        self.save();
    }

    /// What may have come back into force after the doorkeeper had taken it out. Once.
    pub(super) fn unconfirmed(&self) -> BTreeSet<Ipv4Addr> {
        std::mem::take(&mut self.known().unconfirmed)
    }

    /// These stay so.
    pub(super) fn not_confirmed(&self, addresses: BTreeSet<Ipv4Addr>) {
        self.known().unconfirmed.extend(addresses);
    }

    /// Links of which `remains` is not true have gone. The addresses whose pods have left with them.
    pub(super) fn leave(&self, remains: impl Fn(u32) -> bool) -> BTreeSet<Ipv4Addr> {
        let mut known = self.known();
        let leaving = known.tenants.leave(remains);
        known.leaving.extend(&leaving);
        known.unconfirmed.extend(&leaving);
        leaving
    }

    /// Looks whether a link has gone that nobody told of.
    pub(super) fn check(&self, doors: &Doors) -> BTreeSet<Ipv4Addr> {
        match doors.links() {
            Ok(links) => self.leave(|link| links.contains(&link)),
            Err(error) => {
                tracing::warn!("whether links of pods have gone cannot be told: {error}");
                BTreeSet::new()
            }
        }
    }

    /// Looks for links that are not known yet; the addresses of those that went while it looked.
    pub(super) fn look(&self, doors: &Doors) -> BTreeSet<Ipv4Addr> {
        let unknown = self.known().tenants.unknown();
        if unknown.is_empty() {
            return BTreeSet::new();
        }
        match doors.of(&unknown.keys().copied().collect()) {
            Ok(found) if found.is_empty() => BTreeSet::new(),
            Ok(found) => {
                self.known().tenants.found(&found, &unknown);
                self.check(doors)
            }
            Err(error) => {
                tracing::warn!("links of pods cannot be found: {error}");
                BTreeSet::new()
            }
        }
    }

    /// Whether the link of this one is looked for.
    pub(super) fn is_unknown(&self, address: Ipv4Addr) -> bool {
        self.known().tenants.is_unknown(address)
    }

    /// Calls of these end as soon as the ALG comes to it; it is not waited for.
    pub(super) fn end(&self, leaving: &BTreeSet<Ipv4Addr>) {
        if let Some(alg) = self.alg.get() {
            alg.let_go(leaving.clone());
        }
    }

    /// There is something to put in order.
    pub(super) fn tell(&self) {
        self.told.notify_one();
    }

    /// Waits for that. Cancel-safe.
    pub(super) async fn told(&self) {
        self.told.notified().await;
    }

    /// For the next start. Only the loop calls it: it may take a while.
    pub(super) fn save(&self) {
        let tenants = {
            let known = self.known();
            if known.tenants == known.saved {
                return;
            }
            known.tenants.clone()
        };
        match self.state.save(TENANTS, &tenants) {
            Ok(()) => self.known().saved = tenants,
            Err(error) => tracing::warn!("links of pods could not be saved for the next start: {error}"),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The same without these pods.
fn without(config: &NodeConfig, left: &BTreeSet<Ipv4Addr>) -> NodeConfig {
    let mut config = config.clone();
    config.sources.retain(|source| source.net.prefix_len() < 32 || !left.contains(&source.net.addr()));
    config
}
