//! What is kept comes back, whatever its size; and a server that does not answer is never taken for one that has nothing.

use callgate_compile::compile;
use callgate_compile::world::{Meta, Object, World};
use callgate_proto::model::ObjectKey;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinHandle;

use super::*;
use crate::mock::{api_server, failure};

const OWN: &str = "callgate-system";

/// So many rules of each namespace, with names that cannot be compressed.
fn of(namespaces: &[(&str, u32)], action: &str) -> LastGood {
    let mut world = World::cluster();
    for (namespace, rules) in namespaces {
        let service = serde_json::from_value(json!({"protocol": "TCP", "destinationPorts": "80"})).unwrap();
        let key = |name: String| ObjectKey::new(*namespace, name);
        world.services.insert(key("web".to_owned()), Object { meta: Meta::default(), spec: service });
        for order in 1..=*rules {
            let rule = json!({"order": order, "action": action, "services": [{"name": "web"}],
                              "source": {"podSelector": {"matchLabels": {"app": order.to_string()}}}});
            let rule = Object { meta: Meta::default(), spec: serde_json::from_value(rule).unwrap() };
            world.rules.insert(key(format!("{:x}", Sha256::digest(format!("{namespace} {order}")))), rule);
        }
    }
    compile(&world, None).last_good
}

fn last_good() -> LastGood {
    of(&[("pos", 1)], "NAT")
}

/// The rules with their names, in whatever order.
fn rules(last_good: &LastGood) -> BTreeSet<(String, String)> {
    let json = serde_json::to_value(last_good).unwrap();
    let rules = json["rules"].as_array().unwrap();
    rules.iter().map(|named| (named[0].to_string(), named[1].to_string())).collect()
}

/// An API server that keeps what it takes, and tells of each write.
fn store(refuses: impl Fn(&Value) -> bool + Send + 'static) -> (Client, UnboundedReceiver<()>) {
    let (tell, writes) = unbounded_channel();
    let mut stored = None;
    let (client, _) = api_server(move |asked| {
        if asked.what.starts_with("PATCH") {
            if refuses(&asked.body) {
                return failure(413, "RequestEntityTooLarge");
            }
            stored = Some(asked.body.clone());
            tell.send(()).unwrap();
        }
        stored.clone().map_or_else(|| failure(404, "NotFound"), |stored| (200, stored))
    });
    (client, writes)
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
    let packed = pack(&good, OWN, LARGEST).unwrap().bytes;
    save(&Api::namespaced(client.clone(), OWN), Some(packed)).await.unwrap();
    assert_eq!(load(&client, OWN).await.unwrap(), Some(good));
    let path = "/api/v1/namespaces/callgate-system/configmaps/callgate-last-good";
    let expected = [format!("PATCH {path}?&force=true&fieldManager=callgate-operator"), format!("GET {path}")];
    assert_eq!(log.lock().unwrap().iter().map(|asked| asked.what.clone()).collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn nothing_saved_is_no_past_and_no_answer_is_an_error() {
    let (client, _) = api_server(|_| failure(404, "NotFound"));
    assert_eq!(load(&client, OWN).await.unwrap(), None);
    let (client, _) = api_server(|_| failure(403, "Forbidden"));
    assert!(load(&client, OWN).await.is_err());
}

#[tokio::test]
async fn what_cannot_be_unpacked_is_an_error_that_says_what_to_do() {
    let (client, _) = api_server(|_| (200, json!({"metadata": {"name": NAME}, "binaryData": {(KEY): "AAAA"}})));
    let error = load(&client, OWN).await.unwrap_err().to_string();
    assert_eq!(error, "ConfigMap callgate-system/callgate-last-good: delete it to start without a past");
}

#[test]
fn of_what_is_too_large_the_largest_namespaces_are_left_out_first_and_the_operators_last() {
    let all = [(OWN, 8), ("large", 20), ("middle", 4), ("small", 2)];
    let whole = of(&all, "NAT");
    // A little more: in parts the fields come in another order.
    let size = |kept: &[(&str, u32)]| -> usize {
        kept.iter().map(|one| pack(&of(&[*one], "NAT"), OWN, LARGEST).unwrap().bytes.len() + 30).sum()
    };
    let cases = [
        (LARGEST, &[][..]),
        (size(&all[..1]) + size(&all[2..]), &["large"]),
        (size(&all[..1]) + size(&all[3..]), &["large", "middle"]),
        (size(&all[..1]), &["large", "middle", "small"]),
        (0, &["callgate-system", "large", "middle", "small"]),
    ];
    for (most, left_out) in cases {
        let packed = pack(&whole, OWN, most).unwrap();
        let kept: Vec<(&str, u32)> = all.into_iter().filter(|(name, _)| !left_out.contains(name)).collect();
        let told: Vec<&str> = packed.left_out.iter().map(String::as_str).collect();
        let expected = rules(&of(&kept, "NAT"));
        assert_eq!((told, rules(&unpack(&packed.bytes).unwrap())), (left_out.to_vec(), expected), "{most}");
    }
}

/// Keeps what it is given from now on, beginning with nothing that was read.
fn keeping(most: usize, client: &Client) -> (watch::Sender<Arc<LastGood>>, oneshot::Sender<()>, JoinHandle<()>) {
    let (kept, latest) = watch::channel(Arc::default());
    let (farewell, told) = oneshot::channel();
    let task = tokio::spawn(keep_at_most(most, client.clone(), OWN.to_owned(), Arc::default(), latest, told));
    (kept, farewell, task)
}

#[tokio::test(start_paused = true)]
async fn one_namespace_that_is_too_large_leaves_no_old_rules_of_others_and_is_tried_again_only_after_a_change() {
    let (client, mut writes) = store(|_| false);
    let most = 2 * pack(&last_good(), OWN, LARGEST).unwrap().bytes.len();
    let (kept, _farewell, _task) = keeping(most, &client);
    kept.send_replace(Arc::new(last_good()));
    writes.recv().await.unwrap();
    assert_eq!(load(&client, OWN).await.unwrap(), Some(last_good()));

    kept.send_replace(Arc::new(of(&[("large", 50), ("pos", 1)], "Drop")));
    writes.recv().await.unwrap();
    let today = of(&[("pos", 1)], "Drop");
    assert_eq!(load(&client, OWN).await.unwrap(), Some(today.clone()));

    tokio::time::sleep(100 * PAUSE).await;
    assert!(writes.try_recv().is_err());
    kept.send_replace(Arc::new(today.clone()));
    writes.recv().await.unwrap();
    assert_eq!(load(&client, OWN).await.unwrap(), Some(today));
}

#[tokio::test(start_paused = true)]
async fn what_the_api_server_refuses_for_good_leaves_no_past_rather_than_an_old_one() {
    let (client, mut writes) = store(|body| body.to_string().len() > 1_000);
    let (kept, _farewell, _task) = keeping(LARGEST, &client);
    kept.send_replace(Arc::new(last_good()));
    writes.recv().await.unwrap();
    assert_eq!(load(&client, OWN).await.unwrap(), Some(last_good()));

    kept.send_replace(Arc::new(of(&[("large", 50), ("pos", 1)], "Drop")));
    writes.recv().await.unwrap();
    assert_eq!(load(&client, OWN).await.unwrap(), None);

    kept.send_replace(Arc::new(last_good()));
    writes.recv().await.unwrap();
    assert_eq!(load(&client, OWN).await.unwrap(), Some(last_good()));
}

#[test]
fn a_first_change_does_not_wait_and_further_ones_until_ten_seconds_after_the_last_write() {
    let start = Instant::now();
    let seconds = Duration::from_secs;
    let told = [(None, 0), (Some(0), 0), (Some(0), 4), (Some(0), 10), (Some(0), 60)].map(|(written, now)| {
        let written = written.map(|written| start + seconds(written));
        pause(written, start + seconds(now)).as_secs()
    });
    assert_eq!(told, [0, 10, 6, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn many_changes_are_few_writes_and_the_last_of_them_is_among_these() {
    let (client, mut writes) = store(|_| false);
    let (kept, _farewell, _task) = keeping(LARGEST, &client);
    let start = Instant::now();
    for rules in 1..=20 {
        kept.send_replace(Arc::new(of(&[("pos", rules)], "NAT")));
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let mut at = Vec::new();
    for _ in 0..3 {
        writes.recv().await.unwrap();
        at.push(start.elapsed().as_secs());
    }
    tokio::time::sleep(100 * BETWEEN).await;
    assert!(writes.try_recv().is_err(), "{at:?}");
    assert_eq!(load(&client, OWN).await.unwrap(), Some(of(&[("pos", 20)], "NAT")));
}

#[tokio::test(start_paused = true)]
async fn at_a_farewell_what_waits_is_written_at_once_and_where_the_lease_was_lost_not_at_all() {
    for (is_told, rules) in [(true, 2), (false, 1)] {
        let (client, mut writes) = store(|_| false);
        let (kept, farewell, task) = keeping(LARGEST, &client);
        kept.send_replace(Arc::new(of(&[("pos", 1)], "NAT")));
        writes.recv().await.unwrap();
        kept.send_replace(Arc::new(of(&[("pos", 2)], "NAT")));
        let before = Instant::now();
        if is_told {
            farewell.send(()).unwrap();
        } else {
            drop(farewell);
        }
        task.await.unwrap();
        assert_eq!(before.elapsed(), Duration::ZERO);
        assert_eq!(load(&client, OWN).await.unwrap(), Some(of(&[("pos", rules)], "NAT")), "{is_told}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_read_is_not_written_again() {
    let (client, mut writes) = store(|_| false);
    let read = Arc::new(last_good());
    let (kept, latest) = watch::channel(Arc::clone(&read));
    let (farewell, told) = oneshot::channel();
    let task = tokio::spawn(keep(client, OWN.to_owned(), read, latest, told));
    kept.send_replace(Arc::new(last_good()));
    tokio::time::sleep(2 * BETWEEN).await;
    farewell.send(()).unwrap();
    task.await.unwrap();
    assert!(writes.try_recv().is_err());
}
