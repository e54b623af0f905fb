//! The ALG as the journal has it: connections and calls of the run before go on.

use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::{Context, Result};
use callgate_pptp::{Engine, Limits, Replay};
use rand::TryRngCore;

use super::SharedKernel;
use crate::alg::Setup;
use crate::alg::node::Host;
use crate::args::Common;
use crate::clock;
use crate::fast;
use crate::kernel::Options;
use crate::state::{Journal, StateDir};

/// How connections leave, and how many may wait, as flags have it; the default is theirs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ways {
    /// `--interface`.
    interfaces: Vec<String>,
    /// `--external-address`.
    external: Option<Ipv4Addr>,
    limits: Limits,
    /// Whether and how GRE passes beside the ALG.
    pub(crate) fast: fast::Setup,
}

impl From<&Common> for Ways {
    fn from(args: &Common) -> Self {
        let limits = Limits {
            ports_per_client: args.ports_per_client,
            call_ids_per_client: args.call_ids_per_client,
            half_open_per_client: args.half_open_per_client,
            half_open_per_server: args.half_open_per_server,
            ..Limits::default()
        };
        let fast = fast::Setup { mode: args.fast_path, root: args.bpf_dir.clone(), ..fast::Setup::default() };
        Self { interfaces: args.interfaces.clone(), external: args.external_address, limits, fast }
    }
}

/// Reads the journal and makes ready what the ALG's thread starts with.
///
/// # Errors
/// When the journal cannot be read or written, or no netlink socket be opened.
pub(crate) fn take_over(ways: &Ways, options: &Options, state: &StateDir, shared: &SharedKernel) -> Result<Setup> {
    let mut replay = Replay::new(clock::now());
    let (journal, damages) =
        Journal::open(state.path(), |change| replay.apply(change)).context("reading the journal")?;
    for damage in damages {
        tracing::error!(file = damage.file, line = damage.line, "the journal is damaged: {}", damage.problem);
    }
    let limits = Limits {
        port_ranges: options.external_ports.0.iter().map(|range| (range.first, range.last)).collect(),
        ..ways.limits.clone()
    };
    let random = || rand::rngs::OsRng.try_next_u64().context("asking the kernel for randomness");
    let seed = random()?;
    let engine = Engine::resume(limits, seed, replay, clock::now());
    tracing::info!(connections = engine.connection_count(), calls = engine.call_count(), "taken over from the journal");
    Ok(Setup {
        engine,
        journal,
        node: Box::new(Host::new(Arc::clone(shared), options.sent.value, ways.external)?),
        tap_link: options.tap_link.clone(),
        mark: options.sent.value,
        inward_mark: options.inward().value,
        seed,
        state: state.path().to_owned(),
        interfaces: ways.interfaces.clone(),
        external_ports: options.external_ports.0.clone(),
        fast: fast::Setup {
            table: options.nft_table.clone(),
            mark: options.sent.value,
            seed: random()?,
            ..ways.fast.clone()
        },
    })
}
