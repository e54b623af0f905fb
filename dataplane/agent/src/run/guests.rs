//! Keeps what is in force to the pods that are there: compares what the operator says of addresses with what the kernel says of links.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use callgate_proto::model::NodeConfig;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::ends::{Ends, Gone};
use super::source::Wanted;
use super::tenants::{Tenant, Tenants};
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

#[derive(Default)]
struct Known {
    kept: Kept,
    /// As it is on disk.
    saved: Kept,
    /// What the loop has to take out of force once more, when nobody else puts anything into it.
    unconfirmed: BTreeSet<Ipv4Addr>,
    /// What the configuration that is being carried out gives to a pod that had it before somebody else.
    of_others: BTreeSet<Ipv4Addr>,
}

/// What has been done about those that are gone.
pub(super) struct Came<'a> {
    /// No rule is in force for these, and their calls have ended.
    pub(super) calls: &'a BTreeSet<Ipv4Addr>,
    /// Their flows, and these ones', are in conntrack no more, if it is so.
    pub(super) flows: &'a BTreeSet<Ipv4Addr>,
    pub(super) forgotten: bool,
    /// Whose addresses they are in the configuration that is in force now, if another is.
    pub(super) in_force: Option<&'a BTreeMap<Ipv4Addr, Tenant>>,
}

/// What the next agent goes on with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    tenants: Tenants,
    ends: Ends,
}

/// What may be on disk.
#[derive(Deserialize)]
#[serde(untagged)]
enum Saved {
    Now(Kept),
    /// An agent of before knew no more than that.
    Before(Tenants),
}

impl From<Saved> for Kept {
    fn from(saved: Saved) -> Self {
        match saved {
            Saved::Now(kept) => kept,
            Saved::Before(tenants) => Self { tenants, ends: Ends::default() },
        }
    }
}

impl Guests {
    /// With what the agent before knew: pods may have left while nobody was there to hear of it, so `check` comes next.
    pub(super) fn open(state: &Arc<StateDir>) -> Arc<Self> {
        let saved = state.load(TENANTS).unwrap_or_else(|error| {
            tracing::warn!(
                "{TENANTS} in the state directory cannot be read ({error}); links of pods are looked for anew"
            );
            None
        });
        let saved = saved.map(|saved: Saved| Kept::from(saved)).unwrap_or_default();
        let known = Known { kept: saved.clone(), saved, ..Known::default() };
        Arc::new(Self { known: Mutex::new(known), state: Arc::clone(state), alg: OnceLock::new(), told: Notify::new() })
    }

    /// From now on the ALG can be told.
    pub(super) fn attach(&self, alg: Handle) {
        let _ = self.alg.set(alg);
    }

    /// What the operator says; whose flows and calls have to end.
    pub(super) fn settle(&self, wanted: &Wanted, doors: &Doors) -> Gone {
        self.known().kept.tenants.say(&wanted.tenants);
        self.look(doors);
        let mut known = self.known();
        known.of_others = known.kept.ends.of_others(&wanted.tenants);
        known.kept.ends.gone(&wanted.tenants)
    }

    /// What of it may be in force now: the same without pods that have left, and without addresses that are others' since.
    pub(super) fn present(&self, config: &Arc<NodeConfig>) -> Arc<NodeConfig> {
        let known = self.known();
        let mut left = known.kept.tenants.left();
        left.extend(&known.of_others);
        if left.is_empty() { Arc::clone(config) } else { Arc::new(without(config, &left)) }
    }

    /// What came of what `settle` gave.
    pub(super) fn settled(&self, came: Came<'_>) {
        {
            let ends = &mut self.known().kept.ends;
            if came.in_force.is_none() {
                ends.taken(came.calls);
            }
            ends.calls_ended(came.calls);
            if came.forgotten {
                ends.flows_ended(came.flows);
            }
            if let Some(tenants) = came.in_force {
                ends.in_force(tenants);
            }
        }
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
        let leaving = known.kept.tenants.leave(remains);
        known.kept.ends.leave(&leaving);
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
        let unknown = self.known().kept.tenants.unknown();
        if unknown.is_empty() {
            return BTreeSet::new();
        }
        match doors.of(&unknown.keys().copied().collect()) {
            Ok(found) if found.is_empty() => BTreeSet::new(),
            Ok(found) => {
                self.known().kept.tenants.found(&found, &unknown);
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
        self.known().kept.tenants.is_unknown(address)
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

    /// For the next start. Only the loop calls it: it may take a while. Not before the ALG can be told: until then the calls of
    /// those that are gone have not ended, whatever is known here.
    pub(super) fn save(&self) {
        if self.alg.get().is_none() {
            return;
        }
        let kept = {
            let known = self.known();
            if known.kept == known.saved {
                return;
            }
            known.kept.clone()
        };
        match self.state.save(TENANTS, &kept) {
            Ok(()) => self.known().saved = kept,
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
