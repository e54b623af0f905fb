//! Small bookkeeping of numbers that others count on.

use std::collections::BTreeMap;

use super::Engine;
use super::allocator::Pair;
use super::event::CallRefusal;
use crate::types::Now;

/// Takes one off a count; a count of nothing is dropped.
pub(super) fn one_less<K: Ord>(counts: &mut BTreeMap<K, u32>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(key);
        }
    }
}

impl Engine {
    /// A translated Call ID for one more call of this connection.
    pub(super) fn allocate_call_id(&mut self, index: u32, now: Now) -> Result<u16, CallRefusal> {
        let connection = self.connections.get(index).ok_or(CallRefusal::NoCallId)?;
        let policy = &connection.data.policy;
        let max = policy.max_calls;
        if max != 0 && self.calls_of_alg.get(&policy.alg).is_some_and(|&calls| calls >= max) {
            return Err(CallRefusal::MaxCalls(max));
        }
        let pair = Pair { external: connection.external, server: connection.flow.server };
        self.allocator.call_id(pair, now).ok_or(CallRefusal::NoCallId)
    }
}
