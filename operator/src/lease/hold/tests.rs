//! What is asked of the API server to get, keep and give up a Lease.

use serde_json::{Value, json};

use super::*;
use crate::mock::{Asked, Log, api_server, failure};

const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/callgate-system/leases/callgate-operator";

fn of(holder: &str) -> Value {
    json!({"metadata": {"name": "callgate-operator", "resourceVersion": "7"},
           "spec": {"holderIdentity": holder, "leaseDurationSeconds": 15, "leaseTransitions": 3,
                    "renewTime": "2026-01-01T00:00:00.000000Z"}})
}

fn holder(answer: impl FnMut(&Asked) -> (u16, Value) + Send + 'static) -> (Holder, Log) {
    let (client, log) = api_server(answer);
    (Holder::new(client, "callgate-system", "callgate-operator", "me"), log)
}

fn asked(log: &Log) -> Vec<String> {
    log.lock().unwrap().iter().map(|asked| asked.what.trim_end_matches('?').to_owned()).collect()
}

#[tokio::test]
async fn one_that_is_not_there_is_made() {
    let (mut holder, log) = holder(|asked| match asked.what.starts_with("POST") {
        true => (201, asked.body.clone()),
        false => failure(404, "NotFound"),
    });
    assert!(holder.look().await.unwrap());
    let made = log.lock().unwrap()[1].body.clone();
    assert_eq!((&made["spec"]["holderIdentity"], &made["spec"]["leaseTransitions"]), (&json!("me"), &json!(0)));
}

#[tokio::test]
async fn anothers_is_left_alone() {
    let (mut holder, log) = holder(|_| (200, of("other")));
    assert!(!holder.look().await.unwrap());
    assert_eq!(asked(&log), [format!("GET {LEASE}")]);
}

#[tokio::test]
async fn a_write_carries_the_version_that_was_read_and_a_conflict_is_no_lead() {
    let (mut holder, log) = holder(|asked| match asked.what.starts_with("PUT") {
        true => failure(409, "Conflict"),
        false => (200, of("")),
    });
    assert!(holder.look().await.is_err());
    assert_eq!(log.lock().unwrap()[1].body["metadata"]["resourceVersion"], json!("7"));
}

#[tokio::test]
async fn giving_up_empties_ones_own_and_never_anothers() {
    let (mine, log) = holder(|asked| match asked.what.starts_with("PUT") {
        true => (200, asked.body.clone()),
        false => (200, of("me")),
    });
    mine.release().await;
    assert_eq!(log.lock().unwrap()[1].body["spec"]["holderIdentity"], json!(""));
    let (others, log) = holder(|_| (200, of("other")));
    others.release().await;
    assert_eq!(asked(&log), [format!("GET {LEASE}")]);
}

#[tokio::test(start_paused = true)]
async fn one_that_cannot_renew_gives_up_before_another_may_take_over() {
    let (mut holder, _) = holder(|_| failure(500, "InternalError"));
    let start = Instant::now();
    holder.keep().await;
    let took = start.elapsed();
    assert!(took >= RENEW_DEADLINE && took < super::super::DURATION, "{took:?}");
}
