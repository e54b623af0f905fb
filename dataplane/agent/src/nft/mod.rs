//! nftables natively: a typed ruleset, what a node configuration makes of it, and its netlink form.
//!
//! ```text
//!  NodeConfig + Tags + Options ─► layout (pure) ─► Ruleset ─► encode ─► one batch, one transaction
//!                                                    └── differs only in elements? ─► element messages alone
//! ```

mod chains;
mod encode;
mod expr;
mod layout;
mod rules;
mod ruleset;

pub(crate) use encode::Batch;
pub(crate) use layout::ruleset;
pub(crate) use ruleset::Ruleset;
