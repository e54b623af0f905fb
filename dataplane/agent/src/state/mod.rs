//! What outlives the process: everything a new agent needs to go on as if the old one had not died.
//!
//! ```text
//!  STATE_DIR/lock             flock: one agent at a time
//!            boot-id          state of another boot is discarded: its clock, conntrack and sysctls are gone
//!            kernel.json      sysctls as they were, rule tags           (kernel::Record)
//!            config.snapshot  last good snapshot of the operator        (cluster)
//!            tenants.json     links by which pods' addresses are reached, and whose flows end (cluster)
//!            servers.json     what Auto has learned about servers      (shared)
//!            fast.json        where the fast path has its names           (fast)
//!            handover.json    connections and calls of Shared, between two processes (shared)
//!            manifests.json   last good text of each manifest           (standalone)
//!            last-good.json   what each object last resolved to         (callgate_compile::LastGood)
//!            calls.snapshot   connections and calls, JSON lines         (pptp::Change)
//!            calls.log.N      what changed since snapshot N, appended before it takes effect
//! ```
//! Only what the next boot goes on with is synced: `config.snapshot`, `manifests.json`, `last-good.json`. A killed process loses no
//! write, and what a lost machine loses of the others belonged to a boot that is over.

mod dir;
mod file;
mod journal;

pub use dir::{Error, StateDir};
pub(crate) use dir::{FAST, HANDOVER, SERVERS, TENANTS, remedy};
pub(crate) use file::write_durably;
pub use file::write_whole;
pub use journal::{Damage, Journal};
