//! What is due when: retransmission, first message, silence, set-up, linger.

use super::Engine;
use super::connection::other;
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
        let leave = connection.leaving.map(|(at, _)| at);
        streams.into_iter().flatten().chain(leave).chain(self.silence_deadline(index)).min()
    }

    fn silence_deadline(&self, index: u32) -> Option<Now> {
        let connection = self.connections.get(index)?;
        let (data, limits) = (&connection.data, &self.limits);
        let (last, _) = connection.silence();
        if connection.leaving.is_some() {
            return None;
        }
        let at = if data.state == ConnectionState::Opening {
            data.created.after(limits.handshake_timeout_ms)
        } else if !data.started {
            data.connected.after(limits.first_message_timeout_ms)
        } else if data.state == ConnectionState::Closing {
            last.after(limits.half_closed_timeout_ms)
        } else if data.policy.echo_timeout_ms > 0 {
            last.after(data.policy.echo_timeout_ms)
        } else if self.calls.of_connection(index).next().is_none() {
            last.after(limits.callless_timeout_ms)
        } else {
            return None;
        };
        Some(at.max(connection.grace))
    }

    fn connection_due(&mut self, index: u32, now: Now) {
        let Some(connection) = self.connections.get(index) else { return };
        if let Some(ended) = connection.ended {
            if ended.at.after(self.limits.linger_ms) <= now {
                self.forget(index);
            }
            return;
        }
        if let Some((_, reason)) = connection.leaving.filter(|(at, _)| *at <= now) {
            self.close(index, reason, (true, true), now);
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
        if self.silence_deadline(index).is_none_or(|at| at > now) {
            return;
        }
        let Some(connection) = self.connections.get(index) else { return };
        let (_, silent) = connection.silence();
        let data = &connection.data;
        let reason = if !data.started {
            if data.state == ConnectionState::Opening {
                CloseReason::NotEstablished
            } else {
                self.counters.first_message_timeouts += 1;
                CloseReason::FirstMessageTimeout
            }
        } else if data.state == ConnectionState::Closing {
            CloseReason::HalfClosed
        } else if data.policy.echo_timeout_ms > 0 {
            CloseReason::EchoTimeout(silent)
        } else {
            CloseReason::Unused
        };
        self.shut(index, reason, now);
    }

    /// When a call has to be looked at next.
    fn call_deadline(&self, index: u32) -> Option<Now> {
        let call = self.calls.get(index)?;
        let connection = self.connections.get(call.connection)?;
        let idle = connection.data.policy.idle_timeout_ms;
        if let Some(clearing) = call.data.clearing {
            return Some(clearing.after(self.limits.linger_ms));
        }
        match call.data.state {
            CallState::Requested | CallState::Accepted => {
                Some(call.data.created.after(self.limits.call_setup_timeout_ms).max(connection.grace))
            }
            CallState::Up if idle > 0 => Some(call.data.last_payload().0.after(idle).max(connection.grace)),
            CallState::Up => None,
        }
    }

    pub(super) fn arm_call(&mut self, index: u32) {
        let Some(at) = self.call_deadline(index) else { return };
        let Some(call) = self.calls.get_mut(index) else { return };
        if call.armed.is_none_or(|armed| at < armed) {
            let timer = Timer::Call(index, call.serial);
            if let Some(armed) = call.armed.replace(at) {
                self.timers.clear(armed, timer);
            }
            self.timers.set(at, timer);
        }
    }

    fn call_due(&mut self, index: u32, now: Now) {
        if self.call_deadline(index).is_none_or(|at| at > now) {
            return;
        }
        let Some(call) = self.calls.get(index) else { return };
        if call.data.clearing.is_some() {
            let connection = call.connection;
            let start = self.commands.len();
            self.end_call(index, CallEnd::Cleared(Side::Client), now);
            self.persist_before(start, connection);
            return;
        }
        self.counters.calls_timed_out += 1;
        match call.data.state {
            CallState::Requested | CallState::Accepted => self.clear_call(index, CallEnd::SetupTimeout, now),
            CallState::Up => {
                let (_, silent) = call.data.last_payload();
                self.clear_call(index, CallEnd::IdleTimeout(silent), now);
            }
        }
    }
}
