//! The authority in the API server: made once, read again, renewed while it serves.

use std::sync::Mutex;

use jiff::SignedDuration;
use serde_json::{Value, json};

use super::*;
use crate::mock::{Log, api_server, failure};

const SECRETS: &str = "/api/v1/namespaces/callgate-system/secrets";
const MAP: &str = "/api/v1/namespaces/callgate-system/configmaps/callgate-ca";

fn names() -> Names {
    let server = vec!["callgate-operator.callgate-system.svc".to_owned()];
    Names { namespace: "callgate-system".to_owned(), ca: "callgate-ca".to_owned(), server }
}

fn at(hours: i64) -> Timestamp {
    "2026-01-01T00:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_hours(hours)
}

fn lifetimes() -> Lifetimes {
    let hours = SignedDuration::from_hours;
    Lifetimes { authority: hours(300), overlap: hours(10), leaf: hours(30) }
}

/// An API server that keeps one Secret and one ConfigMap.
fn kept() -> (Client, Log, Arc<Mutex<[Value; 2]>>) {
    let state: Arc<Mutex<[Value; 2]>> = Arc::default();
    let held = Arc::clone(&state);
    let (client, log) = api_server(move |asked| {
        let mut held = held.lock().unwrap();
        let place = &mut held[usize::from(asked.what.contains("/configmaps/"))];
        match asked.what.split(' ').next().unwrap() {
            "GET" if place.is_null() => failure(404, "NotFound"),
            "GET" => (200, place.clone()),
            _ => {
                *place = asked.body.clone();
                (200, place.clone())
            }
        }
    });
    (client, log, state)
}

/// Methods and paths of what was asked since the last time.
fn asked(log: &Log) -> Vec<String> {
    let mut log = log.lock().unwrap();
    std::mem::take(&mut *log).into_iter().map(|asked| asked.what.split('?').next().unwrap().to_owned()).collect()
}

fn certificates(state: &Arc<Mutex<[Value; 2]>>) -> usize {
    state.lock().unwrap()[1]["data"]["ca.crt"].as_str().unwrap().matches("BEGIN CERTIFICATE").count()
}

#[tokio::test]
async fn the_first_authority_is_made_and_published_and_the_second_start_reads_it() {
    let (client, log, state) = kept();
    let first = Keeper::start(client.clone(), names(), lifetimes(), at(0)).await.unwrap();
    let secret = format!("{SECRETS}/callgate-ca");
    assert_eq!(asked(&log), [format!("GET {secret}"), format!("PATCH {secret}"), format!("PATCH {MAP}")]);
    let second = Keeper::start(client, names(), lifetimes(), at(1)).await.unwrap();
    assert_eq!(asked(&log), [format!("GET {secret}"), format!("PATCH {MAP}")]);
    assert_eq!(first.authority, second.authority);
    assert!(!state.lock().unwrap()[1].to_string().contains("PRIVATE"), "the ConfigMap has no key");
}

#[tokio::test]
async fn certificates_and_authorities_are_renewed_while_it_runs_and_agents_read_them_first() {
    let (client, _, state) = kept();
    let mut keeper = Keeper::start(client.clone(), names(), lifetimes(), at(0)).await.unwrap();
    let mut served = keeper.subscribe();
    served.mark_unchanged();
    let (mut told, first) = (Vec::new(), keeper.authority.current.clone());
    for hour in [19, 20, 200, 205, 211, 300] {
        keeper.look(at(hour)).await.unwrap();
        let signs = keeper.authority.current == first;
        told.push((hour, served.has_changed().unwrap(), certificates(&state), signs));
        served.mark_unchanged();
    }
    let expected = [
        (19, false, 1, true),
        (20, true, 1, true),
        // The successor is published and does not sign; the leaf was due anyway.
        (200, true, 2, true),
        (205, false, 2, true),
        // It signs now, and the old one is still trusted.
        (211, true, 2, false),
        (300, true, 1, false),
    ];
    assert_eq!(told, expected);
    // Who starts now goes on with what is kept.
    let next = Keeper::start(client, names(), lifetimes(), at(300)).await.unwrap();
    assert_eq!(next.authority, keeper.authority);
}

#[tokio::test]
async fn what_is_published_is_written_again_at_the_next_look_when_somebody_took_it_away() {
    let (client, _, state) = kept();
    let mut keeper = Keeper::start(client, names(), lifetimes(), at(0)).await.unwrap();
    let published = std::mem::take(&mut state.lock().unwrap()[1]);
    keeper.look(at(1)).await.unwrap();
    assert_eq!(state.lock().unwrap()[1], published);
}

#[tokio::test]
async fn a_successor_is_published_before_it_is_kept_and_is_the_same_until_both_have_gone_well() {
    let (client, _, state) = kept();
    Keeper::start(client, names(), lifetimes(), at(0)).await.unwrap();
    let stored = state.lock().unwrap()[0].clone();
    // Which of the two cannot be written.
    let refused = Arc::new(Mutex::new("nothing"));
    let now = Arc::clone(&refused);
    let (client, log) = api_server(move |asked| match asked.what.starts_with("GET") {
        true => (200, stored.clone()),
        false if asked.what.contains(*now.lock().unwrap()) => failure(500, "InternalError"),
        false => (200, asked.body.clone()),
    });
    let mut keeper = Keeper::start(client, names(), lifetimes(), at(199)).await.unwrap();
    log.lock().unwrap().clear();
    let (map, secret) = (format!("PATCH {MAP}"), format!("PATCH {SECRETS}/callgate-ca"));
    *refused.lock().unwrap() = "configmaps";
    keeper.look(at(200)).await.unwrap_err();
    assert_eq!((asked(&log), keeper.authority.next.is_some()), (vec![map.clone()], false));
    *refused.lock().unwrap() = "secrets";
    keeper.look(at(201)).await.unwrap_err();
    let published = log.lock().unwrap()[0].body.clone();
    assert_eq!((asked(&log), keeper.authority.next.is_some()), (vec![map.clone(), secret.clone()], false));
    *refused.lock().unwrap() = "nothing";
    keeper.look(at(202)).await.unwrap();
    assert_eq!(log.lock().unwrap()[0].body, published, "agents need not read another one");
    assert_eq!((asked(&log), keeper.authority.next.is_some()), (vec![map, secret], true));
}

#[tokio::test]
async fn a_secret_without_its_key_is_an_error_that_says_what_to_do() {
    let (client, _) = api_server(|_| (200, json!({"metadata": {"name": "callgate-ca"}, "data": {}})));
    let Err(error) = Keeper::start(client, names(), lifetimes(), at(0)).await else { panic!("started") };
    let expected = "Secret callgate-system/callgate-ca: callgate-ca lacks ca.crt or ca.key: delete it, and a new authority is made";
    assert_eq!(format!("{error:#}"), expected);
}
