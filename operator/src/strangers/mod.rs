//! Those who connect and have not shown who they are: few at once, none for long, and not many lines of log.
//!
//! ```text
//!   accept ──► crowd.enter ──► place (counted by address) ──► left when it is dropped: proven, or gone
//!                 │ full, too old, out of descriptors
//!                 ▼
//!             closing ──► whoever serves the connection ends it          limit: so many lines of log in so long a time
//! ```

mod closing;
mod crowd;
mod limit;

pub(crate) use closing::Closing;
pub(crate) use crowd::{Crowd, Place};
pub(crate) use limit::Limit;
