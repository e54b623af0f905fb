//! Netlink: links, addresses, routes, rules and conntrack, as plain blocking calls in the calling thread's network namespace.
//!
//! ```text
//!  route, link, policy, conntrack ──► socket (requests, dumps, batches) ──► attr (encode, decode)
//!  changes (tokio) ◄── multicast groups: links, addresses, routes, rules        tables (tokio) ◄── nftables
//! ```

pub(crate) mod attr;
mod changes;
pub(crate) mod conntrack;
mod error;
pub(crate) mod link;
pub(crate) mod policy;
mod route;
pub(crate) mod socket;
mod subscription;
mod sys;
mod tables;

pub use changes::{Change, Changes};
pub use error::Error;
pub use link::Link;
pub use route::{Route, Routes};
pub use tables::Tables;

/// NETLINK_ROUTE.
pub(crate) const ROUTE: isize = 0;
/// NETLINK_NETFILTER.
pub(crate) const NETFILTER: isize = 12;
