//! What is asked of the API server to get, keep and give up a Lease.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::*;
use crate::mock::{Asked, Log, NEVER, api_server, failure};

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

/// An API server that has the Lease of `holder` at first; whoever applies it has it. Deleted: what it keeps is taken away.
fn kept(holder: &str) -> (Client, Log, Arc<Mutex<Option<Value>>>) {
    let state = Arc::new(Mutex::new(Some(of(holder))));
    let held = Arc::clone(&state);
    let (client, log) = api_server(move |asked| {
        let mut held = held.lock().unwrap();
        match (asked.what.split(' ').next().unwrap(), held.clone()) {
            ("GET", Some(lease)) => (200, lease),
            ("GET" | "PUT", None) => failure(404, "NotFound"),
            ("PATCH", Some(_)) => failure(409, "Conflict"),
            _ => {
                *held = Some(asked.body.clone());
                (200, asked.body.clone())
            }
        }
    });
    (client, log, state)
}

#[tokio::test]
async fn one_that_is_not_there_is_made_by_a_request_that_names_it_and_overrules_nobody() {
    let (client, log, state) = kept("");
    *state.lock().unwrap() = None;
    let mut holder = Holder::new(client, "callgate-system", "callgate-operator", "me");
    assert!(holder.look().await.unwrap());
    // Without force, and by a manager of its own: a right to create with a name is enough, and two cannot both make it.
    assert_eq!(asked(&log), [format!("GET {LEASE}"), format!("PATCH {LEASE}?&fieldManager=me")]);
    let made = log.lock().unwrap()[1].body.clone();
    assert_eq!((&made["spec"]["holderIdentity"], &made["spec"]["leaseTransitions"]), (&json!("me"), &json!(0)));
    assert_eq!((&made["kind"], &made["metadata"]), (&json!("Lease"), &json!({"name": "callgate-operator"})));
}

#[tokio::test(start_paused = true)]
async fn one_that_was_deleted_is_made_anew_by_its_holder_and_by_another_only_after_it_would_have_ended() {
    let (client, _, state) = kept("leader");
    let of = |me| Holder::new(client.clone(), "callgate-system", "callgate-operator", me);
    let (mut leader, mut standby) = (of("leader"), of("standby"));
    assert!(leader.look().await.unwrap());
    assert!(!standby.look().await.unwrap());
    let deleted = state.lock().unwrap().take().unwrap();
    assert!(!standby.look().await.unwrap(), "its holder leads still");
    assert!(leader.look().await.unwrap());
    let made = state.lock().unwrap().clone().unwrap();
    let told = |lease: &Value| ["holderIdentity", "leaseTransitions"].map(|field| lease["spec"][field].clone());
    assert_eq!(told(&made), told(&deleted));
    assert!(!standby.look().await.unwrap());

    *state.lock().unwrap() = None;
    tokio::time::advance(super::super::DURATION).await;
    assert!(standby.look().await.unwrap(), "its holder is gone too");
    assert_eq!(told(state.lock().unwrap().as_ref().unwrap()), [json!("standby"), json!(4)]);
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
async fn one_that_cannot_renew_gives_up_when_its_time_is_over_whatever_it_waits_for() {
    for refused in [failure(500, "InternalError"), (NEVER, Value::Null)] {
        let mut good = 2;
        let (mut holder, log) = holder(move |asked| {
            good -= 1;
            match good {
                0.. => (200, if asked.what.starts_with("PUT") { asked.body.clone() } else { of("me") }),
                _ => refused.clone(),
            }
        });
        assert!(holder.look().await.unwrap());
        let start = Instant::now();
        holder.keep().await;
        // The clock stands while anything is to be done, and ticks in milliseconds.
        let late = start.elapsed() - RENEW_DEADLINE;
        assert!(late < Duration::from_millis(10), "{late:?}");
        assert!(asked(&log).len() > 3, "it tried: {:?}", asked(&log));
    }
}
