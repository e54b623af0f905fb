//! Which of several operators leads: the one whose name is in the Lease and who renews it in time.
//!
//! ```text
//!   Lease as read ──decide(me, seen, now)──► take / renew / wait ──► one write, guarded by resourceVersion
//! ```
//! Only the leader serves agents and writes status. One that cannot renew in time drops everything and begins anew.

mod decide;
mod hold;

pub use decide::{Decision, Seen, decide};
pub use hold::Holder;

use std::time::Duration;

/// A leader that has not renewed for this long is taken to be gone (as in client-go's defaults: 15 s, 10 s, 2 s).
pub const DURATION: Duration = Duration::from_secs(15);
/// A leader that could not renew for this long gives up, before another may take over.
pub const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// Between two tries.
pub const RETRY: Duration = Duration::from_secs(2);
