//! The engine against scripted peers that speak TCP and GRE packet by packet.
//!
//! ```text
//!  End (client) ── packets ─► Engine ── packets ─► End (server)     Pair drives both, with a virtual clock
//! ```

// A test program: a panic is its way to fail.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod ends;
mod messages;
mod pair;

mod abuse;
mod calls;
mod control;
mod errors;
mod farewell;
mod handshake;
mod isolation;
mod journal;
mod noise;
mod paths;
mod patience;
mod repeated;
mod replay;
mod roughly;
mod scale;
mod segmentation;
mod segments;
mod shares;
