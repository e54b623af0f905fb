//! One direction of a control connection: bytes of a sender in, whole messages out to the receiver.
//!
//! ```text
//!  S ── receive(seq, bytes) ─► pending ── next_message ─► engine decides ─┬ emit    ─► chunk ─► segment to R
//!                                                                        ├ swallow ─► never reaches R
//!                                              inject ───────────────────┴─────────► chunk ─► segment to R
//!  S ◄─ acknowledgement in S's numbers ◄── acknowledged(ack in R's numbers) ◄─────────────── R
//! ```
//!
//! TCP is not terminated: what S sends keeps its sequence numbers until a message of our own is put in or one of S's is
//! taken out; from there on the numbers are shifted, and acknowledgements are mapped back. Bytes of an unfinished message
//! are held. Because S may wait for their acknowledgement (Nagle), we give it ourselves; from then on what R has not
//! acknowledged is ours to send again ("custody").

mod chunk;
mod deliver;

pub use chunk::{Chunk, Outgoing};
pub use deliver::Due;

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::types::{Now, is_default};
use crate::wire::Seq;
use crate::wire::control::{self, Malformed};

/// Octets in flight towards R, and octets taken out behind them, beyond which nothing more of S is taken. The largest message
/// has 220.
pub const MAX_UNACKED: usize = 8 * 1024;

/// Messages in flight towards R, those of our own and those taken out behind them included, beyond which nothing more of S is
/// taken, and no more of our own is put in for what S says: each is some hundred octets in every line that is saved.
pub const MAX_CHUNKS: usize = 64;

/// How far before the next expected octet a segment may begin and still be an old copy.
const OLDEST_COPY: i32 = 1 << 20;

/// The state of one direction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stream {
    /// The next octet expected from S, in S's numbers.
    in_next: Seq,
    /// Octets after the last whole message: `[in_next - len, in_next)`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pending: Vec<u8>,
    /// Where the next emitted octet goes, in R's numbers.
    out_next: Seq,
    /// The highest acknowledgement S was given, in S's numbers.
    in_acked: Seq,
    /// What R has not acknowledged.
    #[serde(default, skip_serializing_if = "VecDeque::is_empty")]
    chunks: VecDeque<Chunk>,
    /// S has sent FIN, and it was taken.
    #[serde(default, skip_serializing_if = "is_default")]
    finished: bool,
    /// It was passed on.
    #[serde(default, skip_serializing_if = "is_default")]
    fin_sent: bool,
    /// How often the oldest chunk in custody was sent again.
    #[serde(default, skip_serializing_if = "is_default")]
    retries: u8,
    /// When it is sent again.
    #[serde(default, skip_serializing_if = "is_default")]
    retry_at: Option<Now>,
}

/// What became of a segment of S.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// It brought something new: call `next_message` until it has no more. What it repeated besides and R has not
    /// acknowledged has to be sent to R again.
    New(Vec<Outgoing>),
    /// Nothing new; these have to be sent to R again.
    Again(Vec<Outgoing>),
    /// Nothing new, and R has all of it: send R an empty segment with this sequence number, so that it acknowledges.
    Probe(Seq),
    /// Nothing new, but S waits for the acknowledgement of what we hold: send it this one.
    Acknowledge(Seq),
    /// There is a hole before it: drop it, S sends again (sooner when told `in_acked` once more).
    Gap,
    /// Too much is on its way: drop it, S sends again.
    Full,
    /// Not near the stream at all.
    Implausible,
}

/// What comes next out of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// A whole message, taken out of the stream: `emit` or `swallow` it.
    Message(Vec<u8>),
    /// Nothing whole is left.
    Nothing,
    /// This cannot be a message. The stream does not go on.
    Malformed(Malformed),
}

impl Stream {
    /// A stream whose first octet after the SYN has this number, on both sides.
    pub fn new(first: Seq) -> Self {
        Self {
            in_next: first,
            pending: Vec::new(),
            out_next: first,
            in_acked: first,
            chunks: VecDeque::new(),
            finished: false,
            fin_sent: false,
            retries: 0,
            retry_at: None,
        }
    }

    /// Takes a segment of S with payload or FIN.
    pub fn receive(&mut self, seq: Seq, payload: &[u8], fin: bool) -> Received {
        let length = payload.len() as u32 + u32::from(fin);
        let ahead = seq.distance(self.in_next);
        if !(-OLDEST_COPY..OLDEST_COPY).contains(&ahead) {
            return Received::Implausible;
        }
        if ahead > 0 {
            return Received::Gap;
        }
        let seen = ahead.unsigned_abs();
        if seen >= length || self.finished {
            return self.old(seq, length);
        }
        let fresh = payload.get(seen as usize..).unwrap_or_default();
        let room = self.room(fresh);
        // As much as there is room for, as if the rest had been lost: a segment larger than the room gets through too.
        let taken = fresh.get(..room).unwrap_or(fresh);
        let again = self.again(seq, self.in_next);
        if taken.is_empty() && !fresh.is_empty() {
            // What it repeats R may wait for, and without that there is never room.
            return if again.is_empty() { Received::Full } else { Received::Again(again) };
        }
        self.pending.extend_from_slice(taken);
        self.in_next += taken.len() as u32;
        self.finished |= fin && taken.len() == fresh.len();
        Received::New(again)
    }

    /// How many of these octets, the next ones of S, may be taken.
    fn room(&self, fresh: &[u8]) -> usize {
        let octets = MAX_UNACKED.saturating_sub(self.pending.len() + self.unacked());
        let mut messages = MAX_CHUNKS.saturating_sub(self.chunks.len());
        let held = self.pending.len();
        let octet = |at: usize| self.pending.get(at).or_else(|| fresh.get(at.checked_sub(held)?)).copied();
        // Where the last message ends for which there is room.
        let mut end = 0;
        while messages > 0 {
            let (Some(high), Some(low)) = (octet(end), octet(end + 1)) else { return octets };
            let length = usize::from(u16::from_be_bytes([high, low]));
            if !(control::HEADER_LEN..=control::MAX_MESSAGE_LEN).contains(&length) {
                return octets;
            }
            end += length;
            messages -= 1;
        }
        octets.min(end.saturating_sub(held))
    }

    /// A segment that repeats what was taken before.
    fn old(&self, seq: Seq, length: u32) -> Received {
        let again = self.again(seq, seq + length);
        if !again.is_empty() {
            Received::Again(again)
        } else if !self.pending.is_empty() || !self.chunks.is_empty() {
            // R would not answer a probe before it has what is on its way; S must not wait for that.
            Received::Acknowledge(self.in_acked)
        } else {
            Received::Probe(self.out_next - 1)
        }
    }

    /// What R has not acknowledged of `[start, end)` in S's numbers.
    fn again(&self, start: Seq, end: Seq) -> Vec<Outgoing> {
        self.chunks.iter().filter(|chunk| chunk.overlaps(start, end)).filter_map(Chunk::outgoing).collect()
    }

    /// The next whole message, in order. `strict` as in `control::frame`. What is returned has to be given to `emit` or
    /// `swallow` before anything else is asked of this stream.
    pub fn next_message(&mut self, strict: bool) -> Next {
        if self.pending.is_empty() {
            return Next::Nothing;
        }
        match control::frame(&self.pending, strict) {
            Ok(Some(length)) if self.pending.len() >= length => Next::Message(self.take(length)),
            Ok(Some(_) | None) if self.finished => {
                Next::Malformed(Malformed::Truncated { octets: self.pending.len() as u16 })
            }
            Ok(Some(_) | None) => Next::Nothing,
            Err(malformed) => Next::Malformed(malformed),
        }
    }

    /// The first `length` pending octets.
    fn take(&mut self, length: usize) -> Vec<u8> {
        let rest = self.pending.split_off(length);
        std::mem::replace(&mut self.pending, rest)
    }

    /// Whether a message of our own can be put in: behind FIN R reads nothing.
    pub fn can_inject(&self) -> bool {
        !self.finished
    }

    /// Whether octets of an unfinished message are held.
    pub fn is_holding(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Whether S has sent FIN.
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// Whether R's numbers differ from S's, or did for something R has not acknowledged.
    pub fn is_shifted(&self) -> bool {
        self.out_next.distance(self.emitted()) != 0 || self.chunks.iter().any(Chunk::shifts)
    }

    /// Whether R has acknowledged all that was sent to it.
    pub fn is_delivered(&self) -> bool {
        self.chunks.is_empty()
    }

    /// The number after the last octet sent to R, in R's numbers: what an empty segment to R carries.
    pub fn out_next(&self) -> Seq {
        self.out_next
    }

    /// The next number expected from S, in S's numbers.
    pub fn in_next(&self) -> Seq {
        self.in_next
    }

    /// The highest acknowledgement S was given, in S's numbers.
    pub fn in_acked(&self) -> Seq {
        self.in_acked
    }

    /// Where an empty segment of S belongs in R's numbers; `None` when it is not near the stream.
    pub fn map_empty(&self, seq: Seq) -> Option<Seq> {
        let ahead = seq.distance(self.in_next);
        (-OLDEST_COPY..OLDEST_COPY).contains(&ahead).then(|| {
            // Only the place right behind what was emitted means something to R; an old one is a keep-alive.
            if ahead >= 0 { self.out_next } else { self.out_next - 1 }
        })
    }

    /// Whether an RST of S with this number can be real: S knows its own numbers, and what R has told it.
    pub fn is_plausible_reset(&self, seq: Seq) -> bool {
        let oldest = self.chunks.front().map_or(self.emitted(), |chunk| chunk.in_start);
        !seq.before(oldest.earlier(self.in_acked)) && seq.distance(self.in_next) < i32::from(u16::MAX)
    }

    /// Everything before this, in S's numbers, has been emitted or swallowed.
    fn emitted(&self) -> Seq {
        self.in_next - self.pending.len() as u32
    }

    /// Whether R has not acknowledged that much, or so many, of what we have put in ourselves.
    pub fn is_ignored(&self) -> bool {
        let ours = || self.chunks.iter().filter(|chunk| chunk.in_len == 0);
        ours().count() >= MAX_CHUNKS || ours().map(|chunk| chunk.bytes.len()).sum::<usize>() >= MAX_UNACKED
    }

    /// A message that was taken out has a chunk of its own for as long as R has not acknowledged what was before it.
    fn unacked(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.bytes.len().max(chunk.in_len as usize)).sum()
    }
}

#[cfg(test)]
mod exhaustive_tests;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;
