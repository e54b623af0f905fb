//! `explain` against an agent: what it asks, and how the answer reads.
#![allow(clippy::unwrap_used)]

mod common;

use callgate_proto::pb;
use common::{Answers, Finished, Place, command, fixtures, serve};
use tonic::Status;

/// Runs explain with these options; what it printed and what the agent was asked.
async fn explain(reply: Result<pb::ExplainReply, Status>, options: &str) -> (Finished, Vec<String>) {
    let place = Place::new();
    let agent = serve(&place.socket(), Answers { explain: Some(reply), ..Answers::default() });
    let done = command(&format!("kubectl-callgate explain --api {} {options}", place.socket().display())).await;
    let asked = agent.answers.asked.lock().unwrap().clone();
    (done, asked)
}

fn question(from: &str, from_port: Option<u32>, to: &str, to_port: Option<u32>, protocol: u32) -> Vec<String> {
    let request = pb::ExplainRequest { from: from.into(), from_port, to: to.into(), to_port, protocol };
    vec![format!("{request:?}")]
}

#[tokio::test]
async fn the_packet_the_verdict_and_every_rule_are_told_in_order() {
    let (done, asked) = explain(Ok(fixtures::explanation()), "--from till-1 -n pos --to 203.0.113.9:1723/TCP").await;
    insta::assert_snapshot!(done.out, @r#"
    pos/till-1 (10.42.0.7) -> 203.0.113.9:1723 TCP
    verdict: NAT by rule pos/tills-to-head-office, service pos/pptp-service, through ALG pos/pptp, as 198.51.100.1

    #  RULE                      ACTION      RESULT
    1  pos/web                   Allow       no service matches: callgate-system/http (TCP 80)
    2  pos/tills-to-head-office  NAT     =>  matches
    3  pos/rest                  Drop        not reached: an earlier rule matches
    "#);
    assert_eq!((done.code, done.err.as_str()), (0, ""));
    assert_eq!(asked, question("pos/till-1", None, "203.0.113.9", Some(1723), 6));
}

#[tokio::test]
async fn json_has_the_same_facts() {
    let (done, _) = explain(Ok(fixtures::explanation()), "--from pos/till-1 --to 203.0.113.9:1723/TCP -o json").await;
    insta::assert_snapshot!(done.out, @r#"
    {
      "from": {
        "address": "10.42.0.7",
        "port": null,
        "pod": "pos/till-1"
      },
      "to": {
        "address": "203.0.113.9",
        "port": 1723,
        "protocol": 6
      },
      "verdict": "NAT",
      "rule": "pos/tills-to-head-office",
      "service": "pos/pptp-service",
      "alg": "pos/pptp",
      "externalAddress": "198.51.100.1",
      "note": null,
      "considered": [
        {
          "rule": "pos/web",
          "action": "Allow",
          "matched": false,
          "reason": "no service matches: callgate-system/http (TCP 80)"
        },
        {
          "rule": "pos/tills-to-head-office",
          "action": "NAT",
          "matched": true,
          "reason": "matches"
        },
        {
          "rule": "pos/rest",
          "action": "Drop",
          "matched": false,
          "reason": "not reached: an earlier rule matches"
        }
      ]
    }
    "#);
}

#[tokio::test]
async fn an_address_with_a_source_port_and_a_protocol_without_ports_are_asked_as_given() {
    let reply = pb::ExplainReply {
        verdict: pb::Verdict::NotSelected.into(),
        from_address: "10.42.0.8".into(),
        note: "10.42.0.8 is no pod of this node".into(),
        ..pb::ExplainReply::default()
    };
    let (done, asked) = explain(Ok(reply), "--from 10.42.0.8:4000 --to 203.0.113.9/47").await;
    insta::assert_snapshot!(done.out, @r#"
    10.42.0.8:4000 -> 203.0.113.9 GRE
    verdict: not touched, no rule selects this source
    note: 10.42.0.8 is no pod of this node; this is about other GRE than PPTP's, which goes with its call and needs no rule; where rules of a source have a PptpAlg, it is dropped without a call
    "#);
    assert_eq!(asked, question("10.42.0.8", Some(4000), "203.0.113.9", None, 47));
}

#[tokio::test]
async fn a_pod_without_namespace_is_looked_for_in_default() {
    let (_, asked) = explain(Ok(fixtures::explanation()), "--from till-1 --to 203.0.113.9/icmp").await;
    assert_eq!(asked, question("default/till-1", None, "203.0.113.9", None, 1));
}

#[tokio::test]
async fn what_the_agent_refuses_is_told_and_exits_with_4() {
    let (done, _) =
        explain(Err(Status::not_found("there is no pod default/x")), "--from x --to 203.0.113.9/icmp").await;
    let err = "error: the agent says: there is no pod default/x\n".into();
    assert_eq!(done, Finished { code: 4, out: String::new(), err });
}
