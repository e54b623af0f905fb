//! What is due when: retransmission, first message, silence, set-up, linger.

use super::Engine;
use super::connection::{Reset, other};
use super::event::{CallEnd, CloseReason};
use super::timers::Timer;
use super::view::{CallState, ConnectionState};
use crate::stream::Due;
use crate::types::{Now, Side};

impl Engine {
    /// Does what is due at `now`. Calling it early does nothing.
    pub fn handle_timeout(&mut self, now: Now) {
        while let Some(timer) = self.timers.pop_due(now) {
            match timer {
                Timer::Connection(index, id) => {
                    let found = self.connections.get_mut(index).filter(|connection| connection.id == id);
                    let Some(connection) = found else { continue };
                    connection.armed = None;
                    self.connection_due(index, now);
                    self.arm(index);
                }
                Timer::Call(index, serial) => {
                    if !self.calls.is(index, serial) {
                        continue;
                    }
                    if let Some(call) = self.calls.get_mut(index) {
                        call.armed = None;
                    }
                    self.call_due(index, now);
                    self.arm_call(index);
                }
                Timer::Held(serial) => {
                    let dropped = self.held.remove(&serial).map_or(0, |queue| queue.len());
                    self.counters.drop_gre_held += dropped as u64;
                }
                Timer::Fragments => self.expire_fragments(now),
            }
        }
        self.allocator.release(now);
    }

    /// When a connection has to be looked at next.
    pub(super) fn deadline(&self, index: u32) -> Option<Now> {
        let connection = self.connections.get(index)?;
        if let Some(ended) = connection.ended {
            return Some(ended.at.after(self.limits.linger_ms));
        }
        let data = &connection.data;
        let streams = [data.up.poll_timeout(), data.down.as_ref().and_then(|down| down.poll_timeout())];
        let leave = connection.data.leaving.map(|(at, _)| at);
        streams.into_iter().flatten().chain(leave).chain(self.silence_deadline(index).map(|(at, _)| at)).min()
    }

    /// When silence ends a connection, and why it then does.
    fn silence_deadline(&self, index: u32) -> Option<(Now, CloseReason)> {
        let connection = self.connections.get(index)?;
        let (data, limits) = (&connection.data, &self.limits);
        let (last, silent) = connection.silence();
        if connection.data.leaving.is_some() {
            return None;
        }
        let (at, reason) = if data.state == ConnectionState::Opening {
            (connection.created.after(limits.handshake_timeout_ms), CloseReason::NotEstablished)
        } else if !data.started {
            (data.connected.after(limits.first_message_timeout_ms), CloseReason::FirstMessageTimeout)
        } else if data.state == ConnectionState::Closing {
            (last.after(limits.half_closed_timeout_ms), CloseReason::HalfClosed)
        } else if connection.policy.echo_timeout_ms > 0 {
            (last.after(connection.policy.echo_timeout_ms), CloseReason::EchoTimeout(silent))
        } else if self.calls.of_connection(index).next().is_none() {
            (last.after(limits.callless_timeout_ms), CloseReason::Unused)
        } else {
            return None;
        };
        Some((at.max(connection.grace), reason))
    }

    fn connection_due(&mut self, index: u32, now: Now) {
        let Some(connection) = self.connections.get(index) else { return };
        if let Some(ended) = connection.ended {
            if ended.at.after(self.limits.linger_ms) <= now {
                self.forget(index);
            }
            return;
        }
        if let Some((_, reason)) = connection.data.leaving.filter(|(at, _)| *at <= now) {
            self.close(index, reason, Reset::Both, now);
            return;
        }
        for from in [Side::Client, Side::Server] {
            let Some(connection) = self.connections.get_mut(index) else { return };
            match connection.stream(from).map_or(Due::Nothing, |stream| stream.due(now)) {
                Due::Nothing => {}
                Due::Again(segments) => {
                    for segment in segments {
                        self.counters.tcp_retransmitted += 1;
                        self.out(other(from), index, &segment);
                    }
                }
                Due::Dead => {
                    self.shut(index, CloseReason::Unresponsive(other(from)), now);
                    return;
                }
            }
        }
        let Some((_, reason)) = self.silence_deadline(index).filter(|(at, _)| *at <= now) else { return };
        self.counters.first_message_timeouts += u64::from(reason == CloseReason::FirstMessageTimeout);
        self.shut(index, reason, now);
    }

    /// When a call has to be looked at next, and how it ends if nothing came in between.
    fn call_deadline(&self, index: u32) -> Option<(Now, CallEnd)> {
        let call = self.calls.get(index)?;
        let connection = self.connections.get(call.connection)?;
        let idle = connection.policy.idle_timeout_ms;
        if let Some(clearing) = call.data.clearing {
            let at = clearing.after(self.limits.linger_ms);
            return Some((at.max(connection.grace), CallEnd::Cleared(Side::Client)));
        }
        match call.data.state {
            CallState::Requested | CallState::Accepted => {
                let at = call.data.created.after(self.limits.call_setup_timeout_ms);
                Some((at.max(connection.grace), CallEnd::SetupTimeout))
            }
            CallState::Up if idle > 0 => {
                let (last, silent) = call.data.last_payload();
                Some((last.after(idle).max(connection.grace), CallEnd::IdleTimeout(silent)))
            }
            CallState::Up => None,
        }
    }

    pub(super) fn arm_call(&mut self, index: u32) {
        let Some((at, _)) = self.call_deadline(index) else { return };
        let Some(call) = self.calls.get_mut(index) else { return };
        self.timers.no_later(&mut call.armed, at, Timer::Call(index, call.serial));
    }

    /// The end of a call whose time has come.
    fn due_end(&self, index: u32, now: Now) -> Option<CallEnd> {
        self.call_deadline(index).filter(|(at, _)| *at <= now).map(|(_, reason)| reason)
    }

    /// With a call whose time has come end all others of its connection whose time has come: a record has all calls of its
    /// connection, and one a call would be as many as calls, each as long.
    fn call_due(&mut self, index: u32, now: Now) {
        if self.due_end(index, now).is_none() {
            return;
        }
        let Some(connection) = self.calls.get(index).map(|call| call.connection) else { return };
        let start = self.commands.len();
        let calls: Vec<u32> = self.calls.of_connection(connection).collect();
        for call in calls {
            let Some(reason) = self.due_end(call, now) else { continue };
            if self.calls.get(call).is_some_and(|call| call.data.clearing.is_some()) {
                self.end_call(call, reason, now);
            } else {
                self.counters.calls_timed_out += 1;
                self.part_with_call(call, reason, now);
            }
        }
        self.arm(connection);
        self.persist_before(start, connection);
    }
}
