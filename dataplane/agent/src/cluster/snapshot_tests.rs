//! What is refused of a snapshot, and what a reboot leaves of it.

use callgate_proto::model::Source;

use super::*;

/// A small configuration for `node`, with one pod and one network as sources.
pub(in crate::cluster) fn snapshot(node: &str, uid: &str) -> Snapshot {
    let mut config = crate::alg::policy::tests::config();
    node.clone_into(&mut config.node);
    let address = Ipv4Addr::new(10, 1, 0, 2);
    config.sources.push(Source { net: address.into(), chain: 0 });
    let hash = config.content_hash();
    let pod = Holder { pod: ObjectKey::new("pos", "till-1"), uid: uid.to_owned(), restarts: 0 };
    Snapshot { config: Arc::new(config), hash, holders: [(address, pod)].into(), sequence: 0 }
}

#[test]
fn what_was_made_a_message_comes_back_the_same() {
    let snapshot = snapshot("node-a", "u1");
    assert_eq!(Snapshot::checked(snapshot.message(), "node-a"), Ok(snapshot));
}

#[test]
fn what_does_not_agree_with_itself_or_is_for_others_is_refused_with_the_reason() {
    let good = snapshot("node-a", "u1").message();
    let other = pb::Snapshot { hash: "0".repeat(64), ..good.clone() };
    let empty = pb::Snapshot { config: None, ..good.clone() };
    let mut broken = good.clone();
    broken.config.as_mut().unwrap().sources[0].chain = 77;
    let mut nameless = good.clone();
    nameless.holders[0].pod = "till".into();
    let refused = |message, node| Snapshot::checked(message, node).unwrap_err();
    assert!(refused(other, "node-a").starts_with("the snapshot says that its hash is 000000000000, its content has "));
    assert_eq!(refused(empty, "node-a"), "the snapshot has no configuration");
    assert!(refused(broken, "node-a").starts_with("the snapshot does not decode: NodeConfig.sources[0].chain: "));
    assert!(refused(nameless, "node-a").ends_with("is \"till\", not namespace/name"));
    assert_eq!(
        refused(good, "node-b"),
        "the snapshot is for node \"node-a\", this is node \"node-b\": look at NODE_NAME of this pod and at its token"
    );
}

#[test]
fn after_a_reboot_only_what_belongs_to_no_pod_is_left() {
    let before = snapshot("n", "u1");
    let after = before.clone().without_pods();
    let pods: Vec<_> = before.config.sources.iter().filter(|s| before.holders.contains_key(&s.net.addr())).collect();
    assert_eq!((pods.len(), after.config.sources.len()), (1, before.config.sources.len() - 1));
    assert_eq!((after.hash == after.config.content_hash(), after.holders), (true, BTreeMap::new()));
}
