//! Small bookkeeping of numbers that others count on.

use std::collections::BTreeMap;

use super::Engine;
use super::allocator::Pair;
use super::event::CallRefusal;
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
        let policy = &self.connections.get(index)?.policy;
        let max = policy.max_calls;
        let full = max != 0 && self.calls_of_alg.get(&policy.alg).is_some_and(|&calls| calls >= max);
        let most = self.limits.calls_per_connection;
        let crowded = || self.calls.of_connection(index).count() as u64 >= u64::from(most);
        full.then_some(CallRefusal::MaxCalls(max)).or_else(|| crowded().then_some(CallRefusal::CallsOfConnection(most)))
    }

    /// A translated Call ID for one more call of this connection.
    pub(super) fn allocate_call_id(&mut self, index: u32, now: Now) -> Result<u16, CallRefusal> {
        let connection = self.connections.get(index).ok_or(CallRefusal::NoCallId)?;
        let pair = Pair { external: connection.external, server: connection.flow.server };
        let (client, most) = (connection.flow.client, self.limits.call_ids_per_client);
        if self.allocator.call_ids_of(client, now) >= most {
            return Err(CallRefusal::CallIdsOfClient(most));
        }
        let id = self.allocator.call_id(pair, now).ok_or(CallRefusal::NoCallId)?;
        self.allocator.count_call_id(client);
        Ok(id)
    }
}
