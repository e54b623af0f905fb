//! How calls and connections end, and who is told.

use std::net::Ipv4Addr;

use super::Engine;
use super::allocator::Pair;
use super::call::{Call, CallData};
use super::connection::{Ended, Reset, other};
use super::event::{CallEnd, CallIds, CloseReason, Event};
use super::record::{Change, Quarantined, QuarantinedWhat};
use super::view::{CallState, ConnectionState};
use crate::types::{Command, Now, Side};
use crate::wire::control::ours::{clear_request, disconnect_notify, incoming_refusal, outgoing_refusal, stop_request};
use crate::wire::control::{DisconnectResult, GeneralError, IncomingResult, OutgoingResult, StopReason};
use crate::wire::tcp;

impl Engine {
    /// Adds a new call.
    pub(super) fn add_call(&mut self, connection: u32, data: CallData) {
        let Some(of) = self.connections.get_mut(connection) else { return };
        let number = of.next_call;
        of.next_call = number.wrapping_add(1);
        if let Some(call) = self.enter_call(connection, number, data) {
            self.changed(call);
        }
    }

    /// Adds a call to the tables and counts.
    pub(super) fn enter_call(&mut self, connection: u32, number: u32, data: CallData) -> Option<u32> {
        let of = self.connections.get(connection)?;
        let ends = (of.flow.client, of.external, of.flow.server);
        self.calls_of_alg.add(&of.policy.alg, of.flow.client);
        let call = self.calls.insert((connection, number), ends, data);
        self.arm_call(call);
        Some(call)
    }

    /// Takes a call out; its translated Call ID rests.
    pub(super) fn end_call(&mut self, index: u32, reason: CallEnd, now: Now) {
        self.close_path(index);
        let Some(call) = self.calls.remove(index) else { return };
        self.hand_over_path(&call);
        if let Some(armed) = call.armed {
            self.timers.clear(armed, super::timers::Timer::Call(index, call.serial));
        }
        let held = self.held.remove(&call.serial).map_or(0, |queue| queue.len());
        self.counters.drop_gre_held += held as u64;
        self.counters.calls_ended += 1;
        if let Some(connection) = self.connections.get_mut(call.connection) {
            let unsaved = &mut connection.unsaved;
            unsaved.calls.retain(|changed| *changed != index);
            unsaved.over.push(call.number);
            let policy = std::sync::Arc::clone(&connection.policy);
            self.calls_of_alg.take_off(&policy.alg, call.client);
            let rest = self.call_id_rest_ms(policy.echo_timeout_ms);
            // A server that has refused a call sends none of its GRE. Of any other it may, until it hears of the end.
            let refused = matches!(reason, CallEnd::NotAccepted { .. }) && call.data.state == CallState::Requested;
            if let Some(pns) = call.data.pns {
                let pair = Pair { external: call.external, server: call.server };
                self.rest(
                    pair,
                    QuarantinedWhat::CallId(pns.translated),
                    call.client,
                    (!refused).then(|| now.after(rest)),
                );
            }
            if let Some(ids) = self.names(&call) {
                let (up, down) = (call.data.up.traffic.packets, call.data.down.traffic.packets);
                self.note(Event::CallDown { call: ids, reason, up_packets: up, down_packets: down });
            }
        }
    }

    /// The call by its three names; `None` before it has any on the client's side.
    pub(super) fn names(&self, call: &Call) -> Option<CallIds> {
        let connection = self.connections.get(call.connection)?;
        let pns = call.data.pns?;
        Some(CallIds {
            flow: connection.flow,
            external: call.external,
            pns_id: pns.client,
            translated_id: pns.translated,
            pac_id: call.data.pac,
        })
    }

    /// A port or Call ID of this client is not used any more; it may be given out again then, or now.
    fn rest(&mut self, pair: Pair, what: QuarantinedWhat, client: Ipv4Addr, until: Option<Now>) {
        let Some(until) = until else {
            self.allocator.give_back(pair, what, Some(client));
            return;
        };
        let entry = Quarantined { external: pair.external, server: pair.server, what, until };
        self.commands.push_back(Command::Persist(Change::Quarantine(entry)));
        self.allocator.quarantine(entry, Some(client));
    }

    /// Ends a call by our own will: both sides are told by messages of ours. Whoever does it saves the connection, once for
    /// all its calls.
    pub(super) fn part_with_call(&mut self, index: u32, reason: CallEnd, now: Now) {
        let Some(call) = self.calls.get(index) else { return };
        let (connection, data) = (call.connection, call.data);
        self.close_path(index);
        let late = reason == CallEnd::SetupTimeout;
        let unanswered = data.state == CallState::Requested;
        let to_client = match (data.pac, data.pns) {
            (None, Some(pns)) => {
                let result = if late { OutgoingResult::TimeOut } else { OutgoingResult::DoNotAccept };
                Some(outgoing_refusal(pns.client, result, GeneralError::None))
            }
            (Some(pac), _) => Some(disconnect_notify(pac, (DisconnectResult::AdminShutdown, GeneralError::None))),
            (None, None) => None,
        };
        let to_server = match (data.pns, data.pac) {
            (None, Some(pac)) if unanswered => {
                Some(incoming_refusal(pac, IncomingResult::DoNotAccept, GeneralError::NoResource))
            }
            (Some(pns), _) => Some(clear_request(pns.translated)),
            (None, _) => None,
        };
        for (to, message) in [(Side::Client, to_client), (Side::Server, to_server)] {
            if let Some(message) = message {
                self.inject(to, connection, message, now);
            }
        }
        self.end_call(index, reason, now);
    }

    /// Puts a message of our own into what `to` receives.
    pub(super) fn inject(&mut self, to: Side, index: u32, message: Vec<u8>, now: Now) {
        let Some(connection) = self.connections.get_mut(index) else { return };
        let Some(stream) = connection.stream(other(to)) else { return };
        // Behind FIN nothing can be said any more.
        if !stream.can_inject() {
            return;
        }
        let segment = stream.inject(message, now);
        self.counters.messages_made += 1;
        self.out(to, index, &segment);
    }

    /// A message that cannot be passed on: the connection ends, and nothing of the message reaches the other side.
    pub(super) fn malformed(&mut self, from: Side, index: u32, reason: &'static str, now: Now) {
        self.counters.messages_malformed += 1;
        let Some(connection) = self.connections.get(index) else { return };
        let flow = connection.flow;
        self.note(Event::Malformed { flow, from, reason, closed: true });
        self.close(index, CloseReason::Malformed(from), Reset::Both, now);
    }

    /// Ends a connection by our own will: calls and connection are taken leave of by message. What has not closed by
    /// itself a little later is reset.
    pub(super) fn shut(&mut self, index: u32, reason: CloseReason, now: Now) {
        let Some(connection) = self.connections.get_mut(index) else { return };
        if connection.ended.is_some() || connection.data.leaving.is_some() {
            return;
        }
        if !connection.data.started {
            self.close(index, reason, Reset::Both, now);
            return;
        }
        let start = self.commands.len();
        connection.data.leaving = Some((now.after(self.limits.farewell_ms), reason));
        connection.data.state = ConnectionState::Closing;
        let calls: Vec<u32> = self.calls.of_connection(index).collect();
        for call in calls {
            self.part_with_call(call, CallEnd::ConnectionClosed(reason), now);
        }
        for to in [Side::Client, Side::Server] {
            self.inject(to, index, stop_request(StopReason::StopLocalShutdown), now);
        }
        self.arm(index);
        self.persist_before(start, index);
    }

    /// Ends a connection with all its calls. `reset`: who is told by RST. It stays known for a
    /// while, so that retransmissions are answered.
    pub(super) fn close(&mut self, index: u32, reason: CloseReason, reset: Reset, now: Now) {
        let Some(connection) = self.connections.get_mut(index) else { return };
        if connection.ended.is_some() {
            return;
        }
        // Whoever closes first once we have said goodbye, the reason is ours.
        let reason = connection.data.leaving.take().map_or(reason, |(_, reason)| reason);
        let calls: Vec<u32> = self.calls.of_connection(index).collect();
        calls.iter().for_each(|call| self.close_path(*call));
        for to in [Side::Client, Side::Server] {
            let Some(connection) = self.connections.get_mut(index) else { return };
            let seq = connection.stream(other(to)).map(|stream| stream.out_next());
            let flags = tcp::Flags::RST.with(tcp::Flags::ACK);
            // Before the server's SYN the client can only be told that its SYN is refused.
            let seq = seq.or((to == Side::Client).then_some(crate::wire::Seq(0)));
            if let Some(seq) = seq.filter(|_| reset.tells(to)) {
                let syn = connection.client_isn + 1;
                let ack = connection.stream(to).map_or(syn, |stream| stream.in_acked());
                let packet = connection.segment_acknowledging(to, seq, ack, flags, &[]);
                self.counters.tcp_resets_sent += 1;
                self.send(to, packet);
            }
        }
        let count = calls.len() as u32;
        for call in calls {
            self.end_call(call, CallEnd::ConnectionClosed(reason), now);
        }
        self.leave_half_open(index);
        self.counters.connections_closed += 1;
        self.live_connections = self.live_connections.saturating_sub(1);
        let Some(connection) = self.connections.get_mut(index) else { return };
        let by_reset = reset != Reset::Nobody;
        connection.ended = Some(Ended { at: now, by_reset });
        // No server has such a connection before the client has answered its SYN, and none waits behind a FIN.
        let accepted = connection.data.down.is_some() && connection.data.state != ConnectionState::Opening;
        let waited = (connection.data.connected, connection.finished.unwrap_or(now));
        connection.data.state = ConnectionState::Closed;
        let (flow, id, started) = (connection.flow, connection.id, connection.data.started);
        let (pair, port) = (Pair { external: connection.external, server: flow.server }, connection.external_port);
        let service = connection.policy.service.clone();
        let by_client = matches!(
            reason,
            CloseReason::FirstMessageTimeout
                | CloseReason::Replaced
                | CloseReason::Finished(Side::Client)
                | CloseReason::Reset(Side::Client)
                | CloseReason::Malformed(Side::Client)
        );
        if by_client && !started && accepted {
            self.patience.kept_waiting(flow, waited, now);
        }
        // The server has nothing of a connection whose SYN it has refused: nothing of it can come late.
        let refused = reason == CloseReason::Reset(Side::Server) && connection.data.down.is_none();
        self.sessions.take_off(&service, flow.client);
        self.note(Event::Closed { flow, reason, calls: count });
        self.commands.push_back(Command::Persist(Change::Remove(id)));
        let limits = &self.limits;
        // What was reset before it began has nothing under way.
        let long = if by_reset && !started { 0 } else { limits.port_quarantine_ms };
        let until = (!refused).then(|| now.after(long.max(limits.linger_ms)));
        self.rest(pair, QuarantinedWhat::Port { server_port: flow.server_port, port }, flow.client, until);
        if refused {
            self.forget(index);
        } else {
            self.arm(index);
        }
    }

    /// Forgets an ended connection.
    pub(super) fn forget(&mut self, index: u32) {
        let Some(connection) = self.connections.remove(index) else { return };
        let flow = connection.flow;
        let outer = (connection.external, connection.external_port, flow.server, flow.server_port);
        if self.by_flow.get(&flow) == Some(&index) {
            self.by_flow.remove(&flow);
        }
        if self.by_outer.get(&outer) == Some(&index) {
            self.by_outer.remove(&outer);
        }
        if let Some(armed) = connection.armed {
            self.timers.clear(armed, super::timers::Timer::Connection(index, connection.id));
        }
    }
}
