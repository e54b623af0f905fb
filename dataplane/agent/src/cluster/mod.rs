//! One node of a cluster: snapshots from the operator, carried out until a signal ends it.
//!
//! ```text
//!              ┌── link (connect, back-off) ── session (one stream) ──┐
//!  operator ◄──┤   hello, outcomes, reports, answers                  ├─► snapshot (checked) ─► operator: a `run::Source`
//!              └── snapshots, questions ──────────────────────────────┘                            └─► store (disk)
//! ```
//! The operator gone changes nothing: what ran goes on, also across the agent's own restart.

mod backoff;
mod connect;
mod link;
mod operator;
mod session;
mod snapshot;
mod store;
#[cfg(test)]
mod tests;

use std::time::Duration;

use anyhow::Result;

use crate::args::Agent;
use crate::run;
use connect::Address;
use link::Link;
use operator::Operator;
use store::Store;

/// Between two looks whether there is something to report.
const REPORT: Duration = Duration::from_secs(3);

/// Runs until SIGTERM or SIGINT, and then leaves everything in place for the next start: a node's agent is replaced far more often
/// than it is removed, and `cleanup` is for that.
///
/// # Errors
/// When it cannot start, or cannot go on.
pub fn run(args: &Agent) -> Result<()> {
    let address = Address {
        operator: args.operator.clone(),
        server_name: args.server_name.clone(),
        ca_file: args.ca_file.clone(),
        token_file: args.token_file.clone(),
    };
    address.check()?;
    anyhow::ensure!(!args.node_name.is_empty(), "--node-name is empty: set NODE_NAME from the field spec.nodeName");
    run::run(&args.common, true, |state| {
        let link = Link { address, node: args.node_name.clone(), interval: REPORT };
        Ok(Operator::new(Store::new(state.path(), &args.node_name), link, state.discarded()))
    })
}
