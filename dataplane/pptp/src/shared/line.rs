//! What both legs have in common: bytes in, whole messages out; what waits to be written; who was last heard when.

use crate::types::Now;
use crate::wire::control::{Malformed, frame};

/// One TCP connection as the session layer sees it.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) input: Vec<u8>,
    /// Octets given to the shell that the kernel has not taken.
    pub(super) unwritten: usize,
    /// When the kernel last took some, or there were none.
    pub(super) progress: Now,
    /// When the last whole message came.
    pub(super) heard: Now,
    /// When our last Echo-Request without an answer was sent.
    pub(super) probed: Option<Now>,
    /// The deadline its entry in the timer queue has.
    pub(super) armed: Option<Now>,
}

/// What silence asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Silence {
    /// Nothing before this moment; `None`: never.
    Fine(Option<Now>),
    /// An Echo-Request is due.
    Probe,
    /// It was silent for too long.
    Dead,
}

impl Line {
    pub(super) fn new(now: Now) -> Self {
        Self { input: Vec::new(), unwritten: 0, progress: now, heard: now, probed: None, armed: None }
    }

    /// Takes octets of the other end.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
    }

    /// The next whole message.
    pub(super) fn next(&mut self, strict: bool) -> Result<Option<Vec<u8>>, Malformed> {
        match frame(&self.input, strict)? {
            Some(length) if self.input.len() >= length => {
                let rest = self.input.split_off(length);
                Ok(Some(std::mem::replace(&mut self.input, rest)))
            }
            Some(_) | None => Ok(None),
        }
    }

    /// A whole message came.
    pub(super) fn hear(&mut self, now: Now) {
        self.heard = now;
        self.probed = None;
    }

    /// A message of so many octets goes to the shell.
    pub(super) fn write(&mut self, octets: usize, now: Now) {
        if self.unwritten == 0 {
            self.progress = now;
        }
        self.unwritten += octets;
    }

    /// The kernel has taken so many octets.
    pub(super) fn written(&mut self, octets: usize, now: Now) {
        self.unwritten = self.unwritten.saturating_sub(octets);
        self.progress = now;
    }

    /// Octets that wait.
    pub(super) fn unwritten(&self) -> usize {
        self.unwritten
    }

    /// When its reader counts as gone if it takes nothing more.
    pub(super) fn write_deadline(&self, timeout_ms: u64) -> Option<Now> {
        (self.unwritten > 0).then(|| self.progress.after(timeout_ms))
    }

    /// What the other end's silence asks for. It is asked after a third of `timeout_ms` and again after two (RFC 2637
    /// §1.4: after 60 s, so with the default of 180 s), and given up after the whole; 0 is never.
    pub(super) fn silence(&self, timeout_ms: u64, now: Now) -> Silence {
        if timeout_ms == 0 {
            return Silence::Fine(None);
        }
        let dead = self.heard.after(timeout_ms);
        let probe = self.probed.unwrap_or(self.heard).after((timeout_ms / 3).max(1));
        if dead <= now {
            Silence::Dead
        } else if probe <= now {
            Silence::Probe
        } else {
            Silence::Fine(Some(probe.min(dead)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_peer_is_asked_twice_and_then_given_up() {
        let mut line = Line::new(Now(0));
        assert_eq!(line.silence(180, Now(59)), Silence::Fine(Some(Now(60))));
        assert_eq!(line.silence(180, Now(60)), Silence::Probe);
        line.probed = Some(Now(60));
        assert_eq!(line.silence(180, Now(60)), Silence::Fine(Some(Now(120))));
        assert_eq!(line.silence(180, Now(120)), Silence::Probe);
        line.probed = Some(Now(120));
        assert_eq!(line.silence(180, Now(180)), Silence::Dead);
        line.hear(Now(150));
        assert_eq!(line.silence(180, Now(180)), Silence::Fine(Some(Now(210))));
        assert_eq!(line.silence(0, Now(9_999)), Silence::Fine(None));
    }

    #[test]
    fn a_reader_that_takes_something_has_time_again() {
        let mut line = Line::new(Now(0));
        assert_eq!(line.write_deadline(30), None);
        line.write(100, Now(5));
        line.write(100, Now(9));
        assert_eq!(line.write_deadline(30), Some(Now(35)));
        line.written(100, Now(20));
        assert_eq!((line.unwritten(), line.write_deadline(30)), (100, Some(Now(50))));
        line.written(100, Now(21));
        assert_eq!(line.write_deadline(30), None);
    }
}
