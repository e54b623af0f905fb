//! Codecs for everything the ALG reads or writes: IPv4, TCP, enhanced GRE, ICMP errors, the 15 control messages.
//!
//! ```text
//!              ┌───────────── ipv4::Packet ──────────────┐
//!   tcp::Packet (options: tcp::options)   gre::Packet    icmp::Packet
//!        │ payload, through `stream`                        │ original datagram
//!   control::{frame, validate, Message}                  ipv4::Packet::new_embedded …
//! ```
//!
//! The contract. A `Packet` is a view over bytes, a `Repr` (and each control message) is a parsed value.
//! * `new_checked` is for input: afterwards every getter reads bytes that are there.
//! * `new_unchecked` is for output buffers of the caller's own.
//! * Nothing in here panics, whatever the bytes: a getter reads zero where the buffer has no such byte, a setter
//!   leaves such a byte alone.
//! * `emit` writes every byte of the header it is responsible for and reports a buffer that is too small.

pub(crate) mod bytes;
pub mod checksum;
pub mod control;
pub mod gre;
pub mod icmp;
pub mod ipv4;
mod seq;
pub mod tcp;

pub use seq::Seq;

/// The bytes are not what they were taken for: too short for their header, or a field contradicts the format.
///
/// One unit for all codecs below the control messages: whatever the cause, the packet is dropped and counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the packet is shorter than its headers say, or is of another format")]
pub struct Error;

/// What the codecs return.
pub type Result<T> = core::result::Result<T, Error>;
