//! What happens to a packet, by the configuration that runs.

use std::net::Ipv4Addr;

use callgate_compile::explain::{self, Explanation, Packet, Verdict};
use callgate_proto::model::{Action, NodeConfig};
use callgate_proto::{ASSUMED_SOURCE_PORT, pb};
use tonic::Status;

/// Answers a question, or says what is wrong with it.
pub(super) fn answer(config: &NodeConfig, request: &pb::ExplainRequest) -> Result<pb::ExplainReply, Status> {
    let address = |text: &str, what: &str| {
        text.parse::<Ipv4Addr>().map_err(|_| {
            Status::invalid_argument(format!(
                "{what} {text:?} is not an IPv4 address: write one (a standalone knows no pods)"
            ))
        })
    };
    let port = |port: Option<u32>, other: u16| port.and_then(|port| u16::try_from(port).ok()).unwrap_or(other);
    let protocol = u8::try_from(request.protocol)
        .map_err(|_| Status::invalid_argument(format!("protocol {} is not one: write 0 to 255", request.protocol)))?;
    let packet = Packet {
        src: address(&request.from, "--from")?,
        src_port: port(request.from_port, ASSUMED_SOURCE_PORT),
        dst: address(&request.to, "--to")?,
        dst_port: port(request.to_port, 0),
        protocol,
    };
    Ok(reply(&explain::explain(config, &packet)))
}

fn reply(told: &Explanation) -> pb::ExplainReply {
    let verdict = match told.verdict {
        Verdict::Cluster => pb::Verdict::Cluster,
        Verdict::NotSelected => pb::Verdict::NotSelected,
        Verdict::NoRule => pb::Verdict::NoRule,
        Verdict::Rule(Action::Nat) => pb::Verdict::Nat,
        Verdict::Rule(Action::Allow) => pb::Verdict::Allow,
        Verdict::Rule(Action::Drop) => pb::Verdict::Drop,
        Verdict::Rule(Action::Reject) => pb::Verdict::Reject,
    };
    let name =
        |key: &Option<callgate_proto::model::ObjectKey>| key.as_ref().map(ToString::to_string).unwrap_or_default();
    let considered = told.considered.iter().map(|considered| pb::Considered {
        rule: considered.rule.to_string(),
        action: pb::Action::from(considered.action).into(),
        matched: considered.why == explain::Why::Matched,
        reason: considered.why.to_string(),
    });
    pb::ExplainReply {
        verdict: verdict.into(),
        rule: name(&told.rule),
        service: name(&told.service),
        alg: name(&told.alg),
        considered: considered.collect(),
        from_address: told.packet.src.to_string(),
        ..pb::ExplainReply::default()
    }
}
