//! The control connection's messages (RFC 2637 §2): framing, checking, and all 15 as typed values.
//!
//! ```text
//!   bytes of the stream ── frame ──► whole message ── validate ──► Message::parse ──► StartRequest, OutgoingCallReply …
//!                          (where does it end)        (is it what it says, may this side send it)
//!   a Call ID to be translated sits at offset 12 or 14 and nowhere else: field12, set_field12, field14, set_field14
//! ```
//!
//! Each message keeps its reserved fields and values nobody defined, so that `parse` and `emit` give back the same bytes.

mod codec;
mod codes;
mod header;
mod message;
pub(crate) mod ours;
mod table;
mod validate;

mod clear;
mod echo;
mod incoming;
mod link_info;
mod outgoing;
mod start;
mod stop;
mod wan_error;

pub use clear::{CallClearRequest, CallDisconnectNotify};
pub use codes::{
    DisconnectResult, EchoResult, GeneralError, IncomingResult, OutgoingResult, StartResult, StopReason, StopResult,
};
pub use echo::{EchoReply, EchoRequest};
pub use header::{COOKIE, HEADER_LEN, Header, MAX_MESSAGE_LEN, field12, field14, set_field12, set_field14};
pub use incoming::{IncomingCallConnected, IncomingCallReply, IncomingCallRequest};
pub use link_info::SetLinkInfo;
pub use message::Message;
pub use outgoing::{OutgoingCallReply, OutgoingCallRequest};
pub use start::{StartReply, StartRequest};
pub use stop::{StopReply, StopRequest};
pub use table::{ControlType, Direction, Sender};
pub use validate::{Malformed, frame, validate};
pub use wan_error::WanErrorNotify;

#[cfg(test)]
mod replay_tests;
#[cfg(test)]
mod test_support;
