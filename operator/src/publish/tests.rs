//! Which nodes get something new, and when.

use callgate_compile::world::{Meta, Object, Pod};
use callgate_crds::{Action, Destination, IpRuleSpec, ServiceRef, ServiceSpec, Source};
use callgate_proto::model::ObjectKey;
use callgate_proto::pb;

use super::*;

fn pod(node: &str, address: &str, uid: &str) -> Pod {
    Pod {
        uid: uid.to_owned(),
        labels: [("app".to_owned(), "till".to_owned())].into(),
        addresses: vec![address.parse().unwrap()],
        node: Some(node.to_owned()),
        ..Pod::default()
    }
}

fn world() -> World {
    let mut world = World::cluster();
    world.nodes = ["a".to_owned(), "b".to_owned()].into();
    world.pods.insert(ObjectKey::new("pos", "till"), pod("a", "10.0.0.1", "1").into());
    let service: ServiceSpec = serde_json::from_value(serde_json::json!({"protocol": "TCP"})).unwrap();
    world.services.insert(ObjectKey::new("pos", "tcp"), Object { meta: Meta::default(), spec: service });
    let rule = IpRuleSpec {
        order: 1,
        action: Action::Allow,
        source: Source { pod_selector: Some(Default::default()), ..Source::default() },
        destination: Destination::default(),
        services: vec![ServiceRef { name: "tcp".to_owned(), namespace: None }],
        gateway_ref: None,
        log: false,
    };
    world.rules.insert(ObjectKey::new("pos", "rule"), Object { meta: Meta::default(), spec: rule });
    world
}

fn publish(board: &Board, world: &World) -> Vec<String> {
    board.publish(world, &callgate_compile::compile(world, None).nodes, &Since::Everything)
}

#[test]
fn one_pod_more_is_news_for_its_node_only() {
    let (board, mut world) = (Board::default(), world());
    assert_eq!(publish(&board, &world), ["a", "b"]);
    let mut other = board.subscribe("b");
    other.mark_unchanged();
    assert_eq!(publish(&board, &world), Vec::<String>::new());
    world.pods.insert(ObjectKey::new("pos", "second"), pod("a", "10.0.0.2", "2").into());
    assert_eq!(publish(&board, &world), ["a"]);
    assert!(!other.has_changed().unwrap());
}

#[test]
fn an_address_that_changes_hands_is_news_although_the_configuration_is_the_same() {
    let (board, mut world) = (Board::default(), world());
    publish(&board, &world);
    let before = board.latest()["a"].clone();
    world.pods.clear();
    world.pods.insert(ObjectKey::new("pos", "next"), pod("a", "10.0.0.1", "2").into());
    assert_eq!(publish(&board, &world), ["a"]);
    let after = board.latest()["a"].clone();
    assert_eq!(before.hash, after.hash);
    let holder = |pod: &str, uid: &str| pb::Holder {
        address: 0x0a00_0001,
        pod: pod.to_owned(),
        uid: uid.to_owned(),
        restarts: 0,
    };
    assert_eq!(
        (&before.holders[..], &after.holders[..]),
        (&[holder("pos/till", "1")][..], &[holder("pos/next", "2")][..])
    );
}

#[test]
fn who_subscribes_late_gets_the_latest_and_a_node_that_goes_has_none() {
    let (board, mut world) = (Board::default(), world());
    let early = board.subscribe("a");
    assert_eq!(*early.borrow(), None);
    publish(&board, &world);
    assert!(early.borrow().is_some());
    assert_eq!(board.subscribe("a").borrow().as_ref().unwrap().config.sources.len(), 1);
    world.nodes.remove("a");
    assert_eq!(board.nodes(), 2);
    assert_eq!(publish(&board, &world), ["a"]);
    assert_eq!((early.borrow().is_none(), board.nodes()), (true, 1), "its agent still listens");
}
