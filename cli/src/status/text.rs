//! The status for people: one block a subject, empty ones left out.

use std::fmt::Write as _;

use callgate_compile::manifests::Problem;
use callgate_proto::pb;

use super::{nodes, shared};
use crate::human;
use crate::output::{problem, problem_table};
use crate::table::{Align, Table};

/// Hex digits of the hash that are shown: enough to tell any two apart, short enough to read aloud.
const HASH_DIGITS: usize = 12;

/// The conditions every object may have, in the order of their columns.
const CONDITIONS: [&str; 3] = ["Accepted", "ResolvedRefs", "Programmed"];

/// The whole text. `all` also shows counters that are zero; `now_unix_ms` is for ages.
pub fn text(reply: &pb::StatusReply, all: bool, now_unix_ms: i64) -> String {
    let mut blocks = vec![head(reply, now_unix_ms)];
    let objects = objects(reply, now_unix_ms).to_string();
    blocks.push(if objects.is_empty() { "no objects\n".into() } else { objects });
    for (title, table) in [("nodes:", nodes::nodes(reply, now_unix_ms)), ("cluster networks:", nodes::nets(reply))] {
        if !table.is_empty() {
            blocks.push(format!("{title}\n{}", table.indented(2)));
        }
    }
    for (title, table) in [
        ("tunnels (control connections that carry calls of many clients):", shared::tunnels(reply)),
        ("servers that take one control connection only:", shared::learned(reply, now_unix_ms)),
    ] {
        if !table.is_empty() {
            blocks.push(format!("{title}\n{}", table.indented(2)));
        }
    }
    if !reply.problems.is_empty() {
        let problems: Vec<Problem> = reply.problems.iter().cloned().map(problem).collect();
        blocks.push(format!("problems in the manifests:\n{}", problem_table(&problems).indented(2)));
    }
    for (title, table) in [("counters:", counters(reply, all)), ("kernel:", features(reply))] {
        if !table.is_empty() {
            blocks.push(format!("{title}\n{}", table.headless().indented(2)));
        }
    }
    blocks.join("\n")
}

fn head(reply: &pb::StatusReply, now_unix_ms: i64) -> String {
    let mut table = Table::new(&[("", Align::Left), ("", Align::Left)]).headless();
    let mut line = |name: &str, value: String| table.row([name.to_owned(), value]);
    if reply.node.is_empty() {
        // Of a cluster: ways and configurations are the nodes' own.
        line("operator", reply.version.clone());
    } else {
        line("node", reply.node.clone());
        line("agent", reply.version.clone());
        line("path", reply.path.clone());
        let hash: String = reply.config_hash.chars().take(HASH_DIGITS).collect();
        line("configuration", if hash.is_empty() { "none yet".into() } else { hash });
    }
    line("programmed", programmed(&reply.programmed.clone().unwrap_or_default(), now_unix_ms));
    line("connections", reply.connections.to_string());
    line("calls", reply.calls.to_string());
    table.to_string()
}

fn programmed(programmed: &pb::Programmed, now_unix_ms: i64) -> String {
    let mut text = String::from(if programmed.value { "yes" } else { "NO" });
    if programmed.since_unix_ms != 0 {
        let _ = write!(text, ", since {}", human::since(now_unix_ms, programmed.since_unix_ms));
    }
    if !programmed.value || !programmed.message.is_empty() {
        text.push_str(&because(&programmed.reason, &programmed.message));
    }
    text
}

/// ` (Reason: message)` of what is there of the two.
pub(super) fn because(reason: &str, message: &str) -> String {
    match (reason.is_empty(), message.is_empty()) {
        (true, true) => String::new(),
        (false, true) => format!(" ({reason})"),
        (true, false) => format!(" ({message})"),
        (false, false) => format!(" ({reason}: {message})"),
    }
}

fn objects(reply: &pb::StatusReply, now_unix_ms: i64) -> Table {
    let columns = ["KIND", "OBJECT", "ACCEPTED", "RESOLVEDREFS", "PROGRAMMED", "SINCE", "COUNTERS", "MESSAGE"];
    let mut table = Table::new(&columns.map(|column| (column, Align::Left)));
    let mut objects: Vec<&pb::ObjectStatus> = reply.objects.iter().collect();
    objects.sort_by(|a, b| (&a.kind, &a.namespace, &a.name).cmp(&(&b.kind, &b.namespace, &b.name)));
    for object in objects {
        let status = |type_: &str| {
            let condition = object.conditions.iter().find(|c| c.r#type == type_);
            condition.map_or_else(|| "-".into(), |c| c.status.clone())
        };
        let latest = object.conditions.iter().map(|c| c.last_transition_unix_ms).max().unwrap_or(0);
        let counters: Vec<String> = object.counters.iter().map(|c| format!("{}={}", c.name, c.value)).collect();
        let [accepted, resolved, programmed] = CONDITIONS.map(status);
        table.row([
            object.kind.clone(),
            format!("{}/{}", object.namespace, object.name),
            accepted,
            resolved,
            programmed,
            human::since(now_unix_ms, latest),
            if counters.is_empty() { "-".into() } else { counters.join(",") },
            messages(&object.conditions),
        ]);
    }
    table
}

/// What is not as it should be, else what a condition has to say although it is.
fn messages(conditions: &[pb::Condition]) -> String {
    let tell = |c: &pb::Condition| match (c.reason.is_empty(), c.message.is_empty()) {
        (true, _) => c.message.clone(),
        (false, true) => c.reason.clone(),
        (false, false) => format!("{}: {}", c.reason, c.message),
    };
    let bad: Vec<String> = conditions.iter().filter(|c| c.status != "True").map(tell).collect();
    let noted: Vec<String> = conditions.iter().filter(|c| !c.message.is_empty()).map(tell).collect();
    let mut told = if bad.is_empty() { noted } else { bad };
    told.dedup();
    told.join("; ")
}

fn counters(reply: &pb::StatusReply, all: bool) -> Table {
    let mut table = Table::new(&[("NAME", Align::Left), ("VALUE", Align::Right)]);
    let mut counters: Vec<&pb::Counter> = reply.counters.iter().filter(|c| all || c.value != 0).collect();
    counters.sort_by(|a, b| a.name.cmp(&b.name));
    for counter in counters {
        table.row([counter.name.clone(), counter.value.to_string()]);
    }
    table
}

fn features(reply: &pb::StatusReply) -> Table {
    let mut table = Table::new(&[("NAME", Align::Left), ("HAS", Align::Left), ("DETAIL", Align::Left)]);
    for feature in &reply.features {
        let has = if feature.available { "yes" } else { "no" };
        table.row([feature.name.clone(), has.into(), feature.detail.clone()]);
    }
    table
}
