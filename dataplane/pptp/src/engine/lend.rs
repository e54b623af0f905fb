//! What the shared mode and its shell take from the same stock as the in-path mode: external ports, Call IDs, and the counts
//! behind `maxCalls` and `maxSessions`. So the two never give the same number to a server, and a limit holds for both.

use std::net::Ipv4Addr;

use super::Engine;
use super::allocator::Pair;
use super::event::OpenRefusal;
use super::record::{Change, Quarantined, QuarantinedWhat};
use super::shares::Full;
use crate::types::{Flow, Now, Policy};

impl Engine {
    /// An external port that is free towards this server and port, for a connection of the shared mode; `None` when all are
    /// in use or rest.
    pub fn lend_port(&mut self, external: Ipv4Addr, server: Ipv4Addr, server_port: u16, now: Now) -> Option<u16> {
        self.allocator.port(Pair { external, server }, server_port, now)
    }

    /// Takes this very port, of a connection that goes on; false when something else has it.
    pub fn lend_this_port(&mut self, external: Ipv4Addr, server: Ipv4Addr, server_port: u16, port: u16) -> bool {
        self.allocator.take_port(Pair { external, server }, server_port, port)
    }

    /// A lent port is no longer used and rests. What is returned has to be saved.
    pub fn rest_port(&mut self, (external, port): (Ipv4Addr, u16), server: (Ipv4Addr, u16), now: Now) -> Change {
        let entry = Quarantined {
            external,
            server: server.0,
            what: QuarantinedWhat::Port { server_port: server.1, port },
            until: now.after(self.limits.port_quarantine_ms),
        };
        self.allocator.quarantine(entry, None);
        Change::Quarantine(entry)
    }

    /// Whether a segment of this flow is the in-path mode's: it has the connection, or had it a moment ago.
    pub fn knows(&self, flow: Flow) -> bool {
        self.by_flow.contains_key(&flow)
    }

    /// A translated Call ID that is free towards this server.
    pub(crate) fn lend_call_id(&mut self, external: Ipv4Addr, server: Ipv4Addr, now: Now) -> Option<u16> {
        self.allocator.call_id(Pair { external, server }, now)
    }

    /// Takes this very Call ID, of a call that is taken over; false when something else has it.
    pub(crate) fn lend_this_call_id(&mut self, external: Ipv4Addr, server: Ipv4Addr, id: u16) -> bool {
        self.allocator.take_call_id(Pair { external, server }, id)
    }

    /// A lent Call ID is no longer used and rests. What is returned has to be saved.
    pub(crate) fn rest_call_id(
        &mut self,
        pair: (Ipv4Addr, Ipv4Addr),
        id: u16,
        echo_timeout_ms: u64,
        now: Now,
    ) -> Change {
        let entry = Quarantined {
            external: pair.0,
            server: pair.1,
            what: QuarantinedWhat::CallId(id),
            until: now.after(self.call_id_rest_ms(echo_timeout_ms)),
        };
        self.allocator.quarantine(entry, None);
        Change::Quarantine(entry)
    }

    /// How long a Call ID rests after its call.
    pub(crate) fn call_id_rest_ms(&self, echo_timeout_ms: u64) -> u64 {
        self.limits.call_id_quarantine_ms.max(echo_timeout_ms.saturating_mul(2))
    }

    /// Whether GRE from this client with this Call ID belongs to an in-path call.
    pub(crate) fn has_way_up(&self, client: Ipv4Addr, server: Ipv4Addr, pac: u16) -> bool {
        self.calls.up(client, server, pac).is_some()
    }

    /// Calls of this PptpAlg in both modes.
    pub(crate) fn calls_of(&self, alg: &str) -> u32 {
        self.calls_of_alg.total(alg)
    }

    /// One more call of this PptpAlg.
    pub(crate) fn count_call(&mut self, alg: &str) {
        self.calls_of_alg.add(alg, None);
    }

    /// One call of this PptpAlg less.
    pub(crate) fn uncount_call(&mut self, alg: &str) {
        self.calls_of_alg.take_off(alg, None);
    }

    /// Why this client may have no further control connection of this policy's service, if so; those of both modes count.
    pub(crate) fn sessions_are_full(&self, policy: &Policy, client: Ipv4Addr) -> Option<OpenRefusal> {
        match self.sessions.room(&policy.service, client, policy.max_sessions) {
            Ok(()) => None,
            Err(Full::Limit(max)) => Some(OpenRefusal::MaxSessions(max)),
            Err(Full::Share(own)) => Some(OpenRefusal::ShareOfSessions(own)),
        }
    }

    /// One more control connection of this service.
    pub(crate) fn count_session(&mut self, service: &str, client: Ipv4Addr) {
        self.sessions.add(service, Some(client));
    }

    /// One control connection of this service less.
    pub(crate) fn uncount_session(&mut self, service: &str, client: Ipv4Addr) {
        self.sessions.take_off(service, Some(client));
    }
}
