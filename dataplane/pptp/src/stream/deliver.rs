//! The way out of a stream: emit, swallow, inject, acknowledgements of R, and sending again.

use std::collections::VecDeque;

use super::{Chunk, Outgoing, Stream};
use crate::types::Now;
use crate::wire::Seq;

/// How long R has for its first acknowledgement of what is ours to deliver, milliseconds; doubled each time.
const FIRST_RETRY_MS: u64 = 300;

/// How often it is sent again before R counts as gone: with doubling, about 19 s after the first.
const MAX_RETRIES: u8 = 6;

/// What a stream has to do when its time has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Due {
    /// Nothing yet.
    Nothing,
    /// Send these to R again.
    Again(Vec<Outgoing>),
    /// R does not acknowledge.
    Dead,
}

impl Stream {
    /// Puts a message just taken by `next_message` on its way to R. `bytes` may differ from what was taken, but not in
    /// length.
    pub fn emit(&mut self, bytes: Vec<u8>, now: Now) -> Outgoing {
        let length = bytes.len() as u32;
        self.push(length, bytes, false, now)
    }

    /// Lets a message of this length, just taken by `next_message`, disappear. S has to be given the returned
    /// acknowledgement, since R will never give it.
    pub fn swallow(&mut self, length: usize, now: Now) -> Seq {
        let length = length as u32;
        let in_start = self.emitted() - length;
        let out = self.out_next;
        self.chunks.push_back(Chunk { in_start, in_len: length, out, bytes: Vec::new(), fin: false, ours: true });
        // With nothing before it, R has already acknowledged up to here.
        self.drop_acknowledged(self.acknowledged_by_r());
        self.take_custody(now)
    }

    /// Puts a message of our own into the stream, behind the last whole message of S. Ask `can_inject` before.
    pub fn inject(&mut self, bytes: Vec<u8>, now: Now) -> Outgoing {
        self.push(0, bytes, false, now)
    }

    /// Passes on S's FIN once all before it has left. Call it when `next_message` has no more and `is_finished`.
    pub fn emit_fin(&mut self, now: Now) -> Option<Outgoing> {
        if !self.finished || self.fin_sent || !self.pending.is_empty() {
            return None;
        }
        self.in_next += 1;
        self.fin_sent = true;
        Some(self.push(1, Vec::new(), true, now))
    }

    /// Takes responsibility for everything S has sent so far, and gives the acknowledgement that says so.
    pub fn take_custody(&mut self, now: Now) -> Seq {
        for chunk in &mut self.chunks {
            chunk.ours = true;
        }
        self.in_acked = self.in_acked.later(self.in_next);
        self.arm(now);
        self.in_acked
    }

    /// R acknowledges up to `ack` in its numbers: gives the acknowledgement for S. It never goes back, and an
    /// impossible one changes nothing.
    pub fn acknowledged(&mut self, ack: Seq, now: Now) -> Seq {
        let ahead = ack.distance(self.out_next);
        if ahead <= 0 && ahead > -super::OLDEST_COPY {
            let before = self.chunks.len();
            self.drop_acknowledged(ack);
            let mapped = self.chunks.front().map_or(self.emitted(), |chunk| chunk.in_ack(ack));
            // An old acknowledgement says nothing once newer ones have gone by.
            if !self.chunks.is_empty() || ahead == 0 {
                self.in_acked = self.in_acked.later(mapped);
            }
            if self.chunks.len() != before {
                self.retries = 0;
                self.retry_at = None;
                self.arm(now);
            }
        }
        self.in_acked
    }

    /// A range R reports to have received ahead of its acknowledgement (SACK, RFC 2018), in S's numbers; `None` when
    /// there is nothing in it that S has sent and still keeps.
    pub fn map_sack(&self, left: Seq, right: Seq) -> Option<(Seq, Seq)> {
        if !left.before(right) || right.after(self.out_next) {
            return None;
        }
        let touched = || self.chunks.iter().filter(|chunk| left.before(chunk.out_end()) && chunk.out.before(right));
        let first = touched().find(|chunk| chunk.in_len > 0)?;
        let last = touched().rfind(|chunk| chunk.in_len > 0)?;
        let start = first.in_at(left).later(self.in_acked);
        let end = last.in_at(right);
        start.before(end).then_some((start, end))
    }

    /// When `due` has to be asked.
    pub fn poll_timeout(&self) -> Option<Now> {
        self.retry_at
    }

    /// What has to be done at `now`.
    pub fn due(&mut self, now: Now) -> Due {
        if self.retry_at.is_none_or(|at| at > now) {
            return Due::Nothing;
        }
        if self.retries >= MAX_RETRIES {
            self.retry_at = None;
            return Due::Dead;
        }
        self.retries += 1;
        self.retry_at = Some(now.after(FIRST_RETRY_MS << self.retries));
        Due::Again(self.chunks.iter().filter(|chunk| chunk.ours).filter_map(Chunk::outgoing).collect())
    }

    /// After a restart: what is ours is sent again soon, and R gets its time anew.
    pub fn rearm(&mut self, now: Now) {
        self.retries = 0;
        self.retry_at = None;
        self.arm(now);
    }

    fn push(&mut self, in_len: u32, bytes: Vec<u8>, fin: bool, now: Now) -> Outgoing {
        let (in_start, out) = (self.emitted() - in_len, self.out_next);
        // What S was told is delivered, or never sent, only we can send again.
        let ours = in_len == 0 || self.in_acked.after(in_start);
        let chunk = Chunk { in_start, in_len, out, bytes, fin, ours };
        self.out_next += chunk.out_len();
        let outgoing = Outgoing { seq: chunk.out, bytes: chunk.bytes.clone(), fin };
        self.chunks.push_back(chunk);
        self.arm(now);
        outgoing
    }

    fn arm(&mut self, now: Now) {
        if !self.chunks.iter().any(|chunk| chunk.ours && chunk.out_len() > 0) {
            self.retry_at = None;
        } else if self.retry_at.is_none() {
            self.retry_at = Some(now.after(FIRST_RETRY_MS));
        }
    }

    /// What R has acknowledged for certain.
    fn acknowledged_by_r(&self) -> Seq {
        self.chunks.iter().find(|chunk| chunk.out_len() > 0).map_or(self.out_next, |chunk| chunk.out)
    }

    fn drop_acknowledged(&mut self, ack: Seq) {
        while self.chunks.front().is_some_and(|chunk| !chunk.out_end().after(ack)) {
            self.chunks.pop_front();
        }
        if self.chunks.is_empty() {
            // Connections are silent most of the time: no heap for an idle one.
            self.chunks = VecDeque::new();
        }
    }
}
