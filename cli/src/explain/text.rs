//! An explanation for people: the packet, the verdict, the rules in order.

use std::fmt::Write as _;

use callgate_proto::pb;

use super::view;
use crate::table::{Align, Table};
use crate::target::protocol_name;

/// The whole text.
pub fn text(request: &pb::ExplainRequest, reply: &pb::ExplainReply) -> String {
    let mut text = format!("{}\n{}\n", packet(request, reply), verdict(reply));
    if !reply.note.is_empty() {
        let _ = writeln!(text, "note: {}", reply.note);
    }
    let table = considered(reply);
    if !table.is_empty() {
        let _ = write!(text, "\n{table}");
    }
    text
}

fn packet(request: &pb::ExplainRequest, reply: &pb::ExplainReply) -> String {
    let port = |port: Option<u32>| port.map_or_else(String::new, |port| format!(":{port}"));
    let from = format!("{}{}", reply.from_address, port(request.from_port));
    let from = if reply.from_pod.is_empty() { from } else { format!("{} ({from})", reply.from_pod) };
    let protocol = u8::try_from(request.protocol).map_or_else(|_| request.protocol.to_string(), protocol_name);
    format!("{from} -> {}{} {protocol}", request.to, port(request.to_port))
}

fn verdict(reply: &pb::ExplainReply) -> String {
    let mut text = String::from(match reply.verdict() {
        pb::Verdict::Unspecified => "verdict: unknown to this version of kubectl-callgate",
        pb::Verdict::Nat => "verdict: NAT",
        pb::Verdict::Allow => "verdict: Allow",
        pb::Verdict::Drop => "verdict: Drop",
        pb::Verdict::Reject => "verdict: Reject",
        pb::Verdict::Cluster => "verdict: not looked at, the destination is inside the cluster",
        pb::Verdict::NotSelected => "verdict: not touched, no rule selects this source",
        pb::Verdict::NoRule => "verdict: left to the CNI, no rule of this source matches",
    });
    let parts = [
        (" by rule ", &reply.rule),
        (", service ", &reply.service),
        (", through ALG ", &reply.alg),
        (", as ", &reply.external_address),
    ];
    for (label, value) in parts {
        if !value.is_empty() {
            text.extend([label, value]);
        }
    }
    text
}

fn considered(reply: &pb::ExplainReply) -> Table {
    let columns = [
        ("#", Align::Right),
        ("RULE", Align::Left),
        ("ACTION", Align::Left),
        ("", Align::Left),
        ("RESULT", Align::Left),
    ];
    let mut table = Table::new(&columns);
    for (number, rule) in (1..).zip(&reply.considered) {
        let arrow = if rule.matched { "=>" } else { "" };
        table.row([
            number.to_string(),
            rule.rule.clone(),
            view::action(rule.action()).into(),
            arrow.into(),
            rule.reason.clone(),
        ]);
    }
    table
}
