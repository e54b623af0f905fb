//! IPv4 arithmetic: sets of addresses, and the partition of the address space by who selects what.
//!
//! ```text
//!   cidrs ─► Ranges ── minus except ─► sorted, disjoint blocks      (destinations)
//!   (block, rule) … ─► partition ─► sorted, disjoint blocks, each with its list of rules      (sources)
//! ```
mod lists;
mod partition;
mod ranges;

pub(crate) use lists::{ListId, Lists};
pub(crate) use partition::{Partition, partition};
pub(crate) use ranges::Ranges;
