//! An explanation as the agent's API carries it.

use callgate_proto::model::{Action, ObjectKey};
use callgate_proto::pb;

use super::{Considered, Explanation, Verdict, Why};

impl From<Verdict> for pb::Verdict {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Cluster => Self::Cluster,
            Verdict::NotSelected => Self::NotSelected,
            Verdict::NoRule => Self::NoRule,
            Verdict::Rule(Action::Nat) => Self::Nat,
            Verdict::Rule(Action::Allow) => Self::Allow,
            Verdict::Rule(Action::Drop) => Self::Drop,
            Verdict::Rule(Action::Reject) => Self::Reject,
        }
    }
}

impl From<&Considered> for pb::Considered {
    fn from(considered: &Considered) -> Self {
        Self {
            rule: considered.rule.to_string(),
            action: pb::Action::from(considered.action).into(),
            matched: considered.why == Why::Matched,
            reason: considered.why.to_string(),
        }
    }
}

/// What the configuration alone tells: the external address, the pod and the note are left empty.
impl From<&Explanation> for pb::ExplainReply {
    fn from(told: &Explanation) -> Self {
        let name = |key: &Option<ObjectKey>| key.as_ref().map(ToString::to_string).unwrap_or_default();
        Self {
            verdict: pb::Verdict::from(told.verdict).into(),
            rule: name(&told.rule),
            service: name(&told.service),
            alg: name(&told.alg),
            considered: told.considered.iter().map(pb::Considered::from).collect(),
            from_address: told.packet.src.to_string(),
            ..Self::default()
        }
    }
}
