//! The shared mode at work: who a TCP segment belongs to, kernel sockets for both legs, and the core between them.
//!
//! ```text
//!  SYN of a client ─► tap ─► mode: a rule with Shared? ─► inward (raw socket) ─► lo ─► kernel TCP, in the server's name ─┐
//!  its other segments, and those of servers ─► nft::sockets ─────────────────────────► kernel TCP of either leg ────────┤
//!                                                                                                                      ▼
//!            callgate_pptp::shared::Shared ◄── connected, bytes, gone ── legs (epoll) ◄───────────────────────────── sockets
//!                  └─► Open, Write, Close, Reset ─► legs       GRE: rewritten by the core, out by the ALG's emitter
//! ```
//!
//! A planned end of the process: legs ─► resume: TCP_REPAIR, a file ─► the next process goes on with all of it.
//!
//! So a client's connection passes the kernel's FORWARD hook, where NetworkPolicy decides, when it is opened.

mod ends;
mod handover;
mod leaving;
mod legs;
mod memory;
mod mode;
mod opening;
mod outbox;
mod pieces;
mod repair;
mod resume;
mod socket;

pub(crate) use handover::Place;
pub(crate) use memory::Memory;
pub(crate) use mode::{Mode, Passed, With};
