//! The engine against scripted peers that speak TCP and GRE packet by packet.
//!
//! ```text
//!  End (client) ── packets ─► Engine ── packets ─► End (server)     Pair drives both, with a virtual clock
//! ```

mod ends;
mod messages;
mod pair;

mod calls;
mod segmentation;
