//! Events never hold anybody up.

use callgate_crds::Kind;
use callgate_proto::model::ObjectKey;

use super::*;
use crate::mock::{NEVER, api_server, failure};
use crate::status::events;

fn rule(name: &str) -> ObjectRef {
    ObjectRef { kind: Kind::IpRule, key: ObjectKey::new("pos", name) }
}

fn counted(metrics: &Metrics) -> [u64; 3] {
    [Fate::Done, Fate::Failed, Fate::Dropped].map(|fate| metrics.events(fate))
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_costs_the_events_that_find_no_room_and_each_other_its_time() {
    let (client, _log) = api_server(|_| (NEVER, serde_json::Value::Null));
    let metrics = Arc::new(Metrics::default());
    let (teller, courier) = pair(client, "pod", Arc::clone(&metrics));
    for _ in 0..=MOST {
        teller.tell(rule("a"), "1".to_owned(), events::removed());
    }
    assert_eq!(counted(&metrics), [0, 0, 1]);
    let carrying = tokio::spawn(courier.run());
    tokio::time::sleep(TIMEOUT * 2 + TIMEOUT / 2).await;
    assert_eq!(counted(&metrics), [0, 2, 1]);
    carrying.abort();
}

#[tokio::test]
async fn events_are_written_in_their_order_and_one_that_is_refused_is_left_at_that() {
    let (client, log) = api_server(|asked| match asked.body["regarding"]["name"] == "a" {
        true => failure(403, "Forbidden"),
        false => (201, asked.body.clone()),
    });
    let metrics = Arc::new(Metrics::default());
    let (teller, courier) = pair(client, "pod", Arc::clone(&metrics));
    for name in ["a", "b"] {
        teller.tell(rule(name), "1".to_owned(), events::removed());
    }
    drop(teller);
    courier.run().await;
    let asked = std::mem::take(&mut *log.lock().unwrap());
    let about: Vec<&str> = asked.iter().filter_map(|asked| asked.body["regarding"]["name"].as_str()).collect();
    assert_eq!((about, counted(&metrics)), (vec!["a", "b"], [1, 1, 0]));
}
