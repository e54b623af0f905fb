//! Paths past the engine: calls whose GRE may pass without it, and what it is told of what passed.
//!
//! ```text
//!  call is up ─► OpenPath ─► the shell's shortcut, if it has one ─► beside(path), seen(path)
//!  call ends  ─► ClosePath, before anybody is told of the end
//! ```

use super::Engine;
use super::timers::Timer;
use super::view::CallState;
use crate::types::{CallPath, Command, IdPair, Now};

/// What was seen of a call's GRE by whoever passes it on in the engine's place; `None`: nothing yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// When any GRE passed, in either direction.
    pub any: Option<Now>,
    /// When user data of the client passed.
    pub up_payload: Option<Now>,
    /// When user data of the server passed.
    pub down_payload: Option<Now>,
}

impl Engine {
    /// The path of every call that is up: after a start, the shell's shortcut has to hold exactly these.
    pub fn paths(&self) -> impl Iterator<Item = CallPath> + '_ {
        self.calls.iter().filter_map(|(index, _)| self.path(index))
    }

    /// Paths of calls for which silence may be due at `now`. Tell what was seen of them before `handle_timeout`.
    pub fn paths_due(&self, now: Now) -> Vec<CallPath> {
        let due = self.timers.due(now).filter_map(|timer| match timer {
            Timer::Call(index, serial) if self.calls.is(index, serial) => self.path(index),
            Timer::Call(..) | Timer::Connection(..) | Timer::Held(_) | Timer::Fragments => None,
        });
        due.collect()
    }

    /// Whether the GRE of this path passes beside the engine from now on. If so, what still comes here is only what the
    /// shortcut does not handle, and says nothing about packets lost on the way.
    pub fn beside(&mut self, path: &CallPath, beside: bool) {
        if let Some(call) = self.call_of_path(path).and_then(|index| self.calls.get_mut(index)) {
            call.beside = beside;
            call.data.up.forget_sequence();
            call.data.down.forget_sequence();
        }
    }

    /// What was seen of the GRE of this path so far. Never takes back what is known.
    pub fn seen(&mut self, path: &CallPath, seen: Seen) {
        let Some(index) = self.call_of_path(path) else { return };
        if let Some(call) = self.calls.get_mut(index) {
            let later = |known: &mut Now, now: Option<Now>| *known = (*known).max(now.unwrap_or_default());
            later(&mut call.data.last_seen, seen.any);
            later(&mut call.data.up.last_payload, seen.up_payload);
            later(&mut call.data.down.last_payload, seen.down_payload);
        }
    }

    /// A call has come up.
    pub(super) fn open_path(&mut self, index: u32) {
        if let Some(path) = self.path(index) {
            self.commands.push_back(Command::OpenPath(path));
        }
    }

    /// A call is about to end; said once.
    pub(super) fn close_path(&mut self, index: u32) {
        let Some(path) = self.path(index) else { return };
        if let Some(call) = self.calls.get_mut(index) {
            call.closed = true;
        }
        self.commands.push_back(Command::ClosePath(path));
    }

    /// After a call has ended: another one of the same client with the same PAC id has the way up again.
    pub(super) fn hand_over_path(&mut self, ended: &super::call::Call) {
        let heir = ended.data.pac.and_then(|pac| self.calls.up(ended.client, ended.server, pac));
        if let Some(heir) = heir {
            self.open_path(heir);
        }
    }

    fn path(&self, index: u32) -> Option<CallPath> {
        let call = self.calls.get(index).filter(|call| call.data.state == CallState::Up && !call.closed)?;
        let (pns, pac) = (call.data.pns?, call.data.pac?);
        Some(CallPath {
            client: call.client,
            external: call.external,
            server: call.server,
            pns: IdPair { client: pns.client, server: pns.translated },
            pac: IdPair { client: pac, server: pac },
        })
    }

    fn call_of_path(&self, path: &CallPath) -> Option<u32> {
        let index = self.calls.down(path.external, path.server, path.pns.server)?;
        (self.path(index)? == *path).then_some(index)
    }
}
