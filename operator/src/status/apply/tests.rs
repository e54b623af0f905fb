//! Differences are written once, failures again, and the object is written to by server-side apply.

use callgate_compile::Since;
use callgate_compile::compile;
use callgate_compile::world::{Meta, Object};
use callgate_crds::Kind;
use callgate_proto::model::ObjectKey;
use callgate_proto::pb;
use kube::runtime::watcher;
use serde_json::{Value, json};

use super::*;
use crate::facts::{NodeFact, Settings, Told, cluster_key, world};
use crate::metrics::Metrics;
use crate::mock::{Asked, Log, api_server, failure};
use crate::publish::SharedWorld;

fn key() -> ObjectKey {
    ObjectKey::new("pos", "web")
}

/// A service and a node.
fn watched() -> Watched {
    let watched = Watched::empty();
    watched.absorb(&watcher::Event::Apply(()), |facts, event| {
        facts.nodes.absorb(
            event,
            |()| cluster_key("a"),
            |()| NodeFact { uid: "node-uid".to_owned(), ..NodeFact::default() },
        );
        if let Some(table) = facts.told.get_mut(Kind::Service as usize) {
            table.absorb(event, |()| key(), |()| Told { uid: "web-uid".to_owned(), status: ObjectStatus::default() });
        }
        facts.services.absorb(
            event,
            |()| key(),
            |()| {
                let spec = serde_json::from_value(json!({"protocol": "TCP"})).unwrap();
                Object { meta: Meta { generation: 7, ..Meta::default() }, spec }
            },
        )
    });
    watched
}

fn published(watched: &Watched) -> Published {
    let settings = Settings { namespace: "callgate-system".to_owned(), cluster_cidrs: vec![] };
    let facts = watched.facts();
    let world = world(&facts, &settings);
    let compiled = compile(&world, None);
    Published { world: SharedWorld::new(world), compiled: Arc::new(compiled), uids: Arc::new(facts.uids()) }
}

struct Case {
    writer: Writer,
    published: Published,
    log: Log,
}

fn case(answer: impl FnMut(&Asked) -> (u16, Value) + Send + 'static) -> Case {
    let (client, log) = api_server(answer);
    let watched = watched();
    let published = published(&watched);
    let hub = Arc::new(Hub::new(Arc::new(Metrics::default())));
    hub.board.publish(&published.world.read(), &published.compiled.nodes, &Since::Everything);
    let writer = Writer::new(client, hub, watched, Timestamp::UNIX_EPOCH, "pod");
    Case { writer, published, log }
}

impl Case {
    async fn look(&mut self) -> Vec<Asked> {
        self.writer.look(&self.published, "2026-01-01T00:00:00Z".parse().unwrap()).await;
        let mut asked = std::mem::take(&mut *self.log.lock().unwrap());
        asked.sort_by(|a, b| a.what.cmp(&b.what));
        asked
    }
}

/// An answer that any of our objects can be read from.
fn fine(asked: &Asked) -> (u16, Value) {
    let mut body = asked.body.clone();
    if body.get("spec").is_none() {
        body["spec"] = json!({});
    }
    (200, body)
}

const SERVICE: &str =
    "PATCH /apis/callgate.io/v1alpha1/namespaces/pos/ipservices/web/status?&force=true&fieldManager=callgate-operator";
const HEAD: &str = "PATCH /apis/callgate.io/v1alpha1/egressnodes/a?&force=true&fieldManager=callgate-operator";
const NODE: &str = "PATCH /apis/callgate.io/v1alpha1/egressnodes/a/status?&force=true&fieldManager=callgate-operator";

#[tokio::test]
async fn a_difference_is_written_once_with_every_condition() {
    let mut case = case(fine);
    let asked = case.look().await;
    assert_eq!(asked.iter().map(|asked| asked.what.as_str()).collect::<Vec<_>>(), [NODE, HEAD, SERVICE]);
    let condition = |type_: &str, reason: &str, message: &str| {
        json!({"type": type_, "status": "True", "reason": reason, "message": message, "observedGeneration": 7,
               "lastTransitionTime": "2026-01-01T00:00:00Z"})
    };
    let expected = json!({
        "apiVersion": "callgate.io/v1alpha1", "kind": "Service",
        "metadata": {"name": "web", "namespace": "pos", "uid": "web-uid"},
        "status": {
            "observedGeneration": 7, "nodesProgrammed": 0, "nodesTotal": 0, "nodes": "0/0", "liveCalls": 0,
            "reason": "NothingToProgram",
            "conditions": [condition("Accepted", "Accepted", "Valid."),
                           condition("Programmed", "NothingToProgram", "No rule uses it, or no pod is selected.")],
        },
    });
    assert_eq!(asked[2].body, expected);
    assert_eq!(case.look().await, []);
}

#[tokio::test]
async fn a_write_that_failed_is_tried_again() {
    let mut failures = 2;
    let mut case = case(move |asked| {
        if failures > 0 {
            failures -= 1;
            return failure(403, "Forbidden");
        }
        fine(asked)
    });
    assert_eq!(case.look().await.len(), 2);
    assert_eq!(case.look().await.len(), 3);
    assert_eq!(case.look().await, []);
}

#[tokio::test(start_paused = true)]
async fn an_egress_node_belongs_to_its_node_and_is_made_again_when_it_was_deleted() {
    let missing = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let told = Arc::clone(&missing);
    let mut case = case(move |asked| {
        match asked.what.as_str() {
            HEAD => told.store(false, std::sync::atomic::Ordering::Relaxed),
            NODE if told.load(std::sync::atomic::Ordering::Relaxed) => return failure(404, "NotFound"),
            _ => {}
        }
        fine(asked)
    });
    let made = |asked: &[Asked]| {
        let what = asked.iter().map(|asked| asked.what.clone()).filter(|what| what.contains("egressnodes"));
        what.collect::<Vec<_>>()
    };
    let asked = case.look().await;
    let head = asked.iter().find(|asked| asked.what == HEAD).unwrap();
    let owner = json!([{"apiVersion": "v1", "kind": "Node", "name": "a", "uid": "node-uid"}]);
    assert_eq!(head.body["metadata"]["ownerReferences"], owner);
    // Somebody deletes it, and something is to be written.
    missing.store(true, std::sync::atomic::Ordering::Relaxed);
    case.writer.hub.change(|fleet| fleet.attach("a", 1, pb::Hello::default(), Timestamp::UNIX_EPOCH));
    assert_eq!(made(&case.look().await), [NODE, NODE, HEAD]);
    // And again, and nothing is to be written for long.
    tokio::time::advance(Duration::from_secs(599)).await;
    assert_eq!(made(&case.look().await), [""; 0]);
    tokio::time::advance(Duration::from_secs(60)).await;
    assert_eq!(made(&case.look().await), [NODE, HEAD]);
}

#[tokio::test]
async fn a_new_leader_goes_on_with_the_times_that_stand_there_and_writes_nothing_that_does() {
    let hash = case(fine).writer.hub.board.latest()["a"].hash.clone();
    let stored = |message: &str| {
        json!({"conditions": [{"type": "Ready", "status": "False", "reason": "AgentMissing", "message": message,
                               "lastTransitionTime": "2025-01-01T00:00:00Z"}],
               "wantedHash": hash, "rules": 0, "clients": 0})
    };
    let message = "No agent is attached: see the agent's pod on node a, and its log.";
    for (message, written) in [(message, 0), ("Of another version.", 1)] {
        let status = stored(message);
        let mut case = case(move |asked| {
            let (code, mut body) = fine(asked);
            if asked.what == HEAD {
                body["status"] = status.clone();
            }
            (code, body)
        });
        let asked = case.look().await;
        let times: Vec<&Value> = asked
            .iter()
            .filter(|asked| asked.what == NODE)
            .map(|asked| &asked.body["status"]["conditions"][0]["lastTransitionTime"])
            .collect();
        assert_eq!(times, vec!["2025-01-01T00:00:00Z"; written]);
        assert_eq!(case.look().await, []);
    }
}

#[tokio::test]
async fn a_new_leader_does_not_say_of_agents_that_are_on_their_way_that_they_are_missing() {
    let mut case = case(fine);
    case.writer.serving_since = "2026-01-01T00:00:00Z".parse().unwrap();
    assert_eq!(case.look().await.iter().map(|asked| asked.what.as_str()).collect::<Vec<_>>(), [SERVICE]);
    case.writer.hub.change(|fleet| fleet.attach("a", 1, pb::Hello::default(), Timestamp::UNIX_EPOCH));
    let asked = case.look().await;
    assert_eq!(asked.iter().map(|asked| asked.what.as_str()).collect::<Vec<_>>(), [NODE, HEAD]);
    assert_eq!(asked[0].body["status"]["conditions"][0]["reason"], "Converging");
}

#[tokio::test]
async fn calls_of_a_node_that_is_lost_for_long_are_counted_no_more() {
    let mut case = case(fine);
    let object = ObjectRef { kind: Kind::Service, key: key() };
    let lost: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    case.writer.hub.change(|fleet| {
        fleet.attach("a", 1, pb::Hello::default(), lost);
        let services = vec![pb::ObjectCalls { name: "pos/web".to_owned(), calls: 3 }];
        fleet.report("a", 1, pb::Report { services, ..pb::Report::default() });
        fleet.detach("a", 1, lost);
    });
    let mut counted = Vec::new();
    for seconds in [29, 30] {
        case.writer.look(&case.published, lost + jiff::SignedDuration::from_secs(seconds)).await;
        counted.push(case.writer.hub.with_fleet(|fleet| fleet.live_calls(&object)));
    }
    assert_eq!(counted, [3, 0]);
}

#[tokio::test]
async fn an_object_that_is_deleted_meanwhile_is_no_error() {
    let mut case = case(|asked| if asked.what == SERVICE { failure(404, "NotFound") } else { fine(asked) });
    assert_eq!(case.look().await.len(), 3);
}

#[tokio::test]
async fn an_object_made_anew_since_the_compile_gets_nothing_of_its_predecessor() {
    let mut case = case(fine);
    case.writer.watched.absorb(&watcher::Event::Apply(()), |facts, event| {
        match facts.told.get_mut(Kind::Service as usize) {
            Some(table) => table.absorb(event, |()| key(), |()| Told { uid: "next".to_owned(), ..Told::default() }),
            None => panic!("no table"),
        }
    });
    let asked = case.look().await;
    assert_eq!(asked.iter().map(|asked| asked.what.as_str()).collect::<Vec<_>>(), [NODE, HEAD]);
}
