//! What is read at the start, and an API server that does not have every kind.

use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::mock::{Asked, NEVER, SILENT, api_server, failure};

fn list(kind: &str, items: &Value) -> (u16, Value) {
    (
        200,
        json!({"kind": format!("{kind}List"), "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": items}),
    )
}

/// An API server older than ServiceCIDR with one of each of the others.
fn answer(asked: &Asked) -> (u16, Value) {
    let path = asked.what.split(['?', ' ']).nth(1).unwrap();
    if asked.what.contains("watch=true") {
        return (NEVER, Value::Null);
    }
    let head = |name: &str| json!({"name": name, "namespace": "pos", "uid": name, "generation": 3});
    let ours = |kind: &str, spec: Value| {
        let item = json!({"apiVersion": "callgate.io/v1alpha1", "kind": kind, "metadata": head("x"), "spec": spec,
                          "status": {"observedGeneration": 2}});
        list(kind, &json!([item]))
    };
    match path.rsplit('/').next().unwrap() {
        "pods" => list("Pod", &json!([{"metadata": head("till"), "status": {"podIP": "10.244.0.7"}}])),
        "namespaces" => list("Namespace", &json!([{"metadata": {"name": "pos", "labels": {"a": "b"}}}])),
        "nodes" => list("Node", &json!([{"metadata": {"name": "a"}, "spec": {"podCIDR": "10.244.0.0/24"}}])),
        "pptpalgs" => ours("PptpAlg", json!({})),
        "ipservices" => ours("Service", json!({"protocol": "TCP"})),
        "iprules" => ours(
            "IpRule",
            json!({"order": 1, "action": "Drop", "source": {"podSelector": {}}, "services": [{"name": "x"}]}),
        ),
        _ => failure(404, "NotFound"),
    }
}

#[tokio::test]
async fn everything_is_read_and_a_kind_that_the_api_server_lacks_is_known_to_be_empty() {
    let (client, log) = api_server(answer);
    let watched = Watched::start(&client);
    let mut changes = watched.changes();
    let read = async {
        while !watched.facts().missing().is_empty() {
            changes.changed().await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(10), read).await.unwrap();
    let (key, facts) = (ObjectKey::new("pos", "x"), watched.facts());
    assert_eq!(facts.pods.get(&ObjectKey::new("pos", "till")).unwrap().pod.uid, "till");
    assert_eq!(facts.namespaces.get(&cluster_key("pos")).unwrap()["a"], "b");
    assert_eq!(facts.nodes.get(&cluster_key("a")).unwrap().pod_cidrs.len(), 1);
    assert_eq!(facts.rules.get(&key).unwrap().meta.generation, 3);
    let told = [Kind::PptpAlg, Kind::Service, Kind::IpRule].map(|kind| {
        let object = callgate_compile::status::ObjectRef { kind, key: key.clone() };
        facts.told(&object).unwrap().status.observed_generation
    });
    assert_eq!(told, [Some(2); 3]);
    let pods = log.lock().unwrap().iter().find(|asked| asked.what.contains("/pods?")).unwrap().what.clone();
    assert!(pods.contains("fieldSelector=status.phase%21%3DSucceeded%2Cstatus.phase%21%3DFailed"), "{pods}");
}

#[tokio::test(start_paused = true)]
async fn a_watch_on_which_nothing_comes_is_begun_anew_within_half_a_minute_and_nothing_is_listed_again() {
    let (say, mut begun) = tokio::sync::mpsc::unbounded_channel();
    let (client, log) = api_server(move |asked| match asked.what.contains("watch=true") {
        true => {
            if asked.what.contains("/pods?") {
                say.send(()).unwrap();
            }
            (SILENT, Value::Null)
        }
        false => answer(asked),
    });
    let _watched = Watched::start(&client);
    begun.recv().await.unwrap();
    tokio::time::timeout(Duration::from_secs(30), begun.recv()).await.expect("it is begun anew").unwrap();
    let asked: Vec<String> = log.lock().unwrap().iter().map(|asked| asked.what.clone()).collect();
    let listed = asked.iter().filter(|what| what.contains("/pods?") && !what.contains("watch=true"));
    assert_eq!(listed.count(), 1);
}

#[test]
fn a_status_alone_is_no_news_for_compile_and_is_remembered() {
    let watched = Watched::empty();
    let mut changes = watched.changes();
    let put = |observed: i64| {
        let object: Service = serde_json::from_value(json!({
            "apiVersion": "callgate.io/v1alpha1", "kind": "Service", "metadata": {"name": "x", "namespace": "pos"},
            "spec": {"protocol": "TCP"}, "status": {"observedGeneration": observed},
        }))
        .unwrap();
        watched.absorb(&Event::Apply(object), |facts, event| {
            told(facts, Kind::Service, event, |object: &Service| object.status.as_ref());
            facts.services.absorb(event, key, |object| Object { meta: meta(object.meta()), spec: object.spec.clone() })
        });
    };
    put(1);
    assert!(changes.has_changed().unwrap());
    changes.mark_unchanged();
    put(2);
    assert!(!changes.has_changed().unwrap());
    let object = callgate_compile::status::ObjectRef { kind: Kind::Service, key: ObjectKey::new("pos", "x") };
    assert_eq!(watched.facts().told(&object).unwrap().status.observed_generation, Some(2));
}

#[test]
fn a_pod_without_an_address_is_no_news_for_compile_until_it_has_one_and_when_it_has_lost_it() {
    let watched = Watched::empty();
    let mut changes = watched.changes();
    let mut put = |status: Value, label: &str| {
        let metadata = json!({"name": "till", "namespace": "pos", "labels": {"app": label}});
        let pod: Pod = serde_json::from_value(json!({"metadata": metadata, "status": status})).unwrap();
        watched.absorb(&Event::Apply(pod), pods);
        std::mem::replace(&mut changes, watched.changes()).has_changed().unwrap()
    };
    assert!(!put(json!({}), "a"), "made");
    assert!(!put(json!({"phase": "Pending"}), "b"), "labelled anew");
    assert!(put(json!({"podIP": "10.244.0.7"}), "b"), "it has an address");
    assert!(put(json!({"podIP": "10.244.0.7"}), "c"), "labelled anew with an address");
    assert!(put(json!({}), "c"), "it has lost it");
    assert!(!put(json!({}), "d"));
    assert_eq!(watched.facts().pods.get(&ObjectKey::new("pos", "till")).unwrap().pod.labels["app"], "d");
}
