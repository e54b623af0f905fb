//! Policies in use, each kept once however many connections have it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::types::Policy;

/// By rule, service and ALG.
#[derive(Debug, Default)]
pub(crate) struct Policies(BTreeMap<[String; 3], Arc<Policy>>);

impl Policies {
    /// The one copy of this policy.
    pub(crate) fn intern(&mut self, policy: Policy) -> Arc<Policy> {
        let key = [policy.rule.clone(), policy.service.clone(), policy.alg.clone()];
        if let Some(known) = self.0.get(&key).filter(|known| ***known == policy) {
            return Arc::clone(known);
        }
        let policy = Arc::new(policy);
        self.0.insert(key, Arc::clone(&policy));
        policy
    }

    /// Forgets those that nobody has any more.
    pub(crate) fn forget_unused(&mut self) {
        self.0.retain(|_, policy| Arc::strong_count(policy) > 1);
    }
}
