//! An explanation as JSON writes it (docs/cli.md has the shape).

use callgate_proto::pb;
use serde::Serialize;

use crate::output::there;

/// A packet and what happens to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExplainView {
    from: FromView,
    to: ToView,
    verdict: &'static str,
    rule: Option<String>,
    service: Option<String>,
    alg: Option<String>,
    external_address: Option<String>,
    note: Option<String>,
    considered: Vec<ConsideredView>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct FromView {
    address: String,
    port: Option<u32>,
    pod: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct ToView {
    address: String,
    port: Option<u32>,
    protocol: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct ConsideredView {
    rule: String,
    action: &'static str,
    matched: bool,
    reason: String,
}

impl ExplainView {
    /// From the question and its answer.
    pub fn new(request: &pb::ExplainRequest, reply: pb::ExplainReply) -> Self {
        let verdict = verdict(reply.verdict());
        let considered = |c: pb::Considered| ConsideredView {
            action: action(c.action()),
            rule: c.rule,
            matched: c.matched,
            reason: c.reason,
        };
        Self {
            from: FromView { address: reply.from_address, port: request.from_port, pod: there(reply.from_pod) },
            to: ToView { address: request.to.clone(), port: request.to_port, protocol: request.protocol },
            verdict,
            rule: there(reply.rule),
            service: there(reply.service),
            alg: there(reply.alg),
            external_address: there(reply.external_address),
            note: there(reply.note),
            considered: reply.considered.into_iter().map(considered).collect(),
        }
    }
}

/// The word for a verdict.
pub(super) fn verdict(verdict: pb::Verdict) -> &'static str {
    match verdict {
        pb::Verdict::Unspecified => "Unknown",
        pb::Verdict::Nat => "NAT",
        pb::Verdict::Allow => "Allow",
        pb::Verdict::Drop => "Drop",
        pb::Verdict::Reject => "Reject",
        pb::Verdict::Cluster => "Cluster",
        pb::Verdict::NotSelected => "NotSelected",
        pb::Verdict::NoRule => "NoRule",
    }
}

/// The word for an action, as manifests spell it.
pub(super) fn action(action: pb::Action) -> &'static str {
    match action {
        pb::Action::Unspecified => "-",
        pb::Action::Nat => "NAT",
        pb::Action::Allow => "Allow",
        pb::Action::Drop => "Drop",
        pb::Action::Reject => "Reject",
    }
}
