//! Admission of new control connections: first match of the rules, external address by route, and everything ready for the answer.

use std::net::Ipv4Addr;
use std::sync::Arc;

use callgate_pptp::{Admission, Admit, Flow, Refusal};
use callgate_proto::model::{External, NodeConfig};

use super::outlets::Outlets;
use super::policy;

/// What decides about new connections.
pub(super) struct Gate {
    /// The configuration in force.
    pub(super) config: Arc<NodeConfig>,
    /// The ways out.
    pub(super) outlets: Outlets,
}

impl Gate {
    /// The external address of a connection to `server` and the readiness for its answers.
    pub(super) fn open_way(&mut self, server: Ipv4Addr, external: External) -> Result<Ipv4Addr, Refusal> {
        let way = self.outlets.way(server).ok_or(Refusal::NoRoute)?;
        let external = match external {
            External::NodeAddress => way.source,
            External::Address(address) => address,
        };
        self.outlets.ready(external, way.ifindex).map_err(|e| {
            tracing::error!(%server, %external, "cannot get ready for a connection: {e}");
            Refusal::NoRoute
        })?;
        Ok(external)
    }
}

impl Admit for Gate {
    fn admit(&mut self, flow: Flow) -> Result<Admission, Refusal> {
        let (policy, external) = policy::decide(&self.config, flow).ok_or(Refusal::NoRule)?;
        Ok(Admission { external: self.open_way(flow.server, external)?, policy })
    }
}

#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;
