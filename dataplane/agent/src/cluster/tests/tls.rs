//! Who is believed, and what happens when that changes while the agent runs.

use super::*;
use crate::cluster::snapshot::tests::snapshot;

#[tokio::test]
async fn a_stream_that_ends_is_followed_by_another_with_the_token_of_then() {
    let mut lab = Lab::new().await;
    let (first, _) = lab.attached().await;
    std::fs::write(lab.dir.path().join("token"), "second-token\n").unwrap();
    drop(first);
    let (second, _) = lab.attached().await;
    assert_eq!(second.authorization, "Bearer second-token");
}

#[tokio::test]
async fn a_refused_token_is_counted_and_tried_again_as_the_file_is_then() {
    let mut lab = Lab::new().await;
    let (first, _) = lab.attached().await;
    std::fs::write(lab.dir.path().join("token"), fake::EXPIRED).unwrap();
    drop(first);
    lab.counted("operator_failures", 1).await;
    std::fs::write(lab.dir.path().join("token"), "good-again").unwrap();
    let (again, _) = lab.attached().await;
    assert_eq!(again.authorization, "Bearer good-again");
}

#[tokio::test]
async fn a_new_ca_in_the_file_is_taken_up_at_once_and_the_operator_may_then_change_to_it() {
    let mut lab = Lab::new().await;
    let (_first, _) = lab.attached().await;
    let second = Authority::new("second");
    let both = format!("{}{}", lab.authority.pem(), second.pem());
    std::fs::write(lab.dir.path().join("ca.pem"), both).unwrap();
    // The agent comes anew by itself, and trusts both.
    let (stream, _) = lab.attached().await;
    lab.replace(second).await;
    drop(stream);
    let (_stream, hello) = lab.attached().await;
    assert_eq!(hello.node, NODE);
    assert_eq!(lab.count("operator_connects"), 3);
}

#[tokio::test]
async fn an_operator_of_another_ca_is_told_nothing() {
    let mut lab = Lab::new().await;
    let (stream, _) = lab.attached().await;
    lab.replace(Authority::new("somebody else")).await;
    drop(stream);
    lab.counted("operator_failures", 2).await;
    assert!(lab.streams.try_recv().is_err());
    assert_eq!(lab.count("operator_connects"), 1);
}

#[tokio::test]
async fn without_an_operator_the_snapshot_on_disk_is_what_is_wanted() {
    let dir = TempDir::new().unwrap();
    let stored = snapshot(NODE, "u1");
    Store::new(dir.path(), NODE).put(&stored).unwrap();
    let link = || Link {
        address: Address {
            operator: "127.0.0.1:1".into(),
            server_name: None,
            ca_file: dir.path().join("none"),
            token_file: dir.path().join("none"),
        },
        node: NODE.to_owned(),
        interval: Duration::from_millis(5),
    };
    let mut source = Operator::new(Store::new(dir.path(), NODE), link(), false);
    let wanted = source.wanted().await.unwrap();
    assert_eq!((wanted.tenants, wanted.config), (stored.tenants(), Arc::clone(&stored.config)));
    // Of another boot, pods have other addresses.
    let mut source = Operator::new(Store::new(dir.path(), NODE), link(), true);
    let wanted = source.wanted().await.unwrap();
    assert_eq!((wanted.config.sources.len(), wanted.holders.len()), (stored.config.sources.len() - 1, 0));
}

#[tokio::test]
async fn a_ca_that_comes_after_the_start_is_waited_for_without_counting_a_failure() {
    let mut lab = Lab::new().await;
    let (first, _) = lab.attached().await;
    let (ca, aside) = (lab.dir.path().join("ca.pem"), lab.dir.path().join("aside.pem"));
    std::fs::rename(&ca, &aside).unwrap();
    drop(first);
    lab.counted("operator_mounts_awaited", 1).await;
    std::fs::rename(&aside, &ca).unwrap();
    let (_second, hello) = lab.attached().await;
    assert_eq!((hello.node.as_str(), lab.count("operator_failures")), (NODE, 0));
}
