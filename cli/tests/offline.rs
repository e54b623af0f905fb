//! `explain -f`: manifests answer in place of an agent.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;

use common::{Finished, command, fixtures};

/// Runs explain over these texts, one file each; the directory reads `DIR`.
async fn explain(texts: &[&str], options: &str) -> Finished {
    let dir = tempfile::tempdir().unwrap();
    for (number, text) in texts.iter().enumerate() {
        fs::write(dir.path().join(format!("{number}.yaml")), text).unwrap();
    }
    let path = dir.path().to_str().unwrap();
    let done = command(&format!("kubectl-callgate explain -f {path} {options}")).await;
    Finished { out: done.out.replace(path, "DIR"), err: done.err.replace(path, "DIR"), ..done }
}

const ALL: [&str; 2] = [fixtures::CLASSIC, fixtures::PODS];

#[tokio::test]
async fn a_pod_of_the_manifests_is_found_by_name_and_by_address() {
    let by_name = explain(&ALL, "--from pos/till-1 --to 203.0.113.9:1723/TCP").await;
    insta::assert_snapshot!(by_name.out, @r#"
    pos/till-1 (10.42.0.7) -> 203.0.113.9:1723 TCP
    verdict: NAT by rule pos/tills-to-head-office, service pos/pptp-service, through ALG pos/pptp
    note: NAT gives the node's own address on its way to the destination; a running agent tells which; this is the answer of a single host: a cluster takes source.cidrs only from rules in namespace callgate-system

    #  RULE                      ACTION      RESULT
    1  pos/tills-to-head-office  NAT     =>  matches
    "#);
    assert_eq!((by_name.code, by_name.err.as_str()), (0, ""));
    assert_eq!(explain(&ALL, "--from 10.42.0.7 --to 203.0.113.9:1723/TCP").await, by_name);
    assert_eq!(explain(&ALL, "-n pos --from till-1 --to 203.0.113.9:1723/6").await, by_name);
}

#[tokio::test]
async fn a_packet_that_no_service_matches_is_left_to_the_cni() {
    let done = explain(&ALL, "--from pos/till-1 --to 203.0.113.9/gre").await;
    insta::assert_snapshot!(done.out, @r#"
    pos/till-1 (10.42.0.7) -> 203.0.113.9 GRE
    verdict: left to the CNI, no rule of this source matches
    note: this is about other GRE than PPTP's, which goes with its call and needs no rule; where rules of a source have a PptpAlg, it is dropped without a call

    #  RULE                      ACTION    RESULT
    1  pos/tills-to-head-office  NAT       no service matches: pos/pptp-service (TCP 1723)
    "#);
}

#[tokio::test]
async fn a_source_that_no_rule_selects_is_not_touched() {
    let done = explain(&ALL, "--from 10.42.0.99 --to 203.0.113.9:1723/TCP -o json").await;
    insta::assert_snapshot!(done.out, @r#"
    {
      "from": {
        "address": "10.42.0.99",
        "port": null,
        "pod": null
      },
      "to": {
        "address": "203.0.113.9",
        "port": 1723,
        "protocol": 6
      },
      "verdict": "NotSelected",
      "rule": null,
      "service": null,
      "alg": null,
      "externalAddress": null,
      "note": null,
      "considered": [
        {
          "rule": "pos/tills-to-head-office",
          "action": "NAT",
          "matched": false,
          "reason": "selects pods, and 10.42.0.99 is the address of none; 10.42.0.99 is not in 10.42.0.0/28"
        }
      ]
    }
    "#);
}

#[tokio::test]
async fn a_rule_that_only_a_host_takes_decides_and_the_answer_says_so() {
    let rule = |namespace: &str, source: &str| {
        format!(
            "apiVersion: callgate.io/v1alpha1\nkind: IpRule\nmetadata: {{name: r, namespace: {namespace}}}\n\
             spec: {{order: 1, action: Drop, source: {source}, services: [{{name: all}}]}}\n"
        )
    };
    let note = async |namespace: &str, source: &str| {
        let done = explain(&[&rule(namespace, source)], "--from 10.20.0.1 --to 203.0.113.9/icmp").await;
        let note = done.out.lines().find_map(|line| line.strip_prefix("note: ")).map(str::to_owned);
        (done.out.lines().nth(1).unwrap_or_default().to_owned(), note)
    };
    let only = |field: &str| {
        let taken = format!("a cluster takes {field} only from rules in namespace callgate-system");
        Some(format!("this is the answer of a single host: {taken}"))
    };
    let nets = "{cidrs: [10.20.0.0/16]}";
    let drop = |namespace: &str| format!("verdict: Drop by rule {namespace}/r, service callgate-system/all");
    assert_eq!(note("pos", nets).await, (drop("pos"), only("source.cidrs")));
    assert_eq!(note("callgate-system", nets).await, (drop("callgate-system"), None));
    let both = "{namespaceSelector: {}, cidrs: [10.20.0.0/16]}";
    assert_eq!(note("pos", both).await, (drop("pos"), only("source.namespaceSelector")));
}

#[tokio::test]
async fn a_pod_that_is_not_there_is_named_with_the_remedy() {
    let failed = |err: &str| Finished { code: 2, out: String::new(), err: err.into() };
    let missing =
        "error: --from: there is no Pod default/till-1 in DIR; pass its IP, or -n NAMESPACE if it is in another\n";
    assert_eq!(explain(&ALL, "--from till-1 --to 203.0.113.9/icmp").await, failed(missing));
}

#[tokio::test]
async fn problems_of_the_manifests_are_said_to_be_left_out() {
    let texts = [fixtures::CLASSIC, fixtures::PODS, fixtures::WRONG];
    let done = explain(&texts, "--from pos/till-1 --to 203.0.113.9:1723/TCP").await;
    let warning =
        "note: 3 problems in these manifests, left out of the answer: `kubectl callgate check -f DIR` says which; ";
    assert_eq!((done.code, done.err.as_str()), (0, ""));
    assert!(done.out.contains(warning), "{}", done.out);
    assert!(done.out.contains("verdict: NAT by rule pos/tills-to-head-office"), "{}", done.out);
}

#[tokio::test]
async fn a_pod_that_is_not_touched_hears_of_each_rule_what_it_asks_for_and_the_pod_has_not() {
    let rule = |name: &str, order: u32, source: &str, service: &str| {
        format!(
            "---\napiVersion: callgate.io/v1alpha1\nkind: IpRule\nmetadata: {{name: {name}, namespace: pos}}\n\
             spec: {{order: {order}, action: NAT, source: {source}, services: [{{name: {service}}}]}}\n"
        )
    };
    let rules = [
        rule("tills", 1, "{podSelector: {matchLabels: {app: till}}}", "pptp-ctl"),
        rule("zones", 2, "{podSelector: {matchExpressions: [{key: zone, operator: In, values: [a, b]}]}}", "pptp-ctl"),
        rule("networks", 3, "{cidrs: [10.20.0.0/16]}", "pptp-ctl"),
        rule("team", 4, "{namespaceSelector: {matchLabels: {team: shops}}}", "pptp-ctl"),
        rule("text", 0, "texts", "pptp-ctl"),
        rule("wrong", 5, "{podSelector: {matchLabels: {app: scale}}}", "pptp-clt"),
    ];
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: scale, namespace: pos, labels: {app: scale, shop: '7'}}\n";
    let done = explain(&[&rules.concat(), pod], "--from pos/scale --to 203.0.113.9:1723/TCP").await;
    insta::assert_snapshot!(done.out, @r#"
    pos/scale (192.0.2.1) -> 203.0.113.9:1723 TCP
    verdict: not touched, no rule selects this source
    note: 2 problems in these manifests, left out of the answer: `kubectl callgate check -f DIR` says which; Pod pos/scale has no IPv4 address in status.podIP; 192.0.2.1 is assumed

    #  RULE          ACTION    RESULT
    1  pos/tills     NAT       labels {app: scale} do not match {app: till}
    2  pos/zones     NAT       none of the labels that {zone In [a, b]} asks for is there
    3  pos/networks  NAT       192.0.2.1 is not in 10.20.0.0/16
    4  pos/team      NAT       namespace pos: none of the labels that {team: shops} asks for is there
    5  pos/wrong     NAT       not accepted: spec.services[0].name: there is no Service pptp-clt in namespace pos or callgate-system (did you mean pptp-ctl?): create it, or correct the name
    6  pos/text      -         not accepted: its manifest is wrong, `kubectl-callgate check` says where
    "#);
    assert_eq!((done.code, done.err.as_str()), (0, ""));
}
