//! The local API over a real socket, with a scripted ALG behind it.

use std::os::unix::fs::FileTypeExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use callgate_proto::model::{NodeConfig, ObjectKey};
use callgate_proto::pb;
use callgate_proto::pb::local_client::LocalClient;
use tempfile::TempDir;
use tonic::Code;
use tonic::transport::Channel;

use super::*;
use crate::alg::scripted;
use crate::kernel::Options;
use crate::run::Report;

/// A served API: a temporary directory with its socket, and a client.
struct Served {
    dir: TempDir,
    client: LocalClient<Channel>,
}

async fn served(config: NodeConfig) -> Served {
    let dir = TempDir::new().unwrap();
    let socket = dir.path().join("not/yet/api.sock");
    let listener = bind(&socket).await.unwrap();
    let report = Arc::new(Report::new(Options::default(), None, Vec::new()));
    report.put(config, [(ObjectKey::new("pos", "till"), "10.0.0.2".parse().unwrap())]);
    drop(serve(listener, Answers::new(&report, scripted::handle(), &Arc::new(Mutex::new(None)))));
    let channel = tonic::transport::Endpoint::from_shared(format!("unix://{}", socket.display())).unwrap();
    Served { dir, client: LocalClient::new(channel.connect().await.unwrap()) }
}

fn socket(served: &Served) -> PathBuf {
    served.dir.path().join("not/yet/api.sock")
}

#[tokio::test]
async fn missing_directories_are_made_and_only_the_owner_may_talk() {
    let served = served(NodeConfig::default()).await;
    let metadata = std::fs::metadata(socket(&served)).unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("api.sock");
    drop(bind(&path).await.unwrap());
    let live = bind(&path).await.unwrap();
    let refused = bind(&path).await.unwrap_err().to_string();
    let expected =
        format!("--api {}: another agent serves there; stop that one, or name another socket", path.display());
    assert_eq!(refused, expected);
    drop(live);
}

#[tokio::test]
async fn status_has_the_counters_of_the_alg_sorted_among_the_others() {
    let mut served = served(NodeConfig { node: "standalone".into(), ..NodeConfig::default() }).await;
    let status = served.client.status(pb::StatusRequest {}).await.unwrap().into_inner();
    assert_eq!((status.node.as_str(), status.connections, status.calls), ("standalone", 1, 1));
    assert_eq!(status.version, env!("CARGO_PKG_VERSION"));
    let names: Vec<_> = status.counters.iter().map(|counter| counter.name.as_str()).collect();
    assert!(
        ["a_scripted_counter", "kernel_guarded", "kernel_steered_dropped"].iter().all(|name| names.contains(name))
            && names.is_sorted(),
        "{names:?}"
    );
    assert!(status.features.iter().any(|feature| feature.name == "external ports"));
}

#[tokio::test]
async fn a_call_is_told_with_its_pod_its_ids_and_its_age() {
    let mut served = served(NodeConfig::default()).await;
    let list = served.client.calls(pb::CallsRequest {}).await.unwrap().into_inner();
    let expected = pb::Call {
        tunnel: None,
        pac_call_id_outside: None,
        client_address: "10.0.0.2".into(),
        client_port: 40_000,
        pod: "pos/till".into(),
        server_address: "203.0.113.7".into(),
        server_port: 1723,
        external_address: "192.0.2.1".into(),
        external_port: 10_007,
        pns_call_id: Some(0),
        pns_call_id_outside: Some(4711),
        pac_call_id: Some(128),
        direction: pb::Direction::Outgoing.into(),
        state: pb::CallState::Up.into(),
        tx: Some(pb::Traffic { packets: 3, bytes: 300, lost: 1 }),
        rx: Some(pb::Traffic { packets: 4, bytes: 400, lost: 0 }),
        age_ms: 9_000,
        idle_ms: 1_000,
        rule: "pos/tills".into(),
        service: "pos/pptp".into(),
        alg: "pos/alg".into(),
        node: String::new(),
    };
    assert_eq!(list.calls, [expected]);
}

#[tokio::test]
async fn a_watch_on_change_is_silent_while_nothing_changes_and_tells_what_ends() {
    let mut served = served(NodeConfig::default()).await;
    let request = pb::WatchCallsRequest { interval_ms: 100, on_change: true };
    let mut lists = served.client.watch_calls(request).await.unwrap().into_inner();
    // The scripted call is there for three lists, and then is not.
    let lengths =
        [lists.message().await.unwrap().unwrap().calls.len(), lists.message().await.unwrap().unwrap().calls.len()];
    assert_eq!(lengths, [1, 0]);
}

#[tokio::test]
async fn explain_names_the_pod_and_the_rule_and_refuses_what_it_cannot_read() {
    let mut served = served(crate::alg::policy::tests::config()).await;
    let ask = |from: &str, to: &str, protocol| pb::ExplainRequest {
        from: from.into(),
        from_port: None,
        to: to.into(),
        to_port: Some(80),
        protocol,
    };
    let told = served.client.explain(ask("pos/till", "203.0.113.7", 6)).await.unwrap().into_inner();
    assert_eq!((told.verdict(), told.rule.as_str(), told.service.as_str()), (pb::Verdict::Nat, "pos/web", "pos/web"));
    assert_eq!((told.from_address.as_str(), told.from_pod.as_str()), ("10.0.0.2", "pos/till"));
    let mut refused = Vec::new();
    for (from, to, protocol) in [
        ("pos/other", "203.0.113.7", 6),
        ("till", "203.0.113.7", 6),
        ("10.0.0.2", "here", 6),
        ("10.0.0.2", "203.0.113.7", 256),
    ] {
        refused.push(served.client.explain(ask(from, to, protocol)).await.unwrap_err().code());
    }
    assert_eq!(refused, [Code::NotFound, Code::InvalidArgument, Code::InvalidArgument, Code::InvalidArgument]);
}
