//! A leader whose API server fails at first, and one whose EndpointSlice somebody deletes.

use std::sync::atomic::{AtomicBool, Ordering};

use callgate_proto::pb;
use clap::Parser as _;
use tokio::sync::mpsc;

use super::*;
use crate::mock::{api_server, failure};

#[tokio::test(start_paused = true)]
async fn an_authority_that_cannot_be_had_is_tried_for_until_it_can_and_readyz_says_why() {
    let mut failures = [500, 429, 403, 503].into_iter();
    let (client, log) = api_server(move |asked| match failures.next() {
        Some(code) => failure(code, "not now"),
        None if asked.what.starts_with("GET") => failure(404, "NotFound"),
        None => (200, asked.body.clone()),
    });
    let args = Args::try_parse_from(["x"]).unwrap();
    let leader = leader(&args, client);
    let keeper = leader.authority().await;
    assert!(keeper.subscribe().has_changed().is_ok());
    // Four that failed, and the three of a first start.
    assert_eq!(log.lock().unwrap().len(), 7);
    let Phase::Waiting(why) = leader.health.get() else { panic!("{:?}", leader.health.get()) };
    assert!(why.starts_with("Secret callgate-system/callgate-ca: ") && why.contains("not now"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn where_the_service_leads_is_written_again_and_again_also_after_a_failure() {
    let (written, mut writes) = mpsc::unbounded_channel();
    let mut failures = [503].into_iter();
    let (client, _) = api_server(move |asked| match asked.what.starts_with("GET") {
        true => (200, serde_json::json!({"metadata": {"name": "callgate-operator", "uid": "u"}})),
        false => match failures.next() {
            Some(code) => failure(code, "not now"),
            None => {
                written.send((tokio::time::Instant::now(), asked.body["endpoints"].clone())).unwrap();
                (200, asked.body.clone())
            }
        },
    });
    let args = Args::try_parse_from(["x", "--pod-ip", "10.244.0.5"]).unwrap();
    let _announcing = Task(tokio::spawn(announce(client, args.place())));
    let (first, place) = writes.recv().await.unwrap();
    let (second, again) = writes.recv().await.unwrap();
    assert_eq!((second - first).as_secs(), LOOK.as_secs());
    assert_eq!((&place[0]["addresses"], &place), (&serde_json::json!(["10.244.0.5"]), &again));
}

fn leader(args: &Args, client: Client) -> Leader {
    let metrics = Arc::new(Metrics::default());
    Leader {
        args: args.clone(),
        lifetimes: Lifetimes::default(),
        client,
        watched: Watched::empty(),
        health: Health::default(),
        metrics: Arc::clone(&metrics),
        hub: Arc::new(Hub::new(metrics)),
        settings: Settings { namespace: args.namespace.clone(), cluster_cidrs: Vec::new() },
    }
}

/// Keeps what is sent, after nothing that was read.
fn keeping(leader: &Leader) -> (Keeping, watch::Sender<Arc<LastGood>>) {
    let (kept, latest) = watch::channel(Arc::default());
    (Keeping::begin(leader.client.clone(), leader.args.namespace.clone(), Arc::default(), latest), kept)
}

/// Says when it is dropped.
struct Dropped(Arc<AtomicBool>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn status_is_written_no_more_when_agents_are_told_that_it_is_over() {
    let (client, _) = api_server(|_| failure(404, "NotFound"));
    let args = Args::try_parse_from(["x"]).unwrap();
    let leader = leader(&args, client);
    let (ended, (_, mut asks)) = (Arc::new(AtomicBool::new(false)), leader.hub.attach("a", pb::Hello::default()));
    let held = Dropped(Arc::clone(&ended));
    let writing = Task(tokio::spawn(async move {
        let _held = held;
        pending::<()>().await;
    }));
    let (told, heard) = oneshot::channel();
    let (stop, _stopping) = oneshot::channel();
    let task = Task(tokio::spawn(async move {
        assert!(asks.recv().await.is_none());
        told.send(ended.load(Ordering::Relaxed)).unwrap();
        Ok(())
    }));
    leader.farewell(Server { task, stop }, writing, keeping(&leader).0).await;
    assert!(heard.await.unwrap(), "it was still writing");
}

#[tokio::test]
async fn a_server_and_a_writer_that_have_ended_by_themselves_are_not_waited_for_again() {
    let (client, _) = api_server(|_| failure(404, "NotFound"));
    let args = Args::try_parse_from(["x"]).unwrap();
    let leader = leader(&args, client);
    let (stop, _stopping) = oneshot::channel();
    let mut task = Task(tokio::spawn(async { Ok(()) }));
    assert!((&mut task.0).await.unwrap().is_ok());
    let mut writing = Task(tokio::spawn(async {}));
    (&mut writing.0).await.unwrap();
    leader.farewell(Server { task, stop }, writing, keeping(&leader).0).await;
    assert_eq!(leader.health.get(), Phase::Stopping);
}

#[tokio::test(start_paused = true)]
async fn what_runs_and_waits_to_be_kept_is_kept_at_the_farewell() {
    let (client, log) = api_server(|asked| (200, asked.body.clone()));
    let args = Args::try_parse_from(["x"]).unwrap();
    let leader = leader(&args, client);
    let (keeping, kept) = keeping(&leader);
    let good = |order: u32| {
        let rule = serde_json::json!({"version": {}, "order": order, "action": "Drop", "source": {"pods": null, "cidrs": []},
                                      "destinations": [], "services": [], "algs": [], "log": false});
        let rules = serde_json::json!({"rules": [[{"namespace": "pos", "name": "r"}, rule]]});
        Arc::new(serde_json::from_value::<LastGood>(rules).unwrap())
    };
    kept.send_replace(good(1));
    while log.lock().unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    kept.send_replace(good(2));
    let (stop, _stopping) = oneshot::channel();
    let (task, writing) = (Task(tokio::spawn(async { Ok(()) })), Task(tokio::spawn(async {})));
    leader.farewell(Server { task, stop }, writing, keeping).await;
    let path = "PATCH /api/v1/namespaces/callgate-system/configmaps/callgate-last-good?&force=true&fieldManager=callgate-operator";
    assert_eq!(log.lock().unwrap().iter().map(|asked| asked.what.as_str()).collect::<Vec<_>>(), [path; 2]);
}
