//! How much of the ALG's way a node needs: a hook or a routing rule costs every packet of the host, so none is there for nothing.

use callgate_proto::model::{ControlConnection, NodeConfig};

use super::live::Live;
use crate::kernel::{Tags, Via};

/// From nothing to all; each has what the ones before it have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Uses {
    /// Ordinary rules alone: no packet is steered, none is sent.
    #[default]
    Ordinary,
    /// Pods' PPTP is steered to the ALG.
    Alg,
    /// The ALG has sockets too, for control connections that it shares.
    Sockets,
}

impl Uses {
    /// What a configuration needs, with the tags that live flows may have and the ALG's connections.
    pub(crate) fn of(config: &NodeConfig, tags: &Tags, live: &Live) -> Self {
        let lives = !live.own.is_empty() || tags.live().any(|(key, _)| key.via == Via::Alg);
        match (shared(config), steered(config) || lives) {
            (true, _) => Self::Sockets,
            (false, true) => Self::Alg,
            (false, false) => Self::Ordinary,
        }
    }
}

/// Whether a rule of a configuration brings the ALG connections.
pub(crate) fn steered(config: &NodeConfig) -> bool {
    config.rules.iter().any(|rule| config.alg_services_of(rule).next().is_some())
}

/// Whether a configuration may need sockets.
pub(crate) fn shared(config: &NodeConfig) -> bool {
    config.algs.iter().any(|alg| match alg.control_connection {
        ControlConnection::PerClient => false,
        ControlConnection::Shared | ControlConnection::Auto => true,
    })
}
