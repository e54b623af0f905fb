//! What the shared mode and its shell take from the same stock as the in-path mode: external ports, Call IDs, and the counts
//! behind `maxCalls`, `maxSessions` and each client's share. So the two never give the same number to a server, and a limit holds
//! for both.

use std::net::Ipv4Addr;

use super::Engine;
use super::allocator::Pair;
use super::event::{CallRefusal, OpenRefusal};
use super::record::{Change, Quarantined, QuarantinedWhat};
use super::shares::Full;
use crate::shared::ConnectError;
use crate::types::{Flow, Now, Policy};

impl Engine {
    /// An external port that is free towards this server and port, for a connection of the shared mode. `client`: whose alone it
    /// is; the port is counted to it until it is given back or has rested.
    ///
    /// # Errors
    /// All are in use or rest, or the client has as many as one may have.
    pub fn lend_port(
        &mut self,
        external: Ipv4Addr,
        (server, server_port): (Ipv4Addr, u16),
        client: Option<Ipv4Addr>,
        now: Now,
    ) -> Result<u16, ConnectError> {
        let most = self.limits.ports_per_client;
        if client.is_some_and(|client| self.allocator.ports_of(client, now) >= most) {
            return Err(ConnectError::PortsOfClient);
        }
        let port = self.allocator.port(Pair { external, server }, server_port, now).ok_or(ConnectError::Local)?;
        client.into_iter().for_each(|client| self.allocator.count_port(client));
        Ok(port)
    }

    /// Takes this very port, of a connection that goes on, with whose it is; false when something else has it.
    pub fn lend_this_port(
        &mut self,
        (external, port): (Ipv4Addr, u16),
        (server, server_port): (Ipv4Addr, u16),
        client: Option<Ipv4Addr>,
    ) -> bool {
        let free = self.allocator.take_port(Pair { external, server }, server_port, port);
        client.into_iter().filter(|_| free).for_each(|client| self.allocator.count_port(client));
        free
    }

    /// A lent port is no longer used and rests; `client` as it was lent. What is returned has to be saved.
    pub fn rest_port(
        &mut self,
        (external, port): (Ipv4Addr, u16),
        (server, server_port): (Ipv4Addr, u16),
        client: Option<Ipv4Addr>,
        now: Now,
    ) -> Change {
        let entry = Quarantined {
            external,
            server,
            what: QuarantinedWhat::Port { server_port, port },
            until: now.after(self.limits.port_quarantine_ms),
        };
        self.allocator.quarantine(entry, client);
        Change::Quarantine(entry)
    }

    /// A lent port is no longer used, and the server has nothing of its connection; `client` as it was lent.
    pub fn give_back_port(
        &mut self,
        (external, port): (Ipv4Addr, u16),
        (server, server_port): (Ipv4Addr, u16),
        client: Option<Ipv4Addr>,
    ) {
        self.allocator.give_back(Pair { external, server }, QuarantinedWhat::Port { server_port, port }, client);
    }

    /// Whether a segment of this flow is the in-path mode's: it has the connection, or had it a moment ago.
    pub fn knows(&self, flow: Flow) -> bool {
        self.by_flow.contains_key(&flow)
    }

    /// A translated Call ID that is free towards this server, for a call of this client; it is counted to it until it is given
    /// back or has rested.
    pub(crate) fn lend_call_id(
        &mut self,
        (external, server): (Ipv4Addr, Ipv4Addr),
        client: Ipv4Addr,
        now: Now,
    ) -> Result<u16, CallRefusal> {
        let most = self.limits.call_ids_per_client;
        if self.allocator.call_ids_of(client, now) >= most {
            return Err(CallRefusal::CallIdsOfClient(most));
        }
        let id = self.allocator.call_id(Pair { external, server }, now).ok_or(CallRefusal::NoCallId)?;
        self.allocator.count_call_id(client);
        Ok(id)
    }

    /// Takes this very Call ID, of a call that goes on, with whose it is; false when something else has it.
    pub(crate) fn lend_this_call_id(
        &mut self,
        (external, server): (Ipv4Addr, Ipv4Addr),
        id: u16,
        client: Option<Ipv4Addr>,
    ) -> bool {
        let free = self.allocator.take_call_id(Pair { external, server }, id);
        client.into_iter().filter(|_| free).for_each(|client| self.allocator.count_call_id(client));
        free
    }

    /// A lent Call ID is no longer used and rests; `client` as it was lent. What is returned has to be saved.
    pub(crate) fn rest_call_id(
        &mut self,
        (external, server): (Ipv4Addr, Ipv4Addr),
        (id, client): (u16, Option<Ipv4Addr>),
        echo_timeout_ms: u64,
        now: Now,
    ) -> Change {
        let entry = Quarantined {
            external,
            server,
            what: QuarantinedWhat::CallId(id),
            until: now.after(self.call_id_rest_ms(echo_timeout_ms)),
        };
        self.allocator.quarantine(entry, client);
        Change::Quarantine(entry)
    }

    /// A lent Call ID is no longer used, and the server has nothing of its call; `client` as it was lent.
    pub(crate) fn give_back_call_id(
        &mut self,
        (external, server): (Ipv4Addr, Ipv4Addr),
        (id, client): (u16, Option<Ipv4Addr>),
    ) {
        self.allocator.give_back(Pair { external, server }, QuarantinedWhat::CallId(id), client);
    }

    /// How long a Call ID rests after its call.
    pub(crate) fn call_id_rest_ms(&self, echo_timeout_ms: u64) -> u64 {
        self.limits.call_id_quarantine_ms.max(echo_timeout_ms.saturating_mul(2))
    }

    /// Whether GRE from this client with this Call ID belongs to an in-path call.
    pub(crate) fn has_way_up(&self, client: Ipv4Addr, server: Ipv4Addr, pac: u16) -> bool {
        self.calls.up(client, server, pac).is_some()
    }

    /// Calls of this PptpAlg that this client has, in both modes.
    pub(crate) fn calls_of_client(&self, alg: &str, client: Ipv4Addr) -> u32 {
        self.calls_of_alg.own(alg, client)
    }

    /// Whether this client may have one more call by its policy's `maxCalls`.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn room_for_call(&self, policy: &Policy, client: Ipv4Addr) -> Result<(), Full> {
        self.calls_of_alg.room(&policy.alg, client, policy.max_calls)
    }

    /// One more call of this client and PptpAlg.
    pub(crate) fn count_call(&mut self, alg: &str, client: Ipv4Addr) {
        self.calls_of_alg.add(alg, client);
    }

    /// One call of this client and PptpAlg less.
    pub(crate) fn uncount_call(&mut self, alg: &str, client: Ipv4Addr) {
        self.calls_of_alg.take_off(alg, client);
    }

    /// Control connections counted to each service and client, and calls to each PptpAlg and client, for tests that look for leaks.
    #[doc(hidden)]
    pub fn counted(&self) -> [Vec<(String, Ipv4Addr, u32)>; 2] {
        [self.sessions.all(), self.calls_of_alg.all()]
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
        self.sessions.add(service, client);
    }

    /// One control connection of this service less.
    pub(crate) fn uncount_session(&mut self, service: &str, client: Ipv4Addr) {
        self.sessions.take_off(service, client);
    }
}
