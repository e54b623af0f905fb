//! What agents talk to: `Control.Attach` over TLS, one stream an agent.
//!
//! ```text
//!   agent ── token ──► guard (TokenReview) ──► hello ──► session ◄── board: the node's latest snapshot
//!                        │ at its turn                     │  ▲
//!                        │ refused: counted                │  │
//!                        ▼                                 ▼  └── questions of people
//!                     PERMISSION_DENIED …                fleet: who is there, what runs, what they count
//! ```

mod guard;
mod hub;
mod review;
mod serve;
mod session;
mod turns;

pub use guard::{Guard, Refusal};
pub use hub::{Ask, Hub};
pub use review::{Expected, judge};
pub use serve::serve;

#[cfg(test)]
mod tests;
