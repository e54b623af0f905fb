//! What is kept comes back, and a server that does not answer is never taken for one that has nothing.

use callgate_compile::compile;
use callgate_compile::world::{Meta, Object, Pod, World};
use callgate_proto::model::ObjectKey;
use serde_json::{Value, json};

use super::*;
use crate::mock::{api_server, failure};

fn last_good() -> LastGood {
    let mut world = World::cluster();
    let key = |name: &str| ObjectKey::new("pos", name);
    world.nodes.insert("a".to_owned());
    let pod = Pod {
        uid: "1".to_owned(),
        labels: Default::default(),
        addresses: vec!["10.0.0.1".parse().unwrap()],
        node: Some("a".to_owned()),
        ..Pod::default()
    };
    world.pods.insert(key("pod"), pod.into());
    let service = serde_json::from_value(json!({"protocol": "TCP", "destinationPorts": "80"})).unwrap();
    world.services.insert(key("web"), Object { meta: Meta::default(), spec: service });
    let rule = json!({"order": 1, "action": "NAT", "services": [{"name": "web"}], "source": {"podSelector": {}}});
    world.rules.insert(key("rule"), Object { meta: Meta::default(), spec: serde_json::from_value(rule).unwrap() });
    compile(&world, None).last_good
}

#[tokio::test]
async fn what_was_saved_is_loaded() {
    let mut stored = Value::Null;
    let (client, log) = api_server(move |asked| {
        if asked.what.starts_with("PATCH") {
            stored = asked.body.clone();
        }
        (200, stored.clone())
    });
    let good = last_good();
    assert_ne!(good, LastGood::default());
    save(&Api::namespaced(client.clone(), "callgate-system"), &good).await.unwrap();
    assert_eq!(load(&client, "callgate-system").await.unwrap(), Some(good));
    let path = "/api/v1/namespaces/callgate-system/configmaps/callgate-last-good";
    let expected = [format!("PATCH {path}?&force=true&fieldManager=callgate-operator"), format!("GET {path}")];
    assert_eq!(log.lock().unwrap().iter().map(|asked| asked.what.clone()).collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn nothing_saved_is_no_past_and_no_answer_is_an_error() {
    let (client, _) = api_server(|_| failure(404, "NotFound"));
    assert_eq!(load(&client, "callgate-system").await.unwrap(), None);
    let (client, _) = api_server(|_| failure(403, "Forbidden"));
    assert!(load(&client, "callgate-system").await.is_err());
}

#[tokio::test]
async fn what_cannot_be_unpacked_is_an_error_that_says_what_to_do() {
    let (client, _) = api_server(|_| (200, json!({"metadata": {"name": NAME}, "binaryData": {(KEY): "AAAA"}})));
    let error = load(&client, "callgate-system").await.unwrap_err().to_string();
    assert_eq!(error, "ConfigMap callgate-system/callgate-last-good: delete it to start without a past");
}
