//! Parts of nftables that only some objects need: a kernel that lacks one carries out everything else.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use crate::model::{Action, ControlConnection, NodeConfig, PptpAlg, Rule, Service};
use crate::pb::Feature;

/// A part that a kernel may lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Optional {
    /// Counting connections, for `maxSessions` (nft_connlimit).
    ConnectionLimits,
    /// For `log: true` (nft_log).
    Logging,
    /// Packets to sockets in others' names, for `controlConnection: Shared` and `Auto` (nft_socket, nft_tproxy).
    Sockets,
    /// Time-outs of single connections, for `timeouts` (nft_ct, nfnetlink_cttimeout).
    Timeouts,
}

impl Optional {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::ConnectionLimits, Self::Logging, Self::Sockets, Self::Timeouts];

    /// Its name in the list of what a kernel has.
    #[must_use]
    pub fn feature(self) -> &'static str {
        match self {
            Self::ConnectionLimits => "nftables: connection limits",
            Self::Logging => "nftables: logging",
            Self::Sockets => "nftables: transparent sockets",
            Self::Timeouts => "nftables: conntrack time-outs",
        }
    }

    /// Its name in flags.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ConnectionLimits => "connection-limits",
            Self::Logging => "logging",
            Self::Sockets => "sockets",
            Self::Timeouts => "timeouts",
        }
    }

    /// What of the objects that need it is not done without it.
    #[must_use]
    pub fn cost(self) -> &'static str {
        match self {
            Self::ConnectionLimits => "maxSessions of services without an ALG has no effect",
            Self::Logging => "log: true of rules has no effect",
            Self::Sockets => "controlConnection Shared and Auto are carried out as PerClient",
            Self::Timeouts => "timeouts of services have no effect",
        }
    }

    /// What brings it.
    #[must_use]
    pub fn remedy(self) -> &'static str {
        match self {
            Self::ConnectionLimits => "load module nft_connlimit",
            Self::Logging => "load module nft_log",
            Self::Sockets => "load modules nft_socket and nft_tproxy",
            Self::Timeouts => "load modules nft_ct and nfnetlink_cttimeout",
        }
    }

    /// Those that a kernel lacks, by what is told of it.
    #[must_use]
    pub fn missing(features: &[Feature]) -> BTreeSet<Self> {
        let lacks = |name: &str| features.iter().any(|feature| feature.name == name && !feature.available);
        Self::ALL.into_iter().filter(|part| lacks(part.feature())).collect()
    }

    /// What people are told of an object with these needs that is in force where these parts are missing; `None` where it has all.
    #[must_use]
    pub fn shortfall(needs: &BTreeSet<Self>, missing: &BTreeSet<Self>) -> Option<String> {
        let lacks = needs.intersection(missing);
        let parts: Vec<String> = lacks.map(|part| format!("{} ({})", part.cost(), part.remedy())).collect();
        (!parts.is_empty()).then(|| {
            format!(
                "in force, but not all of it, as this kernel lacks something: {}; the agent finds what was loaded when it starts anew",
                parts.join(", ")
            )
        })
    }
}

impl fmt::Display for Optional {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Optional {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let names = || Self::ALL.map(Self::name).join(", ");
        let found = Self::ALL.into_iter().find(|part| part.name() == name);
        found.ok_or_else(|| format!("{name:?} is none of {}", names()))
    }
}

impl PptpAlg {
    /// What it needs of a kernel.
    #[must_use]
    pub fn needs(&self) -> BTreeSet<Optional> {
        match self.control_connection {
            ControlConnection::PerClient => BTreeSet::new(),
            ControlConnection::Shared | ControlConnection::Auto => BTreeSet::from([Optional::Sockets]),
        }
    }
}

impl Service {
    /// What it needs of a kernel, without what its ALG does: that one counts its own sessions, and knows its own time-outs.
    #[must_use]
    pub fn needs(&self) -> BTreeSet<Optional> {
        let ordinary = self.alg.is_none();
        let limits = (ordinary && self.max_sessions > 0).then_some(Optional::ConnectionLimits);
        let timeouts = (ordinary && self.timeouts.is_some()).then_some(Optional::Timeouts);
        limits.into_iter().chain(timeouts).collect()
    }
}

impl NodeConfig {
    /// What one of its rules needs of a kernel, with its services and their ALGs.
    #[must_use]
    pub fn needs_of(&self, rule: &Rule) -> BTreeSet<Optional> {
        let mut needs: BTreeSet<Optional> = rule.log.then_some(Optional::Logging).into_iter().collect();
        match rule.action {
            // Nothing lives on that could be counted.
            Action::Drop | Action::Reject => {}
            Action::Nat | Action::Allow => needs.extend(self.services_of(rule).flat_map(Service::needs)),
        }
        let algs = self.alg_services_of(rule).filter_map(|service| self.algs.get(service.alg? as usize));
        needs.extend(algs.flat_map(PptpAlg::needs));
        needs
    }

    /// The same for a kernel that lacks these: whatever needs one of them does without.
    #[must_use]
    pub fn without(&self, missing: &BTreeSet<Optional>) -> Self {
        let mut config = self.clone();
        for part in missing {
            match part {
                Optional::Logging => config.rules.iter_mut().for_each(|rule| rule.log = false),
                Optional::ConnectionLimits => ordinary(&mut config).for_each(|service| service.max_sessions = 0),
                Optional::Timeouts => ordinary(&mut config).for_each(|service| service.timeouts = None),
                Optional::Sockets => {
                    config.algs.iter_mut().for_each(|alg| alg.control_connection = ControlConnection::PerClient);
                }
            }
        }
        config
    }
}

fn ordinary(config: &mut NodeConfig) -> impl Iterator<Item = &mut Service> {
    config.services.iter_mut().filter(|service| service.alg.is_none())
}
