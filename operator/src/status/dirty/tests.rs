//! A change is new for those whom it concerns, once.

use crate::moment::Moment;
use callgate_compile::Since;
use callgate_compile::world::{Meta, Object, Pod, World};
use callgate_compile::{LastGood, compile};
use callgate_crds::Kind;
use callgate_proto::model::ObjectKey;
use callgate_proto::pb;
use serde_json::json;

use super::*;
use crate::fleet::Fleet;
use crate::publish::{Board, SharedWorld};

/// Two nodes with a pod each, and a rule for each of the pods.
struct Case {
    world: World,
    board: Board,
    fleet: Fleet,
    seen: Seen,
    published: Option<Published>,
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("pos", name)
}

fn pod(node: &str, address: &str, app: &str) -> Pod {
    Pod {
        uid: address.to_owned(),
        labels: [("app".to_owned(), app.to_owned())].into(),
        addresses: vec![address.parse().unwrap()],
        node: Some(node.to_owned()),
        ..Pod::default()
    }
}

impl Case {
    fn new() -> Self {
        let mut world = World::cluster();
        world.nodes = ["a".to_owned(), "b".to_owned()].into();
        world.pods =
            [(key("one"), pod("a", "10.0.0.1", "one").into()), (key("two"), pod("b", "10.0.1.1", "two").into())].into();
        let object = |spec| Object { meta: Meta::default(), spec };
        world.services.insert(key("web"), object(serde_json::from_value(json!({"protocol": "TCP"})).unwrap()));
        for (order, app) in ["one", "two"].into_iter().enumerate() {
            let spec = json!({"order": order, "action": "NAT", "services": [{"name": "web"}],
                "source": {"podSelector": {"matchLabels": {"app": app}}}});
            let spec = serde_json::from_value(spec).unwrap();
            world.rules.insert(key(app), Object { meta: Meta::default(), spec });
        }
        Self { world, board: Board::default(), fleet: Fleet::default(), seen: Seen::default(), published: None }
    }

    fn compile(&mut self) {
        let compiled = compile(&self.world, None::<&LastGood>);
        self.board.publish(&self.world, &compiled.nodes, &Since::Everything);
        let uids = compiled.statuses.keys().map(|object| (object.clone(), "1".to_owned()));
        let uids = Arc::new(uids.collect());
        let (world, compiled) = (SharedWorld::new(self.world.clone()), Arc::new(compiled));
        self.published = Some(Published { world, compiled, uids });
    }

    /// Objects and nodes that have something new.
    fn dirty(&mut self) -> (Vec<String>, Vec<String>) {
        let wanted = self.board.latest();
        let (serving_since, now) = (Moment::at(0), Moment::at(0));
        let view = View { wanted: &wanted, fleet: &self.fleet, serving_since, now };
        let dirty = self.seen.take(self.published.as_ref().unwrap(), view);
        (dirty.objects.iter().map(ToString::to_string).collect(), dirty.nodes.into_iter().collect())
    }
}

fn names(objects: &[&str], nodes: &[&str]) -> (Vec<String>, Vec<String>) {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    (owned(objects), owned(nodes))
}

const ALL: [&str; 3] = ["Service pos/web", "IpRule pos/one", "IpRule pos/two"];

#[test]
fn at_first_everything_is_new_and_then_nothing() {
    let mut case = Case::new();
    case.compile();
    assert_eq!(case.dirty(), names(&ALL, &["a", "b"]));
    assert_eq!(case.dirty(), names(&[], &[]));
    case.compile();
    assert_eq!(case.dirty(), names(&[], &[]), "the same again is not new");
}

#[test]
fn a_pod_that_comes_concerns_its_node_and_what_that_carries() {
    let mut case = Case::new();
    case.compile();
    case.dirty();
    case.world.pods.insert(key("three"), pod("a", "10.0.0.2", "one").into());
    case.compile();
    assert_eq!(case.dirty(), names(&["Service pos/web", "IpRule pos/one"], &["a"]));
}

#[test]
fn a_rule_that_leaves_a_node_is_told_of_when_the_node_lets_go_of_it() {
    let mut case = Case::new();
    case.compile();
    case.fleet.attach("a", 1, pb::Hello::default(), Moment::at(0));
    case.dirty();
    let answer = |case: &mut Case| {
        let wanted = Arc::clone(&case.board.latest()["a"]);
        case.fleet.sent("a", 1, &wanted);
        assert!(case.fleet.outcome("a", 1, pb::Outcome { hash: wanted.hash.clone(), failure: None, sequence: 0 }));
    };
    answer(&mut case);
    assert_eq!(case.dirty(), names(&["Service pos/web", "IpRule pos/one"], &["a"]));
    case.world.pods.remove(&key("one"));
    case.compile();
    assert_eq!(case.dirty(), names(&["Service pos/web", "IpRule pos/one"], &["a"]));
    answer(&mut case);
    assert_eq!(case.dirty(), names(&["Service pos/web", "IpRule pos/one"], &["a"]));
    assert_eq!(case.fleet.carriers(&ObjectRef { kind: Kind::IpRule, key: key("one") }).count(), 0);
}

#[test]
fn a_refusal_an_end_of_a_stream_and_an_object_made_anew_are_new() {
    let mut case = Case::new();
    case.compile();
    case.fleet.attach("b", 1, pb::Hello::default(), Moment::at(0));
    let wanted = Arc::clone(&case.board.latest()["b"]);
    case.fleet.sent("b", 1, &wanted);
    case.dirty();
    let of_b = names(&["Service pos/web", "IpRule pos/two"], &["b"]);
    case.fleet.outcome(
        "b",
        1,
        pb::Outcome { hash: wanted.hash.clone(), failure: Some(pb::Failure::default()), sequence: 0 },
    );
    assert_eq!(case.dirty(), of_b);
    let broken = Some(pb::Failure { broken: true, ..pb::Failure::default() });
    case.fleet.outcome("b", 1, pb::Outcome { hash: wanted.hash.clone(), failure: broken, sequence: 0 });
    assert_eq!(case.dirty(), of_b, "what ran does not go on either");
    case.fleet.detach("b", 1, Moment::at(0));
    assert_eq!(case.dirty(), of_b);
    let object = ObjectRef { kind: Kind::IpRule, key: key("two") };
    Arc::make_mut(&mut case.published.as_mut().unwrap().uids).insert(object, "2".to_owned());
    assert_eq!(case.dirty(), names(&["IpRule pos/two"], &[]));
}
