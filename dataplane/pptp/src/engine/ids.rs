//! Whether a connection may have one more call, and the Call ID it gets.

use std::collections::BTreeMap;

use super::Engine;
use super::event::CallRefusal;
use super::shares::Full;
use crate::types::Now;

/// Takes one off a count; a count of nothing is dropped.
pub(crate) fn one_less<K: Ord>(counts: &mut BTreeMap<K, u32>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(key);
        }
    }
}

impl Engine {
    /// Why this connection may have no further call, if so.
    pub(super) fn calls_are_full(&self, index: u32) -> Option<CallRefusal> {
        let connection = self.connections.get(index)?;
        let policy = &connection.policy;
        match self.room_for_call(policy, connection.flow.client) {
            Ok(()) => {}
            Err(Full::Limit(max)) => return Some(CallRefusal::MaxCalls(max)),
            Err(Full::Share(own)) => return Some(CallRefusal::Share(own)),
        }
        let most = self.limits.calls_per_connection;
        let crowded = self.calls.of_connection(index).count() as u64 >= u64::from(most);
        crowded.then_some(CallRefusal::CallsOfConnection(most))
    }

    /// A translated Call ID for one more call of this connection.
    pub(super) fn allocate_call_id(&mut self, index: u32, now: Now) -> Result<u16, CallRefusal> {
        let connection = self.connections.get(index).ok_or(CallRefusal::NoCallId)?;
        let (pair, client) = ((connection.external, connection.flow.server), connection.flow.client);
        self.lend_call_id(pair, client, now)
    }
}
