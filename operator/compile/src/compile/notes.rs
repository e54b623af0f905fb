//! What a person should know about a rule that is carried out.
use std::collections::BTreeSet;

use callgate_crds::conditions::Reason;

use super::select::Counts;
use super::{Candidate, issue};
use crate::resolve::Issue;
use crate::world::World;

/// Everything worth knowing about `rule` of `world`, which selects `counts`. Those that are `refused` shadow nobody: they run nowhere.
pub(crate) fn notes(world: &World, rule: &Candidate, counts: Counts, refused: &BTreeSet<u32>) -> Vec<Issue> {
    let shadow = rule.shadow.iter().filter(|shadow| !refused.contains(&shadow.by));
    let mut notes: Vec<Issue> = shadow.map(|shadow| shadow.note.clone()).collect();
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
        return Some(
            "selects pods, and a single host has none: select networks with source.cidrs there (check --cluster judges for a cluster)",
        );
    }
    let known = world.standalone || !world.nodes.is_empty();
    known.then_some("selects no running pod at present: compare it with the labels of the pods")
}
