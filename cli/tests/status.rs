//! `status`: text and JSON.
#![allow(clippy::unwrap_used)]

mod common;

use callgate_proto::pb;
use common::{Answers, Place, command, fixtures, serve};

async fn status(reply: pb::StatusReply, options: &str) -> common::Finished {
    let place = Place::new();
    let _agent = serve(&place.socket(), Answers { status: Some(reply), ..Answers::default() });
    command(&format!("kubectl-callgate status --api {}{options}", place.socket().display())).await
}

#[tokio::test]
async fn objects_problems_and_counters_each_have_their_block() {
    let done = status(fixtures::status(), "").await;
    insta::assert_snapshot!(done.out, @r#"
    node           standalone
    agent          0.1.0
    path           AF_PACKET
    configuration  8a072661d6d3
    programmed     yes, since 5m11s
    connections    3
    calls          2

    KIND     OBJECT                    ACCEPTED  RESOLVEDREFS  PROGRAMMED  SINCE  COUNTERS           MESSAGE
    IpRule   pos/tills-to-head-office  True      True          True        5m11s  clients=2,flows=5
    IpRule   pos/web                   True      False         False       5s     -                  ServiceNotFound: spec.services[0].name: there is no Service pos/htp; did you mean callgate-system/http?; NotAccepted: not carried out
    PptpAlg  pos/pptp                  True      -             -           5m12s  -

    problems in the manifests:
      FILE:LINE    OBJECT          FIELD                  MESSAGE
      web.yaml:7   IpRule pos/web  spec.services[0].name  there is no Service pos/htp; did you mean callgate-system/http?
      broken.yaml  -               -                      is not YAML

    counters:
      calls_up           3
      gre_up_packets  1209

    kernel:
      nftables  yes  kernel 6.18
      tcx       no
    "#);
    assert_eq!((done.code, done.err.as_str()), (0, ""));
}

#[tokio::test]
async fn counters_that_are_zero_are_shown_on_request() {
    let without = status(fixtures::status(), "").await.out;
    let with = status(fixtures::status(), " --all").await.out;
    assert_eq!(with.replace("  drop_ttl           0\n", ""), without);
    assert_ne!(with, without);
}

#[tokio::test]
async fn an_agent_that_has_not_programmed_anything_says_why() {
    let done = status(fixtures::status_not_programmed(), "").await;
    insta::assert_snapshot!(done.out, @r#"
    node           standalone
    agent          0.1.0
    path           AF_PACKET
    configuration  none yet
    programmed     NO, since 2s (KernelRefused: nftables: table callgate: Operation not permitted)
    connections    0
    calls          0

    no objects
    "#);
}

#[tokio::test]
async fn json_has_everything_with_kubernetes_names_for_conditions() {
    let mut reply = fixtures::status();
    reply.objects.truncate(1);
    let done = status(reply, " -o json").await;
    insta::assert_snapshot!(done.out, @r#"
    {
      "version": "0.1.0",
      "node": "standalone",
      "configHash": "8a072661d6d354c9d731a11dd945e2052499517f51f020a1056126af31401ba2",
      "programmed": {
        "value": true,
        "since": "2026-11-21T09:54:49Z",
        "reason": "Programmed",
        "message": ""
      },
      "path": "AF_PACKET",
      "connections": 3,
      "calls": 2,
      "objects": [
        {
          "kind": "IpRule",
          "namespace": "pos",
          "name": "web",
          "conditions": [
            {
              "type": "Accepted",
              "status": "True",
              "reason": "Accepted",
              "message": "",
              "observedGeneration": 2,
              "lastTransitionTime": "2026-11-21T09:59:55Z"
            },
            {
              "type": "ResolvedRefs",
              "status": "False",
              "reason": "ServiceNotFound",
              "message": "spec.services[0].name: there is no Service pos/htp; did you mean callgate-system/http?",
              "observedGeneration": 2,
              "lastTransitionTime": "2026-11-21T09:59:55Z"
            },
            {
              "type": "Programmed",
              "status": "False",
              "reason": "NotAccepted",
              "message": "not carried out",
              "observedGeneration": 2,
              "lastTransitionTime": "2026-11-21T09:59:55Z"
            }
          ],
          "counters": {}
        }
      ],
      "problems": [
        {
          "file": "web.yaml",
          "line": 7,
          "object": "IpRule pos/web",
          "field": "spec.services[0].name",
          "message": "there is no Service pos/htp; did you mean callgate-system/http?"
        },
        {
          "file": "broken.yaml",
          "line": 0,
          "object": "",
          "field": "",
          "message": "is not YAML"
        }
      ],
      "counters": {
        "calls_up": 3,
        "drop_ttl": 0,
        "gre_up_packets": 1209
      },
      "features": [
        {
          "name": "nftables",
          "available": true,
          "detail": "kernel 6.18"
        },
        {
          "name": "tcx",
          "available": false,
          "detail": ""
        }
      ]
    }
    "#);
    assert_eq!((done.code, done.err.as_str()), (0, ""));
}
