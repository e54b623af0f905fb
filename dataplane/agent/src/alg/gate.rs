//! Admission of new control connections: first match of the rules, external address by route, and everything ready for the answer.

use std::net::Ipv4Addr;
use std::sync::Arc;

use callgate_pptp::{Admission, Admit, Flow, Now, Policy, Refusal};
use callgate_proto::model::{External, NodeConfig};

use super::outlets::Outlets;
use super::policy;
use super::seldom::Seldom;

/// What decides about new connections.
pub(crate) struct Gate {
    /// The configuration in force.
    pub(crate) config: Arc<NodeConfig>,
    /// The one that the kernel is just being given, or may have been given already.
    pub(super) next: Option<Arc<NodeConfig>>,
    /// Policies that it alone has given, each with the first connection that got it.
    pub(super) tried: Vec<(Policy, Flow)>,
    /// The ways out.
    pub(crate) outlets: Outlets,
    /// The time of the packet that is being looked at.
    pub(crate) now: Now,
    unrouted: Seldom,
    unready: Seldom,
}

impl Gate {
    /// Judges by `config`, which goes out by `outlets`.
    pub(crate) fn new(config: Arc<NodeConfig>, outlets: Outlets) -> Self {
        Self {
            config,
            next: None,
            tried: Vec::new(),
            outlets,
            now: Now(0),
            unrouted: Seldom::default(),
            unready: Seldom::default(),
        }
    }

    /// Whatever the kernel may steer by now, the latest first.
    pub(super) fn configs(&self) -> impl Iterator<Item = &Arc<NodeConfig>> {
        self.next.iter().chain([&self.config])
    }

    /// The decision about a new connection, and the configuration it comes from; `None` where no rule brings it to the ALG.
    pub(crate) fn decide(&mut self, flow: Flow) -> Option<(Policy, External, &NodeConfig)> {
        if let Some(next) = &self.next
            && let Some((policy, external)) = policy::decide(next, flow)
        {
            let known = policy::renew(&self.config, &policy).as_ref() == Some(&policy)
                || self.tried.iter().any(|(tried, _)| *tried == policy);
            if !known {
                self.tried.push((policy.clone(), flow));
            }
            return Some((policy, external, next));
        }
        let (policy, external) = policy::decide(&self.config, flow)?;
        Some((policy, external, &self.config))
    }

    /// The external address of a connection to `server` and the readiness for its answers.
    pub(crate) fn open_way(&mut self, server: Ipv4Addr, external: External) -> Result<Ipv4Addr, Refusal> {
        let way = self.outlets.way(server).map_err(|error| {
            if let Some(held) = self.unrouted.due(self.now) {
                tracing::warn!(%server, held, "asking the kernel for a route: {error}");
            }
            Refusal::NoRoute
        })?;
        let way = way.ok_or(Refusal::NoRoute)?;
        let external = match external {
            External::NodeAddress => way.source,
            External::Address(address) => address,
        };
        self.outlets.ready(external, &way.links).map_err(|error| {
            if let Some(held) = self.unready.due(self.now) {
                tracing::error!(%server, %external, held, "cannot get ready for a connection: {error}");
            }
            Refusal::NoRoute
        })?;
        Ok(external)
    }
}

impl Admit for Gate {
    fn admit(&mut self, flow: Flow) -> Result<Admission, Refusal> {
        let (policy, external, _) = self.decide(flow).ok_or(Refusal::NoRule)?;
        Ok(Admission { external: self.open_way(flow.server, external)?, policy })
    }
}

#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;
