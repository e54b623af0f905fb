//! Keeps what is in force to the pods that are there: compares what the operator says of addresses with what the kernel says of links.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

use callgate_proto::model::NodeConfig;

use super::source::Wanted;
use super::tenants::Tenants;
use crate::netlink::{Departure, Doors, Error};
use crate::state::{StateDir, TENANTS};

/// Pods, their links, and where that is kept for the next start.
pub(super) struct Lodgings {
    tenants: Tenants,
    /// As it is on disk.
    saved: Tenants,
    doors: Doors,
    state: Arc<StateDir>,
    /// Whose flows and calls have to end still.
    leaving: BTreeSet<Ipv4Addr>,
}

impl Lodgings {
    /// With what the agent before knew: pods may have left while nobody was there to hear of it.
    ///
    /// # Errors
    /// When the kernel refuses the socket.
    pub(super) fn open(state: &Arc<StateDir>) -> Result<Self, Error> {
        let saved: Tenants = state.load(TENANTS).map(Option::unwrap_or_default).unwrap_or_else(|error| {
            tracing::warn!(
                "{TENANTS} in the state directory cannot be read ({error}); links of pods are looked for anew"
            );
            Tenants::default()
        });
        let (doors, state) = (Doors::open()?, Arc::clone(state));
        let mut lodgings = Self { tenants: saved.clone(), saved, doors, state, leaving: BTreeSet::new() };
        lodgings.check();
        Ok(lodgings)
    }

    /// What of `wanted` may be in force now, and the addresses whose flows and calls have to end.
    pub(super) fn settle(&mut self, wanted: &Wanted) -> (Arc<NodeConfig>, BTreeSet<Ipv4Addr>) {
        self.tenants.say(&wanted.tenants);
        self.look();
        let left = self.tenants.left();
        let config =
            if left.is_empty() { Arc::clone(&wanted.config) } else { Arc::new(without(&wanted.config, &left)) };
        (config, wanted.gone.union(&self.leaving).copied().collect())
    }

    /// What `settle` gave last is in force, and what had to end has.
    pub(super) fn settled(&mut self) {
        self.leaving.clear();
    }

    /// What the kernel has told; true when less may be in force than is.
    pub(super) fn hear(&mut self, departure: Departure) -> bool {
        match departure {
            Departure::Gone(link) => self.leave(|other| other != link),
            Departure::Lost => {
                self.look();
                self.check()
            }
            Departure::Spoke(address) => {
                if self.tenants.is_unknown(address) {
                    self.look();
                }
                false
            }
        }
    }

    /// Looks whether a link has gone that nobody told of.
    fn check(&mut self) -> bool {
        match self.doors.links() {
            Ok(links) => self.leave(|link| links.contains(&link)),
            Err(error) => {
                tracing::warn!("whether links of pods have gone cannot be told: {error}");
                false
            }
        }
    }

    fn leave(&mut self, remains: impl Fn(u32) -> bool) -> bool {
        let leaving = self.tenants.leave(remains);
        for address in &leaving {
            tracing::info!(%address, "its pod's link has gone: no rule is in force for it until the operator says whose it is");
        }
        self.leaving.extend(&leaving);
        if !leaving.is_empty() {
            self.save();
        }
        !leaving.is_empty()
    }

    /// Looks for links that are not known yet.
    fn look(&mut self) {
        let unknown = self.tenants.unknown();
        if !unknown.is_empty() {
            match self.doors.of(&unknown) {
                Ok(found) => self.tenants.found(&found),
                Err(error) => tracing::warn!("links of pods cannot be found: {error}"),
            }
        }
        self.save();
    }

    fn save(&mut self) {
        if self.tenants == self.saved {
            return;
        }
        match self.state.save(TENANTS, &self.tenants) {
            Ok(()) => self.saved.clone_from(&self.tenants),
            Err(error) => tracing::warn!("links of pods could not be saved for the next start: {error}"),
        }
    }
}

/// The same without these pods.
fn without(config: &NodeConfig, left: &BTreeSet<Ipv4Addr>) -> NodeConfig {
    let mut config = config.clone();
    config.sources.retain(|source| source.net.prefix_len() < 32 || !left.contains(&source.net.addr()));
    config
}
