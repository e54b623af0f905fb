//! What a person should know about a rule that is carried out.
use callgate_crds::conditions::Reason;

use super::select::Counts;
use super::{Candidate, issue};
use crate::resolve::Issue;
use crate::world::World;

/// Everything worth knowing about `rule` of `world`, which selects `counts`.
pub(crate) fn notes(world: &World, rule: &Candidate, counts: Counts) -> Vec<Issue> {
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
    if counts == Counts::default()
        && let Some(message) = nobody(world)
    {
        notes.push(issue(Reason::NoSources, field, message.to_owned()));
    }
    notes.extend(rule.note.clone());
    notes
}

/// What a rule that selects nobody is told; nothing where pods are not known, as of a cluster of which only manifests are read.
fn nobody(world: &World) -> Option<&'static str> {
    if world.standalone && world.pods.is_empty() {
        return Some("selects pods, and a host has none: select networks with source.cidrs");
    }
    let known = world.standalone || !world.nodes.is_empty();
    known.then_some("selects no running pod at present: compare it with the labels of the pods")
}
