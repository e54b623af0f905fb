//! kubectl-callgate: what an agent does, and what manifests would make it do, for people and scripts.
//!
//! ```text
//!   args ─┬─ check   ──── files ── compile ──────────────┐
//!         ├─ explain ──┬─ files ── compile               ├── view (JSON) / table (text) ── stdout
//!         │            └──┐                              │
//!         ├─ status  ─────┼─ client ─┬─ agent's socket ──┘
//!         └─ calls   ─────┘          └─ cluster ── operator, by port-forward      problems ── error ── stderr, exit code
//! ```
//! A library with a two-line `main`, so that tests run commands against a server in their own process.
#![forbid(unsafe_code)]

pub mod args;
pub mod calls;
pub mod check;
pub mod client;
pub mod cluster;
pub mod error;
pub mod explain;
pub mod files;
pub mod human;
pub mod manifests;
pub mod output;
pub mod status;
pub mod table;
pub mod target;

mod run;

pub use run::{Io, main, run};
