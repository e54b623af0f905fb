//! Netlink: links, addresses, routes, rules and conntrack, as plain blocking calls in the calling thread's network namespace.
//!
//! ```text
//!  route, link, rule, conntrack ──► socket (requests, dumps, batches) ──► attr (encode, decode)
//!  changes (tokio) ◄── multicast groups: links, addresses, routes
//! ```

mod changes;
mod error;
mod route;

pub use changes::{Change, Changes};
pub use error::Error;
pub use route::{Route, Routes};
