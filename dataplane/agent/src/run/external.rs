//! Looks whether the host has the external address that a flag names: without it no answer of a server arrives.

use std::net::Ipv4Addr;
use std::sync::Arc;

use super::report::Report;
use crate::netlink::{Error, Routes};

/// The address, and who is told of it.
pub(super) struct External {
    address: Option<Ipv4Addr>,
    routes: Routes,
    report: Arc<Report>,
}

impl External {
    /// That of `report`.
    ///
    /// # Errors
    /// When the kernel refuses the socket.
    pub(super) fn of(report: &Arc<Report>) -> Result<Self, Error> {
        Ok(Self { address: report.external, routes: Routes::open()?, report: Arc::clone(report) })
    }

    /// Looks, and says so where something is otherwise than before.
    pub(super) fn look(&self) {
        let Some(address) = self.address else { return };
        match self.routes.ends_here(address) {
            Ok(held) => match (self.report.external_is_held(held), held) {
                (true, false) => tracing::warn!("{}", missing(address)),
                (true, true) => tracing::info!(%address, "the host has the address of --external-address"),
                (false, _) => {}
            },
            Err(error) => {
                tracing::warn!(%address, "whether the host has the address of --external-address cannot be told: {error}")
            }
        }
    }
}

/// What is wrong where the host does not have it, and what to do.
pub(super) fn missing(address: Ipv4Addr) -> String {
    format!(
        "--external-address {address} is no address of this host, and no blackhole route ends here what is sent to it: no answer of a PPTP \
         server arrives; give the host the address (in a cluster every node its own, or one node alone), a blackhole route where others \
         route it here (not unreachable or prohibit: the kernel would tell the servers so), or leave the flag out"
    )
}
