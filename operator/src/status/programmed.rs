//! The condition Programmed of one object: which of the nodes that must run it have said that they do.

use callgate_compile::status::{ObjectRef, Status};
use callgate_crds::conditions::Reason;

use super::{GRACE, View};
use crate::fleet::Agent;

/// How far an object is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The reason of the condition.
    pub reason: Reason,
    /// Its message.
    pub message: String,
    /// Nodes that run this generation.
    pub programmed: u32,
    /// Nodes that must.
    pub total: u32,
    /// All of them do, and no other does any more.
    pub is_complete: bool,
}

/// Why a node does not run an object yet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Lack {
    /// It could not: with the message of the agent.
    Refused(String),
    /// It does, but its kernel lacks what some of it takes.
    Short(String),
    /// It is not there.
    Absent(String),
    /// It has not answered.
    Waiting,
    /// It must not run it any more, and has not yet said that it does not.
    Leaving,
}

/// Decides. `ran_before` is whether it stands there that this very generation is Programmed.
pub fn programmed(object: &ObjectRef, status: &Status, ran_before: bool, view: View<'_>) -> Progress {
    let total = status.nodes.len() as u32;
    let lacks: Vec<(&String, Lack)> =
        status.nodes.iter().filter_map(|node| Some((node, lack(object, node, view)?))).collect();
    let acknowledged = total - lacks.len() as u32;
    let lacks: Vec<(&String, Lack)> = lacks.into_iter().chain(leaving(object, status, view)).collect();
    let (reason, message) = decide(status, ran_before, &lacks);
    // What nodes have acknowledged then is the version before, of which this count does not tell.
    let programmed = if matches!(reason, Reason::NotAccepted | Reason::LastGoodRuns) { 0 } else { acknowledged };
    Progress { reason, message, programmed, total, is_complete: lacks.is_empty() }
}

fn decide(status: &Status, ran_before: bool, lacks: &[(&String, Lack)]) -> (Reason, String) {
    let accepted = status.conditions.first().is_some_and(callgate_compile::status::Condition::holds);
    if !accepted {
        let kept =
            if status.last_good { "Its last good version goes on running." } else { "See the condition Accepted." };
        return (Reason::NotAccepted, kept.to_owned());
    }
    if status.nodes.is_empty() && lacks.is_empty() {
        return (Reason::NothingToProgram, "No rule uses it, or no pod is selected.".to_owned());
    }
    // What it names may have gone while this very generation runs. Versions before did not keep which one does: what stood there then
    // holds.
    let runs = status.last_good_generation.map_or(ran_before, |generation| generation == status.observed_generation);
    if status.last_good && !runs {
        let message = match status.is_good() {
            true => "Its version before runs, for a rule that goes on as it was: see the rules that name it.",
            false => "Its last good version runs: see the condition ResolvedRefs.",
        };
        return (Reason::LastGoodRuns, message.to_owned());
    }
    // What needs a person first, then what only needs time; of many nodes the first by name stands for all.
    let Some((node, first)) = lacks.iter().min_by(|a, b| (&a.1, a.0).cmp(&(&b.1, b.0))) else {
        return (Reason::Programmed, "In force on every node that must run it.".to_owned());
    };
    let others = match lacks.len() - 1 {
        0 => String::new(),
        1 => " 1 more node does not run it either.".to_owned(),
        more => format!(" {more} more nodes do not run it either."),
    };
    match first {
        Lack::Refused(message) | Lack::Short(message) => {
            (Reason::ApplyFailed, format!("Node {node}: {message}.{others}"))
        }
        Lack::Absent(why) => (Reason::NodeUnreachable, format!("Node {node}: {why}.{others}")),
        Lack::Waiting => (Reason::Pending, format!("Node {node} has not yet put it into effect.{others}")),
        Lack::Leaving => (Reason::Pending, format!("Node {node} still does what an earlier version said.{others}")),
    }
}

/// Nodes that do not have to run the object any more and still do: until they have let go of it, packets go the old way.
/// One whose agent is away for long is left out: its pods are not listed any more, so it may well be gone for good.
fn leaving<'a>(object: &ObjectRef, status: &Status, view: View<'a>) -> Vec<(&'a String, Lack)> {
    let here = |agent: &Agent| !agent.is_lost_for(GRACE, view.now.instant);
    let others = view.fleet.carriers(object).filter(|(node, _)| !status.nodes.contains(*node));
    others.filter(|(_, agent)| here(agent)).map(|(node, _)| (node, Lack::Leaving)).collect()
}

fn lack(object: &ObjectRef, node: &str, view: View<'_>) -> Option<Lack> {
    // A node without a snapshot has nothing that could be in force.
    let Some(wanted) = view.wanted.get(node) else { return Some(Lack::Waiting) };
    let Some(agent) = view.fleet.get(node) else {
        return Some(if view.may_come(node) { Lack::Waiting } else { Lack::Absent("no agent has come".to_owned()) });
    };
    if agent.is_lost_for(GRACE, view.now.instant) {
        let since = agent.since.time.strftime("%Y-%m-%dT%H:%M:%SZ");
        return Some(Lack::Absent(format!("its agent is away since {since}")));
    }
    if agent.fulfils(&wanted.stamp, object) {
        return wanted.stamp.shortfall(object, &agent.missing).map(Lack::Short);
    }
    let refused = agent.refused.as_ref().filter(|(hash, _)| *hash == wanted.hash);
    Some(refused.map_or(Lack::Waiting, |(_, failure)| {
        let because = match failure.object.is_empty() || failure.object == object.to_string() {
            true => String::new(),
            false => format!(" (because of {})", failure.object),
        };
        let goes_on = if agent.broken { "what runs is not whole" } else { "what ran before goes on" };
        Lack::Refused(format!("{}{because}; {goes_on}", failure.message.trim_end_matches('.')))
    }))
}
