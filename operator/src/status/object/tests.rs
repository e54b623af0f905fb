//! Programmed is what agents have answered; times move only with the status.

mod away;
mod kept;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use callgate_compile::Since;
use callgate_compile::compile;
use callgate_compile::world::{Labels, Meta, Object, Pod, World};
use callgate_crds::{IpRuleSpec, PptpAlgSpec, ServiceSpec};
use callgate_proto::model::ObjectKey;
use callgate_proto::pb;
use jiff::Timestamp;
use serde_json::json;

use super::*;
use crate::fleet::Fleet;
use crate::moment::Moment;
use crate::publish::Board;
use crate::snapshot::Snapshot;

/// A cluster of two nodes with a till each, the classic three objects, and agents that answer when told to.
struct Case {
    world: World,
    board: Board,
    fleet: Fleet,
    last_good: Option<callgate_compile::LastGood>,
    statuses: callgate_compile::status::Statuses,
    now: Moment,
    before: ObjectStatus,
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("pos", name)
}

fn pod(node: &str, address: &str) -> Pod {
    let labels: Labels = [("app".to_owned(), "till".to_owned())].into();
    Pod {
        uid: address.to_owned(),
        labels,
        addresses: vec![address.parse().unwrap()],
        node: Some(node.to_owned()),
        ..Pod::default()
    }
}

fn object<S: serde::de::DeserializeOwned>(generation: i64, spec: serde_json::Value) -> Object<S> {
    Object { meta: Meta { generation, ..Meta::default() }, spec: serde_json::from_value(spec).unwrap() }
}

/// 2026-01-01T00:00:00Z.
fn start() -> Moment {
    Moment::at(1_767_225_600)
}

fn told(status: &ObjectStatus) -> String {
    let programmed = status.conditions.iter().find(|condition| condition.type_ == "Programmed").unwrap();
    format!("{}({}) {}", programmed.status, programmed.reason, status.nodes.as_deref().unwrap())
}

impl Case {
    fn new() -> Self {
        let mut world = World::cluster();
        world.nodes = ["a".to_owned(), "b".to_owned()].into();
        world.pods = [(key("one"), pod("a", "10.0.0.1").into()), (key("two"), pod("b", "10.0.1.1").into())].into();
        world.algs.insert(key("pptp"), object::<PptpAlgSpec>(1, json!({})));
        let service =
            json!({"protocol": "TCP", "destinationPorts": "1723", "algRef": {"kind": "PptpAlg", "name": "pptp"}});
        world.services.insert(key("pptp"), object::<ServiceSpec>(1, service));
        let rule = json!({"order": 100, "action": "NAT", "services": [{"name": "pptp"}],
            "source": {"podSelector": {"matchLabels": {"app": "till"}}}});
        world.rules.insert(key("tills"), object::<IpRuleSpec>(1, rule));
        let mut case = Self {
            world,
            board: Board::default(),
            fleet: Fleet::default(),
            last_good: None,
            statuses: BTreeMap::new(),
            now: start(),
            before: ObjectStatus::default(),
        };
        case.compile();
        case
    }

    fn compile(&mut self) {
        let compiled = compile(&self.world, self.last_good.as_ref());
        self.board.publish(&self.world, &compiled.nodes, &Since::Everything);
        self.fleet.awaits(&self.board.latest(), self.now);
        (self.last_good, self.statuses) = (Some(compiled.last_good), compiled.statuses);
    }

    fn wanted(&self, node: &str) -> Arc<Snapshot> {
        Arc::clone(&self.board.latest()[node])
    }

    fn attach(&mut self, node: &str) {
        self.fleet.attach(node, 1, pb::Hello::default(), self.now);
    }

    fn applied(&mut self, node: &str) {
        let wanted = self.wanted(node);
        self.fleet.sent(node, 1, &wanted);
        assert!(self.fleet.outcome(node, 1, pb::Outcome { hash: wanted.hash.clone(), failure: None, sequence: 0 }));
    }

    fn refused(&mut self, node: &str) {
        let wanted = self.wanted(node);
        self.fleet.sent(node, 1, &wanted);
        let failure = pb::Failure {
            object: "IpRule pos/other".to_owned(),
            reason: "ApplyFailed".to_owned(),
            message: "the kernel says no.".to_owned(),
            broken: false,
        };
        assert!(self.fleet.outcome(
            node,
            1,
            pb::Outcome { hash: wanted.hash.clone(), failure: Some(failure), sequence: 0 }
        ));
    }

    /// The status of the rule now; it is then what stands in the API server.
    fn status(&mut self) -> ObjectStatus {
        self.status_of(ObjectRef { kind: Kind::IpRule, key: key("tills") })
    }

    /// The same of any object; of one only in a test.
    fn status_of(&mut self, object: ObjectRef) -> ObjectStatus {
        let wanted = self.board.latest();
        let view = View { wanted: &wanted, fleet: &self.fleet, serving_since: start(), now: self.now };
        self.before = status(&object, &self.statuses[&object], &self.before, view);
        self.before.clone()
    }

    /// `True(Programmed) 2/2`.
    fn told(&mut self) -> String {
        told(&self.status())
    }

    fn later(&mut self, seconds: u64) {
        self.now = self.now.after(Duration::from_secs(seconds));
    }
}

#[test]
fn it_is_programmed_when_every_node_has_answered_and_not_before() {
    let mut case = Case::new();
    assert_eq!(case.told(), "False(Pending) 0/2");
    case.attach("a");
    case.attach("b");
    assert_eq!(case.told(), "False(Pending) 0/2");
    case.applied("a");
    assert_eq!(case.told(), "False(Pending) 1/2");
    case.applied("b");
    assert_eq!(case.told(), "True(Programmed) 2/2");
}

#[test]
fn a_new_generation_waits_for_new_answers_and_observed_generation_follows() {
    let mut case = Case::new();
    for node in ["a", "b"] {
        case.attach(node);
        case.applied(node);
    }
    case.told();
    let rule = case.world.rules.get_mut(&key("tills")).unwrap();
    (rule.meta.generation, rule.spec.order) = (2, 200);
    rule.spec.log = true;
    case.compile();
    assert_eq!(case.told(), "False(Pending) 0/2");
    case.applied("a");
    case.applied("b");
    let status = case.status();
    assert_eq!(case.told(), "True(Programmed) 2/2");
    assert!(status.conditions.iter().all(|condition| condition.observed_generation == Some(2)));
}

#[test]
fn a_new_generation_that_changes_nothing_on_the_nodes_is_programmed_at_once() {
    let mut case = Case::new();
    for node in ["a", "b"] {
        case.attach(node);
        case.applied(node);
    }
    case.told();
    case.world.rules.get_mut(&key("tills")).unwrap().meta.generation = 2;
    case.compile();
    assert_eq!(case.told(), "True(Programmed) 2/2");
}

#[test]
fn a_pod_that_comes_makes_its_node_wait() {
    let mut case = Case::new();
    for node in ["a", "b"] {
        case.attach(node);
        case.applied(node);
    }
    case.world.pods.insert(key("three"), pod("b", "10.0.1.2").into());
    case.compile();
    assert_eq!(case.told(), "False(Pending) 1/2");
    case.applied("b");
    assert_eq!(case.told(), "True(Programmed) 2/2");
}

#[test]
fn transition_times_move_only_when_the_status_moves() {
    let mut case = Case::new();
    let time = |status: &ObjectStatus, type_: &str| {
        status.conditions.iter().find(|c| c.type_ == type_).unwrap().last_transition_time.0
    };
    let first = case.status();
    case.later(1);
    case.attach("a");
    case.attach("b");
    case.applied("a");
    let second = case.status();
    assert_eq!(time(&first, "Programmed"), time(&second, "Programmed"));
    case.later(1);
    case.applied("b");
    let third = case.status();
    assert_eq!(time(&third, "Programmed"), case.now.time);
    assert_eq!(time(&third, "Accepted"), time(&first, "Accepted"));
}

#[test]
fn a_refusal_names_node_object_and_reason() {
    let mut case = Case::new();
    case.attach("a");
    case.attach("b");
    case.applied("a");
    case.refused("b");
    assert_eq!(case.told(), "False(ApplyFailed) 1/2");
    let expected = "Node b: the kernel says no (because of IpRule pos/other); what ran before goes on.";
    assert_eq!(case.before.conditions[1].message, expected);
    assert_eq!(case.before.reason.as_deref(), Some("ApplyFailed"));
}

#[test]
fn what_runs_and_cannot_be_kept_whole_is_not_programmed_until_the_agent_says_that_it_is_again() {
    let mut case = Case::new();
    for node in ["a", "b"] {
        case.attach(node);
        case.applied(node);
    }
    assert_eq!((case.told().as_str(), case.before.clients), ("True(Programmed) 2/2", Some(2)));
    case.refused("b");
    assert_eq!((case.told().as_str(), case.before.clients), ("False(ApplyFailed) 1/2", Some(1)));
    let expected = "Node b: the kernel says no (because of IpRule pos/other); what runs is not whole.";
    assert_eq!(case.before.conditions[1].message, expected);
    case.applied("b");
    assert_eq!((case.told().as_str(), case.before.clients), ("True(Programmed) 2/2", Some(2)));
}

#[test]
fn a_rule_nobody_is_selected_by_has_nothing_to_program() {
    let mut case = Case::new();
    case.world.pods.clear();
    case.compile();
    assert_eq!(case.told(), "True(NothingToProgram) 0/0");
    assert_eq!(case.before.reason.as_deref(), Some("NoSources"));
}

#[test]
fn live_calls_are_counted_over_all_nodes_and_are_no_substance() {
    let mut case = Case::new();
    case.attach("a");
    case.attach("b");
    let before = case.status();
    for (node, calls) in [("a", 2), ("b", 3)] {
        let rules = vec![pb::RuleCalls { rule: "pos/tills".to_owned(), calls }];
        case.fleet.report(node, 1, pb::Report { rules, ..pb::Report::default() });
    }
    let after = case.status();
    assert_eq!((before.live_calls, after.live_calls), (Some(0), Some(5)));
    assert!(!differs_in_substance(&before, &after));
}

#[test]
fn what_auto_has_learned_on_nodes_is_in_the_status_of_its_alg_and_of_nothing_else() {
    let mut case = Case::new();
    case.attach("a");
    case.attach("b");
    let told = |alg: &str, server: &str, reason: &str, since_unix_s| pb::SharedServer {
        alg: alg.to_owned(),
        server: server.to_owned(),
        reason: reason.to_owned(),
        since_unix_s,
    };
    let (one, other) = ("203.0.113.7:1723", "203.0.113.8:1723");
    let a = vec![told("pos/pptp", one, "second-reset", 200), told("pos/else", other, "second-reset", 1)];
    let b = vec![told("pos/pptp", one, "second-refused", 100), told("pos/pptp", other, "second-reset", 300)];
    for (node, shared_servers) in [("a", a), ("b", b)] {
        case.fleet.report(node, 1, pb::Report { shared_servers, ..pb::Report::default() });
    }
    assert_eq!(case.status().shared_servers, [], "of the rule");
    let wanted = case.board.latest();
    let view = View { wanted: &wanted, fleet: &case.fleet, serving_since: case.now, now: case.now };
    let alg = ObjectRef { kind: Kind::PptpAlg, key: key("pptp") };
    let status = status(&alg, &case.statuses[&alg], &ObjectStatus::default(), view);
    let expected = |server: &str, reason: &str, since, nodes| SharedServer {
        server: server.to_owned(),
        reason: reason.to_owned(),
        since: Time(Timestamp::from_second(since).unwrap()),
        nodes,
    };
    assert_eq!(
        status.shared_servers,
        [expected(one, "second-refused", 100, 2), expected(other, "second-reset", 300, 1)]
    );
    assert!(differs_in_substance(&status, &ObjectStatus { shared_servers: Vec::new(), ..status.clone() }));
    // A node that is lost for long is none of those that know of it.
    case.fleet.detach("b", 1, case.now);
    case.fleet.lapse(case.now.instant, Duration::ZERO);
    let view = View { wanted: &wanted, fleet: &case.fleet, serving_since: case.now, now: case.now };
    let status = super::status(&alg, &case.statuses[&alg], &status, view);
    assert_eq!(status.shared_servers, [expected(one, "second-reset", 200, 1)]);
}

#[test]
fn clients_are_those_for_which_nodes_have_said_that_it_is_in_force() {
    let mut case = Case::new();
    case.attach("a");
    case.attach("b");
    assert_eq!(case.status().clients, Some(0));
    case.applied("a");
    assert_eq!(case.status().clients, Some(1));
    case.applied("b");
    assert_eq!(case.status().clients, Some(2));
    // Another label: the node still treats the pod as before.
    Arc::make_mut(case.world.pods.get_mut(&key("one")).unwrap()).labels.clear();
    case.compile();
    assert_eq!(case.status().clients, Some(2));
    case.applied("a");
    assert_eq!(case.status().clients, Some(1));
}

#[test]
fn networks_count_once_whatever_the_number_of_nodes_and_blocks() {
    let mut case = Case::new();
    let networks = json!(["10.0.0.0/8", "192.168.0.0/16", "198.51.100.7/32"]);
    let rule = json!({"order": 100, "action": "NAT", "services": [{"name": "pptp"}], "source": {"cidrs": networks}});
    case.world.operator_namespace = "pos".to_owned();
    case.world.rules.insert(key("tills"), object::<IpRuleSpec>(2, rule));
    case.compile();
    for node in ["a", "b"] {
        case.attach(node);
        case.applied(node);
    }
    assert_eq!(case.status().clients, Some(3));
}

#[test]
fn an_edit_of_another_rule_that_a_node_refuses_leaves_this_one_programmed_and_says_so_of_that_one() {
    let mut case = Case::new();
    case.world.services.insert(key("web"), object::<ServiceSpec>(1, json!({"protocol": "TCP"})));
    let rule = json!({"order": 200, "action": "Allow", "services": [{"name": "web"}],
        "source": {"podSelector": {"matchLabels": {"app": "till"}}}});
    case.world.rules.insert(key("rest"), object::<IpRuleSpec>(1, rule));
    case.compile();
    for node in ["a", "b"] {
        case.attach(node);
        case.applied(node);
    }
    case.world.rules.get_mut(&key("rest")).unwrap().spec.log = true;
    case.compile();
    assert_eq!(case.told(), "True(Programmed) 2/2", "that one waits");
    case.refused("b");
    assert_eq!(case.told(), "True(Programmed) 2/2");
    let wanted = case.board.latest();
    let view = View { wanted: &wanted, fleet: &case.fleet, serving_since: start(), now: case.now };
    let rest = ObjectRef { kind: Kind::IpRule, key: key("rest") };
    let status = status(&rest, &case.statuses[&rest], &ObjectStatus::default(), view);
    assert_eq!((status.reason.as_deref(), status.nodes.as_deref()), (Some("ApplyFailed"), Some("0/2")));
}

#[test]
fn an_object_that_needs_what_the_kernel_of_a_node_lacks_says_so_though_it_is_in_force_and_no_other_does() {
    let mut case = Case::new();
    case.world.rules.get_mut(&key("tills")).unwrap().spec.log = true;
    case.compile();
    let lacks = |name: &str| pb::Feature { name: name.to_owned(), available: false, detail: String::new() };
    let features = vec![lacks("nftables: conntrack time-outs"), lacks("nftables: logging")];
    case.fleet.attach("a", 1, pb::Hello { features, ..pb::Hello::default() }, case.now);
    case.attach("b");
    case.applied("a");
    case.applied("b");
    assert_eq!(case.told(), "False(ApplyFailed) 1/2");
    let told = case.before.conditions.iter().find(|condition| condition.type_ == "Programmed").unwrap();
    let message = "Node a: in force, but not all of it, as this kernel lacks something: log: true of rules has no effect (load module \
                   nft_log); the agent finds what was loaded when it starts anew.";
    assert_eq!(told.message, message);
    // The agent starts anew where the module was loaded.
    case.fleet.attach("a", 2, pb::Hello::default(), case.now);
    case.fleet.sent("a", 2, &case.wanted("a"));
    let hash = case.wanted("a").hash.clone();
    case.fleet.outcome("a", 2, pb::Outcome { hash, failure: None, sequence: 0 });
    assert_eq!(case.told(), "True(Programmed) 2/2");
}

#[test]
fn a_group_of_services_is_programmed_when_every_node_has_answered_and_not_before() {
    let mut case = Case::new();
    let group = |generation, members: &[&str]| {
        let members: Vec<_> = members.iter().map(|name| json!({"name": name})).collect();
        object::<ServiceSpec>(generation, json!({"members": members}))
    };
    case.world.services.insert(key("web"), object(1, json!({"protocol": "TCP", "destinationPorts": "80"})));
    case.world.services.insert(key("group"), group(1, &["pptp"]));
    let rule = json!({"order": 100, "action": "NAT", "services": [{"name": "group"}],
        "source": {"podSelector": {"matchLabels": {"app": "till"}}}});
    case.world.rules.insert(key("tills"), object::<IpRuleSpec>(1, rule));
    case.compile();
    let told = |case: &mut Case| told(&case.status_of(ObjectRef { kind: Kind::Service, key: key("group") }));
    for (node, expected) in [("a", "False(Pending) 1/2"), ("b", "True(Programmed) 2/2")] {
        case.attach(node);
        case.applied(node);
        assert_eq!(told(&mut case), expected);
    }
    for (generation, members) in [(2, ["pptp", "web"].as_slice()), (3, &["web"])] {
        case.world.services.insert(key("group"), group(generation, members));
        case.compile();
        assert_eq!(told(&mut case), "False(Pending) 0/2");
        case.refused("a");
        assert_eq!(told(&mut case), "False(ApplyFailed) 0/2");
        for node in ["a", "b"] {
            case.applied(node);
        }
        assert_eq!(told(&mut case), "True(Programmed) 2/2");
    }
}
