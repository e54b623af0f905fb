//! What a person should know about a rule that is carried out.
use callgate_crds::conditions::Reason;

use super::select::Counts;
use super::{Candidate, issue};
use crate::resolve::Issue;

/// Everything worth knowing about a rule, which selects `counts`.
pub(crate) fn notes(rule: &Candidate, counts: Counts) -> Vec<Issue> {
    let mut notes = Vec::new();
    let field = "spec.source.podSelector";
    if counts.host_network > 0 {
        let message = format!(
            "{} of the selected pods use the node's network and cannot be told from the node: run them without hostNetwork",
            counts.host_network
        );
        notes.push(issue(Reason::SourcesExcluded, field, message));
    }
    if counts.only_ipv6 > 0 {
        let message = format!("{} of the selected pods have no IPv4 address: only IPv4 is treated", counts.only_ipv6);
        notes.push(issue(Reason::SourcesExcluded, field, message));
    }
    if counts == Counts::default() {
        let message = "selects no running pod at present: compare it with the labels of the pods".to_owned();
        notes.push(issue(Reason::NoSources, field, message));
    }
    notes.extend(rule.note.clone());
    notes
}
