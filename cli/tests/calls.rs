//! `calls` once: table and JSON, sorted by client, then server.
#![allow(clippy::unwrap_used)]

mod common;

use callgate_proto::pb;
use common::{Answers, Place, command, fixtures, serve};

async fn calls(list: pb::CallList, options: &str) -> common::Finished {
    let place = Place::new();
    let _agent = serve(&place.socket(), Answers { calls: Some(list), ..Answers::default() });
    command(&format!("kubectl-callgate calls --api {}{options}", place.socket().display())).await
}

#[tokio::test]
async fn the_table_shows_every_call_sorted_by_client_and_server() {
    let done = calls(fixtures::calls(), "").await;
    insta::assert_snapshot!(done.out, @r#"
    CLIENT            SERVER             EXTERNAL            PNS-ID(CLIENT)  PNS-ID(OUTSIDE)  PAC-ID  STATE              TX           RX  LOST    AGE   IDLE  RULE
    10.42.0.7:40001   203.0.113.9:1723   198.51.100.1:10007               0            51712     512  Up         1200/96KiB  1187/1.5MiB     3  5m12s  350ms  pos/tills-to-head-office
    10.42.0.10:40001  203.0.113.9:1723   198.51.100.1:61002               0                7     640  Up             9/720B       9/720B     2     4s     1s  pos/tills-to-head-office
    10.42.0.10:40002  203.0.113.20:1723  198.51.100.1:61003               -                -       0  Requested        0/0B         0/0B     0   20ms   20ms  pos/tills-to-head-office
    "#);
    assert_eq!((done.code, done.err.as_str()), (0, ""));
}

#[tokio::test]
async fn a_column_of_pods_comes_first_where_any_is_known() {
    let done = calls(fixtures::calls_of_pods(), "").await;
    insta::assert_snapshot!(done.out, @r#"
    POD         CLIENT            SERVER             EXTERNAL            PNS-ID(CLIENT)  PNS-ID(OUTSIDE)  PAC-ID  STATE              TX           RX  LOST    AGE   IDLE  RULE
    pos/till-1  10.42.0.7:40001   203.0.113.9:1723   198.51.100.1:10007               0            51712     512  Up         1200/96KiB  1187/1.5MiB     3  5m12s  350ms  pos/tills-to-head-office
    -           10.42.0.10:40001  203.0.113.9:1723   198.51.100.1:61002               0                7     640  Up             9/720B       9/720B     2     4s     1s  pos/tills-to-head-office
    -           10.42.0.10:40002  203.0.113.20:1723  198.51.100.1:61003               -                -       0  Requested        0/0B         0/0B     0   20ms   20ms  pos/tills-to-head-office
    "#);
}

#[tokio::test]
async fn json_keeps_exact_numbers_and_null_for_what_is_not_known() {
    let mut list = fixtures::calls_of_pods();
    list.calls.remove(1);
    let done = calls(list, " -o json").await;
    insta::assert_snapshot!(done.out, @r#"
    {
      "taken": "2026-11-21T10:00:00Z",
      "calls": [
        {
          "client": {
            "address": "10.42.0.7",
            "port": 40001
          },
          "pod": "pos/till-1",
          "server": {
            "address": "203.0.113.9",
            "port": 1723
          },
          "external": {
            "address": "198.51.100.1",
            "port": 10007
          },
          "pnsCallId": 0,
          "pnsCallIdOutside": 51712,
          "pacCallId": 512,
          "direction": "Outgoing",
          "state": "Up",
          "tx": {
            "packets": 1200,
            "bytes": 98304,
            "lost": 0
          },
          "rx": {
            "packets": 1187,
            "bytes": 1572864,
            "lost": 3
          },
          "ageMs": 312000,
          "idleMs": 350,
          "rule": "pos/tills-to-head-office",
          "service": "pos/pptp-service",
          "alg": "pos/pptp"
        },
        {
          "client": {
            "address": "10.42.0.10",
            "port": 40002
          },
          "pod": null,
          "server": {
            "address": "203.0.113.20",
            "port": 1723
          },
          "external": {
            "address": "198.51.100.1",
            "port": 61003
          },
          "pnsCallId": null,
          "pnsCallIdOutside": null,
          "pacCallId": 0,
          "direction": "Incoming",
          "state": "Requested",
          "tx": {
            "packets": 0,
            "bytes": 0,
            "lost": 0
          },
          "rx": {
            "packets": 0,
            "bytes": 0,
            "lost": 0
          },
          "ageMs": 20,
          "idleMs": 20,
          "rule": "pos/tills-to-head-office",
          "service": "pos/pptp-service",
          "alg": "pos/pptp"
        }
      ]
    }
    "#);
    assert_eq!((done.code, done.err.as_str()), (0, ""));
}

#[tokio::test]
async fn without_calls_it_says_so() {
    let empty = pb::CallList { taken_unix_ms: common::NOW, ..pb::CallList::default() };
    assert_eq!(calls(empty.clone(), "").await.out, "no live calls\n");
    let json = "{\n  \"taken\": \"2026-11-21T10:00:00Z\",\n  \"calls\": []\n}\n";
    assert_eq!(calls(empty, " -o json").await.out, json);
}

#[tokio::test]
async fn a_list_of_as_many_calls_as_a_busy_node_has_is_read_whole() {
    let one = fixtures::calls().calls.remove(2);
    let list = pb::CallList { calls: vec![one; 65_536], ..fixtures::calls() };
    let done = calls(list, "").await;
    assert_eq!((done.code, done.out.lines().count(), done.err.as_str()), (0, 65_537, ""));
}
