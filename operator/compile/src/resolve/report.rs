//! What was found wrong with one object while it was resolved.
use callgate_crds::conditions::{ConditionType, Reason};

use crate::status::Finding;

/// A finding and the reason it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Issue {
    pub(crate) reason: Reason,
    pub(crate) finding: Finding,
}

/// Everything found about one object, in the order of its fields. Reasons that hold are only notes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Report(pub(crate) Vec<Issue>);

impl Report {
    pub(crate) fn add(&mut self, reason: Reason, field: impl Into<String>, message: impl Into<String>) {
        self.0.push(Issue { reason, finding: Finding::new(field, message) });
    }

    /// Findings of fields that mean nothing.
    pub(crate) fn invalid(&mut self, findings: Vec<Finding>) {
        self.0.extend(findings.into_iter().map(|finding| Issue { reason: Reason::Invalid, finding }));
    }

    /// Nothing stands in the way.
    pub(crate) fn is_good(&self) -> bool {
        self.0.iter().all(|issue| issue.reason.holds())
    }

    /// Issues of one condition with this status.
    pub(crate) fn of(&self, condition: ConditionType, holds: bool) -> impl Iterator<Item = &Issue> {
        self.0.iter().filter(move |issue| issue.reason.condition() == condition && issue.reason.holds() == holds)
    }
}
