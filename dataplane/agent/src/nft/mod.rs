//! nftables natively: a typed ruleset, what a node configuration makes of it, and its netlink form.
//!
//! ```text
//!  NodeConfig + Tags + Options ─► layout (chains, rules, timeouts; pure) ─► Ruleset ─┐
//!                                                    kernel ─► read ─► Ruleset ──────┴─► diff (pure) ─► encode ─► one batch
//! ```

mod chains;
mod diff;
mod encode;
mod expr;
mod layout;
mod live;
pub(crate) mod names;
pub(crate) mod probe;
mod read;
mod rules;
mod ruleset;
pub(crate) mod sockets;
mod steering;
mod timeouts;
mod uses;

pub(crate) use diff::Difference;
pub(crate) use encode::{Batch, Finished};
pub(crate) use layout::{alg_sets, ruleset};
pub(crate) use live::Live;
pub(crate) use read::{adopt, counters, exists, live, marks};
pub(crate) use ruleset::{HOSTS, Ruleset};
pub(crate) use uses::{Uses, shared, steered};

#[cfg(test)]
mod tests;
