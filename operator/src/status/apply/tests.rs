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
use crate::facts::{NodeFact, Settings, Told, world};
use crate::metrics::Metrics;
use crate::mock::{Asked, Log, NEVER, api_server, failure};
use crate::publish::SharedWorld;
use crate::status::START_HOLD;

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
    let writer = Writer::new(client, hub, watched, long_ago(), "pod");
    Case { writer, published, log }
}

/// Agents have had their time since.
fn long_ago() -> Moment {
    let now = now();
    Moment { instant: now.instant - Duration::from_secs(3_600), time: now.time - jiff::SignedDuration::from_hours(1) }
}

/// The instants of the test's clock; for people it is always the same second.
fn now() -> Moment {
    // Room for what was long ago, also just after this machine has come up.
    const LATER: Duration = Duration::from_secs(3_600);
    Moment { instant: Instant::now() + LATER, time: "2026-01-01T00:00:00Z".parse().unwrap() }
}

impl Case {
    /// Looks, and writes until there is nothing that may be written now.
    async fn look(&mut self) -> Vec<Asked> {
        self.writer.look(&self.published, now());
        self.writer.start(now());
        while let Some(outcome) = self.writer.under_way.next().await {
            self.writer.ended(outcome, now().instant);
            self.writer.start(now());
        }
        self.asked()
    }

    /// The agent of the node comes.
    fn attach(&self) {
        self.writer.hub.change(|fleet| fleet.attach("a", 1, pb::Hello::default(), now()));
    }

    /// It goes.
    fn detach(&self) {
        self.writer.hub.change(|fleet| fleet.detach("a", 1, now()));
    }

    /// Whether the log has a line about this; if not, nor will it have one for a while.
    fn told_of(&mut self, kind: &str) -> bool {
        self.writer.complaints.tell(kind, now().instant).is_none()
    }

    /// What was asked since the last time.
    fn asked(&self) -> Vec<Asked> {
        let mut asked = std::mem::take(&mut *self.log.lock().unwrap());
        asked.sort_by(|a, b| a.what.cmp(&b.what));
        asked
    }
}

fn names(asked: &[Asked]) -> Vec<&str> {
    asked.iter().map(|asked| asked.what.as_str()).collect()
}

fn of_nodes(asked: &[Asked]) -> Vec<&str> {
    names(asked).into_iter().filter(|what| what.contains("egressnodes")).collect()
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
const READ: &str = "PATCH /apis/callgate.io/v1alpha1/egressnodes/a/status?";
const NODE: &str = "PATCH /apis/callgate.io/v1alpha1/egressnodes/a/status?&force=true&fieldManager=callgate-operator";

#[tokio::test]
async fn a_difference_is_written_once_with_every_condition() {
    let mut case = case(fine);
    case.attach();
    let asked = case.look().await;
    assert_eq!(names(&asked), [NODE, HEAD, SERVICE]);
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

#[tokio::test(start_paused = true)]
async fn a_write_that_failed_is_tried_again_after_a_pause() {
    let mut failures = BTreeMap::from([(SERVICE, 2), (HEAD, 1)]);
    let mut case = case(move |asked| match failures.get_mut(asked.what.as_str()) {
        Some(left) if *left > 0 => {
            *left -= 1;
            failure(403, "Forbidden")
        }
        Some(_) | None => fine(asked),
    });
    case.attach();
    assert_eq!(case.look().await.len(), 2);
    assert_eq!(case.look().await, []);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(case.look().await.len(), 3);
    assert_eq!(case.look().await, []);
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!(case.look().await.len(), 1, "that one had failed twice");
    tokio::time::advance(Duration::from_secs(50)).await;
    assert_eq!(case.look().await, []);
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_has_too_much_to_do_is_not_asked_for_anything_meanwhile() {
    let mut failures = 2;
    let mut case = case(move |asked| {
        if failures > 0 {
            failures -= 1;
            return failure(429, "TooManyRequests");
        }
        fine(asked)
    });
    case.attach();
    assert_eq!(case.look().await.len(), 2);
    case.detach();
    assert_eq!(case.look().await, []);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(case.look().await.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_write_that_hangs_keeps_no_later_one_waiting_and_is_given_up() {
    let mut first = true;
    let case = case(move |asked| match asked.what == SERVICE && std::mem::take(&mut first) {
        true => (NEVER, Value::Null),
        false => fine(asked),
    });
    let (sender, latest) = watch::channel(None);
    let (log, mut writer) = (Arc::clone(&case.log), case.writer);
    let hub = Arc::clone(&writer.hub);
    writer.serving_since = Moment::now();
    tokio::time::advance(START_HOLD).await;
    hub.change(|fleet| fleet.attach("a", 1, pb::Hello::default(), Moment::now()));
    let writing = tokio::spawn(writer.run(latest));
    sender.send_replace(Some(Arc::new(case.published)));
    let asked = || {
        let mut asked: Vec<String> = log.lock().unwrap().drain(..).map(|asked| asked.what).collect();
        asked.sort();
        asked
    };
    tokio::time::sleep(CROWD * 2).await;
    assert_eq!(asked(), [NODE, HEAD, SERVICE]);
    hub.change(|fleet| fleet.detach("a", 1, Moment::now()));
    tokio::time::sleep(CROWD * 2).await;
    assert_eq!(asked(), [NODE]);
    // After the pause that follows a first failure.
    tokio::time::sleep(TIMEOUT + Duration::from_secs(1)).await;
    assert_eq!(asked(), [SERVICE]);
    writing.abort();
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
    case.attach();
    let asked = case.look().await;
    let head = asked.iter().find(|asked| asked.what == HEAD).unwrap();
    let owner = json!([{"apiVersion": "v1", "kind": "Node", "name": "a", "uid": "node-uid"}]);
    assert_eq!(head.body["metadata"]["ownerReferences"], owner);
    // Somebody deletes it, and something is to be written.
    missing.store(true, std::sync::atomic::Ordering::Relaxed);
    case.detach();
    assert_eq!(of_nodes(&case.look().await), [NODE, NODE, HEAD]);
    // And again, and nothing is to be written for long.
    tokio::time::advance(Duration::from_secs(599)).await;
    assert_eq!(of_nodes(&case.look().await), [""; 0]);
    tokio::time::advance(Duration::from_secs(60)).await;
    assert_eq!(of_nodes(&case.look().await), [NODE, HEAD]);
    // And once more, when nothing needs an agent there and none has been there for an hour.
    missing.store(true, std::sync::atomic::Ordering::Relaxed);
    tokio::time::advance(Duration::from_secs(3_600)).await;
    assert_eq!(of_nodes(&case.look().await), [READ]);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_needs_no_agent_and_has_none_gets_no_egress_node_until_it_does() {
    let mut case = case(|asked| if asked.what == READ { failure(404, "NotFound") } else { fine(asked) });
    assert_eq!(of_nodes(&case.look().await), [READ]);
    tokio::time::advance(Duration::from_secs(599)).await;
    assert_eq!(of_nodes(&case.look().await), [""; 0]);
    tokio::time::advance(Duration::from_secs(60)).await;
    assert_eq!(of_nodes(&case.look().await), [READ]);
    case.attach();
    assert_eq!(of_nodes(&case.look().await), [NODE]);
}

#[tokio::test]
async fn an_egress_node_that_another_leader_has_made_does_not_go_on_saying_that_its_agent_is_there() {
    let mut case = case(|asked| {
        let (code, mut body) = fine(asked);
        if asked.what == READ {
            body = json!({"apiVersion": "callgate.io/v1alpha1", "kind": "EgressNode", "metadata": {"name": "a"}, "spec": {}});
            body["status"] = json!({"conditions": [{"type": "Ready", "status": "True", "reason": "AgentReady",
                "message": "Runs what it should.", "lastTransitionTime": "2025-01-01T00:00:00Z"}]});
        }
        (code, body)
    });
    let asked = case.look().await;
    assert_eq!(names(&asked), [READ, NODE, SERVICE]);
    let message =
        "No agent is attached, and no rule has a client on node a: where none is meant to be, delete this object.";
    let ready = json!({"type": "Ready", "status": "False", "reason": "AgentMissing", "message": message,
        "lastTransitionTime": "2026-01-01T00:00:00Z"});
    assert_eq!(asked[1].body["status"]["conditions"], json!([ready]));
}

#[tokio::test]
async fn a_new_leader_goes_on_with_the_times_that_stand_there_and_writes_nothing_that_does() {
    let hash = case(fine).writer.hub.board.latest()["a"].hash.clone();
    let stored = |message: &str| {
        json!({"conditions": [{"type": "Ready", "status": "False", "reason": "Converging", "message": message,
                               "lastTransitionTime": "2025-01-01T00:00:00Z"}],
               "wantedHash": hash, "rules": 0, "clients": 0})
    };
    let message = "The last snapshot is not yet in effect.";
    for (message, written) in [(message, 0), ("Of another version.", 1)] {
        let status = stored(message);
        let mut case = case(move |asked| {
            let (code, mut body) = fine(asked);
            if asked.what == HEAD {
                body["status"] = status.clone();
            }
            (code, body)
        });
        case.attach();
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

#[tokio::test(start_paused = true)]
async fn a_node_that_has_just_come_to_have_something_to_do_is_not_said_to_have_no_agent() {
    let mut case = case(fine);
    let source = callgate_proto::model::Source { net: "10.0.0.1/32".parse().unwrap(), chain: 0 };
    let config = callgate_proto::model::NodeConfig { sources: vec![source], ..Default::default() };
    let wanted = BTreeMap::from([("a".to_owned(), Arc::new(Snapshot::new(config, vec![])))]);
    case.writer.hub.note(|fleet| fleet.awaits(&wanted, now()));
    assert_eq!(names(&case.look().await), [SERVICE]);
    tokio::time::advance(GRACE - LOOK).await;
    assert_eq!(case.look().await, []);
    tokio::time::advance(LOOK).await;
    assert_eq!(of_nodes(&case.look().await), [READ], "that is about to be written");
}

#[tokio::test]
async fn a_new_leader_does_not_say_of_agents_that_are_on_their_way_that_they_are_missing() {
    let mut case = case(fine);
    case.writer.serving_since = now();
    assert_eq!(names(&case.look().await), [SERVICE]);
    case.attach();
    let asked = case.look().await;
    assert_eq!(names(&asked), [NODE, HEAD]);
    assert_eq!(asked[0].body["status"]["conditions"][0]["reason"], "Converging");
}

#[tokio::test]
async fn calls_of_a_node_that_is_lost_for_long_are_counted_no_more() {
    let mut case = case(fine);
    let object = ObjectRef { kind: Kind::Service, key: key() };
    let lost = now();
    case.writer.hub.change(|fleet| {
        fleet.attach("a", 1, pb::Hello::default(), lost);
        let services = vec![pb::ObjectCalls { name: "pos/web".to_owned(), calls: 3 }];
        fleet.report("a", 1, pb::Report { services, ..pb::Report::default() });
        fleet.detach("a", 1, lost);
    });
    let mut counted = Vec::new();
    for seconds in [29, 30] {
        case.writer.look(&case.published, lost.after(Duration::from_secs(seconds)));
        counted.push(case.writer.hub.with_fleet(|fleet| fleet.live_calls(&object)));
    }
    assert_eq!(counted, [3, 0]);
}

#[tokio::test]
async fn an_object_that_is_deleted_meanwhile_is_no_error() {
    let mut case = case(|asked| if asked.what == SERVICE { failure(404, "NotFound") } else { fine(asked) });
    case.attach();
    assert_eq!(case.look().await.len(), 3);
    assert_eq!(case.look().await, []);
    assert!(!case.told_of("Service 404 NotFound"));
}

#[tokio::test]
async fn an_egress_node_that_cannot_be_made_because_its_kind_is_not_there_is_told_of() {
    let mut case = case(|asked| if asked.what == HEAD { failure(404, "NotFound") } else { fine(asked) });
    case.attach();
    assert_eq!(names(&case.look().await), [HEAD, SERVICE]);
    assert!(case.told_of("EgressNode 404 NotFound"));
}

#[tokio::test]
async fn a_node_that_is_gone_is_forgotten_when_its_agent_has_gone_too_without_a_compile() {
    let mut case = case(fine);
    case.attach();
    case.look().await;
    case.writer.watched.absorb(&watcher::Event::Delete(()), |facts, event| {
        facts.nodes.absorb(event, |()| cluster_key("a"), |()| NodeFact::default())
    });
    case.writer.look(&case.published, now().after(LOOK));
    assert!(case.writer.hub.with_fleet(|fleet| fleet.get("a").is_some()), "it is still attached");
    case.detach();
    case.writer.look(&case.published, now().after(LOOK * 2));
    assert!(case.writer.hub.with_fleet(|fleet| fleet.get("a").is_none()));
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
    case.attach();
    let asked = case.look().await;
    assert_eq!(names(&asked), [NODE, HEAD]);
}
