//! Many agents' answers as one, and questions that find their node.

use std::collections::BTreeMap;
use std::sync::Arc;

use callgate_compile::manifests::parse_of_cluster;
use callgate_compile::world::{Pod, World};
use callgate_compile::{Since, compile};
use callgate_proto::model::{NodeConfig, ObjectKey};
use callgate_proto::pb;
use callgate_proto::pb::local_server::Local as _;
use tokio::sync::watch;
use tonic::{Code, Request};

use super::explain::{Origin, from_wanted, origin};
use super::{Desk, merge};
use crate::control::Hub;
use crate::facts::{ClusterNet, Settings};
use crate::fleet::Fleet;
use crate::publish::{Published, SharedWorld};
use crate::snapshot::Snapshot;
use crate::watch::Watched;

fn pod(node: Option<&str>, address: &str, host_network: bool) -> Pod {
    Pod {
        uid: String::new(),
        labels: BTreeMap::new(),
        addresses: address.parse().into_iter().collect(),
        node: node.map(str::to_owned),
        host_network,
        ..Pod::default()
    }
}

fn world() -> World {
    let key = |name: &str| ObjectKey::new("pos", name);
    let mut world = World::cluster();
    world.pods = [
        (key("till"), pod(Some("a"), "10.0.0.2", false).into()),
        (key("host"), pod(Some("a"), "172.18.0.2", true).into()),
        (key("new"), pod(Some("a"), "", false).into()),
        (key("pending"), pod(None, "10.0.0.9", false).into()),
    ]
    .into();
    world
}

fn call(client: &str, outside: u32) -> pb::Call {
    let address = "203.0.113.9".to_owned();
    pb::Call {
        client_address: client.to_owned(),
        server_address: address,
        pns_call_id_outside: Some(outside),
        ..pb::Call::default()
    }
}

#[test]
fn calls_of_all_nodes_are_one_list_in_order_with_node_and_pod() {
    let list = |calls: &[pb::Call]| pb::CallList { calls: calls.to_vec(), ..pb::CallList::default() };
    let mut known = call("10.0.0.30", 1);
    known.pod = "pos/known".to_owned();
    let lists = BTreeMap::from([
        ("a".to_owned(), list(&[call("10.0.0.10", 5), call("10.0.0.2", 4)])),
        ("b".to_owned(), list(&[known, call("10.0.0.2", 3)])),
    ]);
    let missing = vec![pb::MissingNode { node: "c".to_owned(), ..pb::MissingNode::default() }];
    let merged = merge::calls(lists, missing.clone(), &world(), 7);
    let told: Vec<String> =
        merged.calls.iter().map(|call| format!("{} {} {}", call.client_address, call.node, call.pod)).collect();
    assert_eq!(told, ["10.0.0.2 b pos/till", "10.0.0.2 a pos/till", "10.0.0.10 a ", "10.0.0.30 b pos/known"]);
    assert_eq!((merged.missing, merged.taken_unix_ms), (missing, 7));
}

#[test]
fn a_watcher_hears_of_calls_and_not_of_their_counters() {
    let list = |packets| {
        let traffic = pb::Traffic { packets, ..pb::Traffic::default() };
        let call = pb::Call { tx: Some(traffic), age_ms: packets, ..call("10.0.0.2", 1) };
        pb::CallList { calls: vec![call], taken_unix_ms: packets as i64, ..pb::CallList::default() }
    };
    assert_eq!(merge::outline(&list(1)), merge::outline(&list(2)));
    assert_ne!(merge::outline(&list(1)), merge::outline(&pb::CallList::default()));
}

#[test]
fn a_pod_is_found_by_name_and_by_address_and_what_is_none_says_why() {
    let expected =
        Origin { address: "10.0.0.2".parse().unwrap(), pod: ObjectKey::new("pos", "till"), node: "a".to_owned() };
    assert_eq!(origin(&world(), "pos/till").unwrap(), expected);
    assert_eq!(origin(&world(), "10.0.0.2").unwrap(), expected);
    let codes = ["till", "pos/gone", "192.0.2.1", "pos/host", "pos/new", "pos/pending"]
        .map(|from| origin(&world(), from).unwrap_err().code());
    let no = Code::FailedPrecondition;
    assert_eq!(codes, [Code::InvalidArgument, Code::NotFound, Code::NotFound, no, no, no]);
}

#[test]
fn without_its_agent_a_node_is_explained_by_what_it_should_do_and_says_so() {
    let request = pb::ExplainRequest {
        from: "10.0.0.2".to_owned(),
        to: "203.0.113.9".to_owned(),
        protocol: 6,
        to_port: Some(1723),
        from_port: None,
    };
    let reply = from_wanted(&NodeConfig::default(), &request, "node a: gone").unwrap();
    assert_eq!(reply.verdict(), pb::Verdict::NotSelected);
    assert_eq!(reply.note, "node a: gone; this is what it should do, not what it says it does");
    let wrong = pb::ExplainRequest { protocol: 256, ..request };
    assert_eq!(from_wanted(&NodeConfig::default(), &wrong, "").unwrap_err().code(), Code::InvalidArgument);
}

#[test]
fn status_tells_nodes_sums_counters_and_names_the_clusters_networks() {
    let snapshot = std::sync::Arc::new(Snapshot::new(NodeConfig::default(), vec![]));
    let wanted = BTreeMap::from([("a".to_owned(), snapshot.clone()), ("idle".to_owned(), snapshot.clone())]);
    let mut fleet = Fleet::default();
    for (node, value) in [("a", 2), ("b", 3)] {
        fleet.attach(node, 1, pb::Hello::default(), crate::moment::Moment::at(0));
        let counters = vec![pb::Counter { name: "refused".to_owned(), value }];
        fleet.report(node, 1, pb::Report { counters, calls: value, ..pb::Report::default() });
    }
    let net = ClusterNet { net: "10.96.0.0/12".parse().unwrap(), found: "ServiceCIDR kubernetes".to_owned() };
    let reply = merge::status(&BTreeMap::new(), &wanted, &fleet, &[net]);
    let nodes: Vec<(&str, &str)> = reply
        .nodes
        .iter()
        .map(|node| (node.node.as_str(), node.programmed.as_ref().unwrap().reason.as_str()))
        .collect();
    // b is attached and nothing is wanted of it; a has not answered; nothing is to be done on idle.
    assert_eq!(nodes, [("a", "Pending"), ("b", "Programmed"), ("idle", "Programmed")]);
    assert_eq!((reply.calls, reply.counters[0].value), (5, 5));
    // It has it in force, and then cannot keep it so.
    fleet.sent("a", 1, &snapshot);
    let answer = |failure| pb::Outcome { hash: snapshot.hash.clone(), failure, sequence: 0 };
    let mut of_a = |failure| {
        fleet.outcome("a", 1, answer(failure));
        let reply = merge::status(&BTreeMap::new(), &wanted, &fleet, &[]);
        reply.nodes[0].programmed.clone().unwrap().reason
    };
    assert_eq!([None, Some(pb::Failure::default()), None].map(&mut of_a), ["Programmed", "ApplyFailed", "Programmed"]);
    assert_eq!(reply.programmed.unwrap().message, "not in force on a");
    assert_eq!(reply.cluster_nets[0].found, "ServiceCIDR kubernetes");
}

#[test]
fn a_node_without_an_answer_is_named_with_since_when_and_an_idle_one_is_not_missed() {
    let source = |net: &str| callgate_proto::model::Source { net: net.parse().unwrap(), chain: 0 };
    let busy = NodeConfig { sources: vec![source("10.0.0.2/32")], ..NodeConfig::default() };
    let busy = std::sync::Arc::new(Snapshot::new(busy, vec![]));
    let idle = std::sync::Arc::new(Snapshot::new(NodeConfig::default(), vec![]));
    let names = ["answers", "gone", "never"];
    let mut wanted: BTreeMap<_, _> = names.map(|node| (node.to_owned(), busy.clone())).into();
    wanted.insert("idle".to_owned(), idle);
    let mut fleet = Fleet::default();
    let second = crate::moment::Moment::at;
    for node in ["answers", "gone", "silent"] {
        fleet.attach(node, 1, pb::Hello::default(), second(1));
    }
    fleet.detach("gone", 1, second(5));
    let lists = BTreeMap::from([("answers".to_owned(), pb::CallList::default())]);
    let asked = BTreeMap::from([("silent".to_owned(), "did not answer in time".to_owned())]);
    let node = |node: &str, since_unix_ms, message: &str| {
        let message = message.to_owned();
        pb::MissingNode { node: node.to_owned(), since_unix_ms, message }
    };
    let pod = "see its pod of DaemonSet callgate-dataplane";
    let expected = [
        node("gone", 5000, &format!("its agent is not attached any more: {pod}")),
        node("never", 0, &format!("its agent has never been attached to this operator: {pod}")),
        node("silent", 0, "did not answer in time"),
    ];
    assert_eq!(merge::missing(asked, &lists, &wanted, &fleet), expected);
}

#[test]
fn an_operator_that_does_not_lead_names_the_one_that_does_for_people_and_for_programs() {
    let status = super::elsewhere("callgate-operator-b");
    assert_eq!(
        (status.code(), status.message()),
        (Code::FailedPrecondition, "another operator leads: ask pod callgate-operator-b")
    );
    assert_eq!(status.metadata().get(callgate_proto::LEADER_METADATA).unwrap(), "callgate-operator-b");
    assert_eq!(super::elsewhere("").code(), Code::Unavailable);
}

#[tokio::test]
async fn a_pod_hears_of_rules_that_are_not_on_its_node_and_of_no_other_namespaces() {
    let rule = |namespace: &str, name: &str, order: u32, source: &str, service: &str| {
        let spec = format!("{{order: {order}, action: NAT, source: {source}, services: [{{name: {service}}}]}}");
        let meta = format!("metadata: {{name: {name}, namespace: {namespace}}}");
        ("rule.yaml".to_owned(), format!("apiVersion: callgate.io/v1alpha1\nkind: IpRule\n{meta}\nspec: {spec}\n"))
    };
    let tills = "{podSelector: {matchLabels: {app: till}}}";
    let rules = [
        rule("pos", "tills", 1, tills, "pptp-ctl"),
        rule("pos", "wrong", 2, "{podSelector: {}}", "pptp-clt"),
        rule("callgate-system", "everybody", 3, "{cidrs: [192.0.2.0/24]}", "pptp-ctl"),
        rule("shop", "tills", 4, tills, "pptp-ctl"),
    ];
    let mut objects = parse_of_cluster(&rules, callgate_crds::predefined()).world;
    objects.pods = world().pods;
    objects.nodes = ["a".to_owned()].into();
    let compiled = Arc::new(compile(&objects, None));
    let hub = Arc::new(Hub::new(Arc::default()));
    hub.board.publish(&objects, &compiled.nodes, &Since::Everything);
    let published = Published { world: SharedWorld::new(objects), compiled, uids: Arc::default() };
    let desk = Desk {
        hub,
        published: watch::channel(Some(Arc::new(published))).1,
        settings: Settings { namespace: "callgate-system".to_owned(), cluster_cidrs: Vec::new() },
        watched: Watched::empty(),
        leader: watch::channel(String::new()).1,
    };
    let request = pb::ExplainRequest {
        from: "pos/till".to_owned(),
        to: "203.0.113.9".to_owned(),
        protocol: 6,
        to_port: Some(1723),
        from_port: None,
    };
    let reply = desk.explain(Request::new(request)).await.unwrap().into_inner();
    assert_eq!((reply.verdict(), reply.from_pod.as_str()), (pb::Verdict::NotSelected, "pos/till"));
    let told: Vec<(&str, &str)> =
        reply.considered.iter().map(|one| (one.rule.as_str(), one.reason.split(" (did").next().unwrap())).collect();
    let expected = [
        ("pos/tills", "none of the labels that {app: till} asks for is there"),
        (
            "pos/wrong",
            "not accepted: spec.services[0].name: there is no Service pptp-clt in namespace pos or callgate-system",
        ),
        ("callgate-system/everybody", "10.0.0.2 is not in 192.0.2.0/24"),
    ];
    assert_eq!(told, expected);
}
