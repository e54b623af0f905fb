//! Netlink: links, addresses, routes, rules and conntrack, as plain blocking calls in the calling thread's network namespace.
//!
//! ```text
//!  route, neighbour, link, policy, doors, clsact ──► rt (a thread around rtnetlink) ──► NETLINK_ROUTE       changes, departures ◄── news (tokio) ◄── its multicast groups
//!  conntrack, crate::nft ──► socket (requests, dumps, batches) ──► attr ──► NETLINK_NETFILTER      tables (tokio) ◄── its groups
//!  netdev ──► socket ──► NETLINK_GENERIC
//! ```

pub(crate) mod attr;
mod changes;
pub(crate) mod clsact;
pub(crate) mod conntrack;
mod departures;
mod doors;
mod error;
pub(crate) mod link;
mod neighbour;
mod netdev;
mod news;
pub(crate) mod policy;
mod route;
pub(crate) mod rt;
pub(crate) mod socket;
mod subscription;
mod sys;
mod tables;

pub use changes::{Change, Changes};
pub(crate) use departures::{Departure, Departures};
pub(crate) use doors::Doors;
pub use error::Error;
pub use link::Link;
pub(crate) use netdev::{Features, Netdev};
pub(crate) use route::{Hop, NextHop};
pub use route::{Route, Routes};
pub use tables::Tables;

/// NETLINK_NETFILTER.
pub(crate) const NETFILTER: isize = 12;
