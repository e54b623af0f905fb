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
const NODE: &str = "PATCH /apis/callgate.io/v1alpha1/egressnodes/a/status?&force=true&fieldManager=callgate-operator";

#[tokio::test]
async fn a_difference_is_written_once_with_every_condition() {
    let mut case = case(fine);
    let asked = case.look().await;
    assert_eq!(asked.iter().map(|asked| asked.what.as_str()).collect::<Vec<_>>(), [NODE, SERVICE]);
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
    assert_eq!(asked[1].body, expected);
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
    assert_eq!(case.look().await.len(), 2);
    assert_eq!(case.look().await, []);
}

#[tokio::test]
async fn an_egress_node_that_is_not_there_is_made_and_belongs_to_its_node() {
    let mut missing = true;
    let mut case = case(move |asked| {
        if asked.what == NODE && missing {
            missing = false;
            return failure(404, "NotFound");
        }
        fine(asked)
    });
    let asked = case.look().await;
    let made = asked.iter().find(|asked| asked.what.contains("/egressnodes/a?")).unwrap();
    let owner = json!([{"apiVersion": "v1", "kind": "Node", "name": "a", "uid": "node-uid"}]);
    assert_eq!(made.body["metadata"]["ownerReferences"], owner);
    assert_eq!(asked.iter().filter(|asked| asked.what == NODE).count(), 2);
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
    assert_eq!(case.look().await.len(), 2);
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
    assert_eq!(asked.iter().map(|asked| asked.what.as_str()).collect::<Vec<_>>(), [NODE]);
}
